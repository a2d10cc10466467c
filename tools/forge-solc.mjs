#!/usr/bin/env node
// Owns what Forge takes for a native solc: the WASM compiler of the npm package, by the two flags that Forge uses.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const solc = createRequire(import.meta.url)("solc");
if (process.argv.includes("--version")) {
  const version = solc.version().replace(".Emscripten.clang", ".Linux.g++");
  console.log(`solc, the solidity compiler commandline interface\nVersion: ${version}`);
} else if (process.argv.includes("--standard-json")) {
  process.stdout.write(solc.compile(readFileSync(0, "utf8")));
} else {
  console.error(`only --version and --standard-json are known: ${process.argv.slice(2).join(" ")}`);
  process.exitCode = 1;
}
