// Owns the second hunt: the Solidity fuzz and invariant tests on a copy of the project that holds the mutant.
import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { resolve } from "node:path";
import type { Mutant } from "./mutants.ts";

const COPY = resolve("cache", "mutation", "project");
const CONFIG = `import { createRequire } from "node:module";
import { defineConfig } from "hardhat/config";
const path = createRequire(import.meta.url).resolve("solc/soljson.js");
export default defineConfig({
  solidity: { version: "0.8.33", path, settings: { evmVersion: "prague" } },
  paths: { tests: { solidity: "test/contracts" } },
  test: {
    solidity: { fuzz: { runs: 256, seed: "0x1234" }, invariant: { runs: 64, depth: 50, failOnRevert: true } },
  },
});
`;

/** Runs the Solidity tests against the mutant, or the original if there is none; the first test to fail. */
export function huntByInvariants(mutant?: Mutant): string | undefined {
  rmSync(COPY, { recursive: true, force: true });
  mkdirSync(COPY, { recursive: true });
  for (const folder of ["contracts", "test/contracts/invariants"]) {
    cpSync(folder, resolve(COPY, folder), { recursive: true });
  }
  // The campaign asserts what the others assert, on more calls.
  rmSync(resolve(COPY, "test/contracts/invariants/Campaign.t.sol"));
  symlinkSync(resolve("node_modules"), resolve(COPY, "node_modules"));
  writeFileSync(resolve(COPY, "package.json"), '{ "type": "module" }');
  writeFileSync(resolve(COPY, "hardhat.config.ts"), CONFIG);
  if (mutant) writeFileSync(resolve(COPY, mutant.file), mutant.source);
  const { status, stdout, stderr } = spawnSync(resolve("node_modules/.bin/hardhat"), ["test", "solidity"], {
    cwd: COPY,
    encoding: "utf8",
  });
  if (status === 0) return undefined;
  const failure = /Failure \(1\): (.+)/.exec(stdout) ?? /^\s+\d+\) (.+)/m.exec(stdout);
  if (!failure) throw new Error(`the Solidity tests did not run: ${stdout}${stderr}`);
  return failure[1]!.trim();
}
