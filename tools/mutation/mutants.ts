// Owns the mutants: what universalmutator makes of the contracts, in an order drawn with a fixed seed.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { basename, resolve } from "node:path";
import { installPythonTool } from "../python.ts";

/** The source files that are mutated. */
export const MUTATED = [
  "contracts/Escrow.sol",
  "contracts/Registry.sol",
  "contracts/libraries/EscrowTypes.sol",
];

/** One change of one line. */
export interface Mutant {
  /** First 12 hex digits of the hash of the seed, the file and the mutated text: also its place in the order. */
  id: string;
  file: string;
  line: number;
  before: string;
  after: string;
  source: string;
}

/** All distinct mutants of all operators, in the order that `seed` draws. */
export function drawMutants(seed: string): Mutant[] {
  const mutants = new Map<string, Mutant>();
  for (const file of MUTATED) {
    const original = readFileSync(file, "utf8");
    const folder = makeMutants(file, original);
    for (const name of readdirSync(folder)) {
      const source = readFileSync(resolve(folder, name), "utf8");
      const change = findChange(original, source);
      const id = hash(`${seed}\n${file}\n${source}`).slice(0, 12);
      if (change) mutants.set(id, { id, file, source, ...change });
    }
  }
  return [...mutants.values()].sort((one, other) => (one.id < other.id ? -1 : 1));
}

/** The folder with the mutants of `original`; made once for every text of the file. */
function makeMutants(file: string, original: string): string {
  const folder = resolve("cache", "mutation", `${basename(file, ".sol")}-${hash(original).slice(0, 12)}`);
  if (existsSync(folder)) return folder;
  const unfinished = `${folder}.unfinished`;
  rmSync(unfinished, { recursive: true, force: true });
  mkdirSync(unfinished, { recursive: true });
  const mutate = resolve(installPythonTool("universalmutator", "1.14.1"), "mutate");
  const args = [resolve(file), "--noCheck", "--mutantDir", unfinished];
  const { status } = spawnSync(mutate, args, { cwd: resolve("cache", "mutation"), stdio: "ignore" });
  if (status !== 0) throw new Error(`${mutate} ${args.join(" ")} ended with ${status}`);
  renameSync(unfinished, folder);
  return folder;
}

function findChange(original: string, source: string): Pick<Mutant, "line" | "before" | "after"> | undefined {
  const before = original.split("\n");
  const after = source.split("\n");
  const index = before.findIndex((text, line) => text !== after[line]);
  if (index < 0) return undefined;
  return { line: index + 1, before: before[index]!.trim(), after: (after[index] ?? "").trim() };
}

function hash(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}
