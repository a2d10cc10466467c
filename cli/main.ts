#!/usr/bin/env node
// Owns the process of one command line: from its arguments to its exit code.
import { runProgram } from "./program.ts";
import { processTerminal } from "./terminal.ts";

const OLDEST_NODE = [22, 13] as const;
const TOO_OLD_EXIT_CODE = 8;

const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
if (major < OLDEST_NODE[0] || (major === OLDEST_NODE[0] && minor < OLDEST_NODE[1])) {
  console.error(
    `error: infernet needs Node ${OLDEST_NODE.join(".")} or newer, this is ${process.versions.node}`,
  );
  console.error("hint: Install a newer one from https://nodejs.org.");
  process.exit(TOO_OLD_EXIT_CODE);
}
// Ends even when something still listens: by now the command has cleaned up, and all output has left.
process.exit(await runProgram(process.argv.slice(2), processTerminal()));
