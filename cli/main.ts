// Owns the process of one command line: from its arguments to its exit code.
import { runProgram } from "./program.ts";
import { processTerminal } from "./terminal.ts";

// Ends even when something still listens: by now the command has cleaned up, and all output has left.
process.exit(await runProgram(process.argv.slice(2), processTerminal()));
