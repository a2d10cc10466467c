// Owns the compilation of mutants in this process: without viaIR, which takes a second instead of twenty.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

/** Creation code in hex by contract. */
export type Bytecode = { Escrow: string; Registry: string };
type Solc = { compile(input: string, callbacks: { import(path: string): object }): string };

const solc = createRequire(import.meta.url)("solc") as Solc;
const sources = new Map<string, string>();

/** Compiles the contracts with `replaced` in the place of `file`; nothing if the compiler refuses. */
export function compileContracts(
  file?: string,
  replaced?: string,
  { optimized = false } = {},
): Bytecode | undefined {
  const read = (path: string) => (path === file ? replaced! : readSource(path));
  const roots = ["contracts/Escrow.sol", "contracts/Registry.sol"].filter(
    (root) =>
      file === undefined || (file === "contracts/Registry.sol") === (root === "contracts/Registry.sol"),
  );
  const input = {
    language: "Solidity",
    sources: Object.fromEntries(roots.map((root) => [root, { content: read(root) }])),
    settings: {
      optimizer: { enabled: optimized, runs: 200 },
      evmVersion: "prague",
      metadata: { appendCBOR: false, bytecodeHash: "none" },
      outputSelection: Object.fromEntries(roots.map((root) => [root, { "*": ["evm.bytecode.object"] }])),
    },
  };
  const output = JSON.parse(
    solc.compile(JSON.stringify(input), { import: (path) => ({ contents: read(path) }) }),
  );
  const codeOf = (name: string) => output.contracts?.[`contracts/${name}.sol`]?.[name]?.evm.bytecode.object;
  const bytecode = { Escrow: codeOf("Escrow"), Registry: codeOf("Registry") };
  return roots.every((root) => (root.includes("Registry") ? bytecode.Registry : bytecode.Escrow))
    ? bytecode
    : undefined;
}

function readSource(path: string): string {
  let text = sources.get(path);
  if (text === undefined) {
    text = readFileSync(path.startsWith("@") ? `node_modules/${path}` : path, "utf8");
    sources.set(path, text);
  }
  return text;
}
