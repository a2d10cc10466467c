// Owns the process around a command: its streams, its environment, and how a person or a closed pipe ends it.
import type { Writable } from "node:stream";
import { InfernetError } from "../protocol/errors.ts";

export type Terminal = {
  stdin: NodeJS.ReadStream;
  stdout: Writable;
  stderr: Writable;
  env: NodeJS.ProcessEnv;
  /** True when a person can be asked: standard input and standard error are both a terminal. */
  canAsk: boolean;
  /** True when a person reads standard output. */
  isRead: boolean;
  /** True when a person reads standard error. */
  isWatched: boolean;
};

export function processTerminal(): Terminal {
  const { stdin, stdout, stderr, env } = process;
  return {
    stdin,
    stdout,
    stderr,
    env,
    canAsk: stdin.isTTY === true && stderr.isTTY === true,
    isRead: stdout.isTTY === true,
    isWatched: stderr.isTTY === true,
  };
}

/** Why a command is to end before its work is done. A quiet end says nothing and counts as success. */
export type Ending = { signal: AbortSignal; isQuiet(): boolean };

/**
 * Watches, for the rest of the process, for Ctrl-C, SIGTERM, a closed terminal, and a reader that closes our output. The
 * first aborts the signal with `interrupted`; a second signal ends the process at once, for who does not want to wait.
 */
export function watchForEnding(terminal: Terminal): Ending {
  const controller = new AbortController();
  let quiet = false;
  for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.on(name, () => {
      if (controller.signal.aborted) process.exit(130);
      controller.abort(new InfernetError("interrupted", "interrupted"));
    });
  }
  for (const stream of [terminal.stdout, terminal.stderr]) {
    stream.on("error", (error: NodeJS.ErrnoException) => {
      // A closed pipe, or a terminal whose window was closed.
      if (error.code !== "EPIPE" && error.code !== "EIO") throw error;
      quiet = true;
      controller.abort(new InfernetError("interrupted", "nobody reads the output any more"));
    });
  }
  return { signal: controller.signal, isQuiet: () => quiet };
}
