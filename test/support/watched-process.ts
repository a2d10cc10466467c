// Owns watching a child process: what it has said so far, waiting for what it says next, and its end.
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import type { Ended } from "./command-line.ts";

export type Said = { stdout: string; stderr: string };

export type WatchedProcess = {
  child: ChildProcess;
  said: Said;
  ended: Promise<Ended>;
  /** Resolves with the first answer of `look`, which is asked again at all that is said; rejects when the process ends. */
  until<Found>(look: (said: Said) => Found | undefined | false): Promise<Found>;
  /** Ends it at once if it still runs, and waits until the system has cleaned up after it. */
  kill(): Promise<void>;
};

/** Watches a process from its start on. */
export function watchProcess(child: ChildProcess): WatchedProcess {
  const said: Said = { stdout: "", stderr: "" };
  const lookers = new Set<() => void>();
  const lookAgain = () => {
    for (const look of lookers) look();
  };
  for (const name of ["stdout", "stderr"] as const) {
    child[name]!.setEncoding("utf8").on("data", (text: string) => {
      said[name] += text;
      lookAgain();
    });
  }
  const ended = once(child, "close").then(([exitCode]) => ({ exitCode: exitCode as number | null, ...said }));
  return {
    child,
    said,
    ended,
    until: (look) =>
      new Promise((resolve, reject) => {
        const lookOnce = () => {
          const found = look(said);
          if (found === undefined || found === false) return;
          lookers.delete(lookOnce);
          resolve(found);
        };
        lookers.add(lookOnce);
        lookOnce();
        void ended.then(({ exitCode, stderr }) =>
          reject(new Error(`the process ended with ${exitCode} before it said what was awaited: ${stderr}`)),
        );
      }),
    async kill() {
      child.kill("SIGKILL");
      await ended;
    },
  };
}

/** The whole lines of a text that are JSON objects, read. */
export function jsonLines(text: string): Record<string, unknown>[] {
  const lines = text.split("\n").slice(0, -1);
  return lines.filter((line) => line.startsWith("{")).map((line) => JSON.parse(line));
}
