// Owns the tests that hunt a mutant: the contracts' mocha tests in this process, on replaced bytecode.
import { readdirSync } from "node:fs";
import { resolve } from "node:path";
import { artifacts } from "hardhat";
import Mocha from "mocha";
import { networkHelpers } from "../../test/contracts/world.ts";
import type { Bytecode } from "./compiler.ts";

const FOLDER = "test/contracts";
class Silent extends Mocha.reporters.Base {
  override epilogue(): void {}
}
const replaced: Partial<Bytecode> = {};
const clean = await networkHelpers.takeSnapshot();
const readArtifact = artifacts.readArtifact.bind(artifacts);

// The tests deploy by name: what they get under the name is the mutant.
Object.assign(artifacts, {
  readArtifact: async (name: string) => {
    const artifact = await readArtifact(name);
    const code = replaced[name as keyof Bytecode];
    return code === undefined ? artifact : { ...artifact, bytecode: `0x${code}` };
  },
});

/** Loads the tests of one contract; the function runs them on other bytecode and gives the first test to fail. */
export async function loadSuite(
  contract: keyof Bytecode,
): Promise<(bytecode: string) => Promise<string | undefined>> {
  const prefix = contract.toLowerCase();
  const files = readdirSync(FOLDER).filter((file) => file.startsWith(prefix) && file.endsWith(".test.ts"));
  const mocha = new Mocha({ bail: true, timeout: 60_000, reporter: Silent });
  mocha.cleanReferencesAfterRun(false);
  for (const file of files) mocha.addFile(resolve(FOLDER, file));
  await mocha.loadFilesAsync();

  return async (bytecode) => {
    replaced[contract] = bytecode;
    networkHelpers.clearSnapshots();
    await clean.restore();
    let failed: string | undefined;
    await new Promise<void>((done) => {
      const runner = mocha.run(() => done());
      runner.on("fail", (test) => {
        failed ??= test.fullTitle();
      });
    });
    return failed;
  };
}
