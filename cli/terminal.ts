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
  };
}

/** Why a command is to end before its work is done. `quiet` ends say nothing and count as success. */
export type Ending = { signal: AbortSignal; isQuiet(): boolean; stop(): void };

/**
 * Watches for Ctrl-C, SIGTERM, a closed terminal and a reader that closes our output. The first aborts the signal with `interrupted`,
 * the second ends the process at once, for a person who does not want to wait for the cleaning up.
 */
export function watchForEnding(terminal: Terminal): Ending {
  const controller = new AbortController();
  let quiet = false;
  const onSignal = () => {
    if (controller.signal.aborted) process.exit(130);
    controller.abort(new InfernetError("interrupted", "interrupted"));
  };
  const onStreamError = (error: NodeJS.ErrnoException) => {
    if (error.code !== "EPIPE") throw error;
    quiet = true;
    controller.abort(new InfernetError("interrupted", "nobody reads the output any more"));
  };
  const signals = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
  const streams = [terminal.stdout, terminal.stderr];
  for (const name of signals) process.on(name, onSignal);
  for (const stream of streams) stream.on("error", onStreamError);
  return {
    signal: controller.signal,
    isQuiet: () => quiet,
    stop() {
      for (const name of signals) process.off(name, onSignal);
    },
  };
}
