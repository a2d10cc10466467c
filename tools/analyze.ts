// Owns `npm run analyze`: Slither and solhint on the contracts; fails on any finding that docs/security.md leaves out.
import { spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { resolve } from "node:path";
import { installPythonTool } from "./python.ts";

const SOLHINT = "solhint@6.2.4";
const EXPLANATIONS = "docs/security.md";
const PROJECT = resolve("cache", "analyze", "project");
const REPORT = resolve("cache", "analyze", "slither.json");
const CONFIG = `import { createRequire } from "node:module";
import { defineConfig } from "hardhat/config";
const path = createRequire(import.meta.url).resolve("solc/soljson.js");
export default defineConfig({
  solidity: { version: "0.8.33", path, settings: { evmVersion: "prague" } },
});
`;

type Finding = { check: string; impact: string; confidence: string; description: string };

const findings = runSlither();
for (const { impact, check, description } of findings) {
  console.log(`${impact.padEnd(7)} ${check}: ${description.split("\n")[0]}`);
}
const explained = readFileSync(EXPLANATIONS, "utf8");
const serious = findings.filter(({ impact }) => impact === "High" || impact === "Medium");
const unexplained = serious.filter((finding) => !explained.includes(nameOf(finding)));
for (const finding of unexplained) console.error(`not explained in ${EXPLANATIONS}: ${nameOf(finding)}`);
console.log(
  `slither: ${findings.length} findings, ${serious.length} of medium or higher, ${unexplained.length} unexplained`,
);
const isClean = runSolhint();
process.exitCode = unexplained.length === 0 && isClean ? 0 : 1;

/** The check and the functions or variables that it is about: how the explanations name it. */
function nameOf({ check, description }: Finding): string {
  const subject = /\b(Escrow|Registry|EscrowTypes)\.(\w+)/.exec(description);
  return subject ? `${check} in ${subject[0]}` : check;
}

/** Slither on a Hardhat build of the contracts alone, without viaIR: it reads the syntax tree, not the code. */
function runSlither(): Finding[] {
  rmSync(PROJECT, { recursive: true, force: true });
  mkdirSync(PROJECT, { recursive: true });
  cpSync("contracts", resolve(PROJECT, "contracts"), {
    recursive: true,
    filter: (path) => !path.includes("mocks"),
  });
  symlinkSync(resolve("node_modules"), resolve(PROJECT, "node_modules"));
  writeFileSync(resolve(PROJECT, "package.json"), '{ "type": "module" }');
  writeFileSync(resolve(PROJECT, "hardhat.config.ts"), CONFIG);
  run(resolve("node_modules/.bin/hardhat"), ["build", "--quiet"]);
  rmSync(REPORT, { force: true });
  const programs = installPythonTool("slither-analyzer", "0.11.6");
  const args = [".", "--hardhat-ignore-compile", "--filter-paths", "node_modules", "--json", REPORT];
  // Slither ends with the count of its findings: the report says whether it ran.
  const { stderr } = spawnSync(resolve(programs, "slither"), args, { cwd: PROJECT, encoding: "utf8" });
  if (!existsSync(REPORT)) throw new Error(`slither did not run: ${stderr}`);
  const report = JSON.parse(readFileSync(REPORT, "utf8"));
  if (!report.success) throw new Error(`slither failed: ${report.error}`);
  return report.results.detectors ?? [];
}

function runSolhint(): boolean {
  const folder = resolve("cache", "solhint");
  const program = resolve(folder, "node_modules", ".bin", "solhint");
  if (!existsSync(program)) {
    mkdirSync(folder, { recursive: true });
    writeFileSync(resolve(folder, "package.json"), "{}");
    spawnSync("npm", ["install", "--prefix", folder, "--no-save", "--ignore-scripts", SOLHINT], {
      stdio: "inherit",
    });
  }
  const { status } = spawnSync(program, ["--disc", "--max-warnings", "0", "contracts/**/*.sol"], {
    stdio: "inherit",
  });
  console.log(status === 0 ? "solhint: nothing" : "solhint: findings");
  return status === 0;
}

function run(program: string, args: string[]): void {
  const { status } = spawnSync(program, args, { cwd: PROJECT, stdio: "inherit" });
  if (status !== 0) throw new Error(`${program} ${args.join(" ")} ended with ${status}`);
}
