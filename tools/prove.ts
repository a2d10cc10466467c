// Owns `npm run prove`: Halmos on the properties in test/proofs/, in a Forge project made for it under cache/.
import { spawnSync } from "node:child_process";
import { chmodSync, cpSync, existsSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { resolve } from "node:path";
import { installPythonTool } from "./python.ts";

const FORGE = "@foundry-rs/forge-linux-amd64@1.7.1";
const FOLDER = resolve("cache", "prove");
const PROJECT = resolve(FOLDER, "project");
const CONFIG = `[profile.default]
src = "contracts"
test = "test/proofs"
libs = ["node_modules"]
solc = "${resolve("tools", "forge-solc.mjs")}"
evm_version = "prague"
optimizer = true
optimizer_runs = 200
ast = true
remappings = ["@openzeppelin/=node_modules/@openzeppelin/"]

[lint]
lint_on_build = false
`;

const forge = installForge();
const halmos = installPythonTool("halmos", "0.3.3");
rmSync(PROJECT, { recursive: true, force: true });
mkdirSync(PROJECT, { recursive: true });
for (const folder of ["contracts", "test/proofs"]) {
  cpSync(folder, resolve(PROJECT, folder), { recursive: true, filter: (path) => !path.includes("mocks") });
}
symlinkSync(resolve("node_modules"), resolve(PROJECT, "node_modules"));
writeFileSync(resolve(PROJECT, "foundry.toml"), CONFIG);
const chosen = process.argv[2] ? ["--function", process.argv[2]] : [];
const { status } = spawnSync(
  resolve(halmos, "halmos"),
  ["--storage-layout", "solidity", "--solver-timeout-assertion", "120s", "--statistics", ...chosen],
  { cwd: PROJECT, stdio: "inherit", env: { ...process.env, PATH: `${forge}:${process.env.PATH}` } },
);
process.exitCode = status ?? 1;

/** The folder with Forge's binary, from npm: it compiles for Halmos and proves nothing itself. */
function installForge(): string {
  const folder = resolve(FOLDER, "node_modules", "@foundry-rs", "forge-linux-amd64", "bin");
  if (!existsSync(folder)) {
    mkdirSync(FOLDER, { recursive: true });
    writeFileSync(resolve(FOLDER, "package.json"), "{}");
    spawnSync("npm", ["install", "--prefix", FOLDER, "--no-save", "--ignore-scripts", FORGE], {
      stdio: "inherit",
    });
  }
  chmodSync(resolve(folder, "forge"), 0o755);
  return folder;
}
