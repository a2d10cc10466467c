// Owns listening to a worker that a test has started with --json: its events, in order.
import type { ChildProcess } from "node:child_process";
import { createInterface } from "node:readline";

export type WorkerLine = { event: string } & Record<string, unknown>;

export function workerEvents(worker: ChildProcess) {
  const lines = createInterface({ input: worker.stdout! })[Symbol.asyncIterator]();
  return {
    /** The next event of this name; those before it are passed over. */
    async until(name: string): Promise<WorkerLine> {
      for (;;) {
        const { done, value } = await lines.next();
        if (done) throw new Error(`the worker ended before "${name}"`);
        const line = JSON.parse(value) as WorkerLine;
        if (line.event === name) return line;
      }
    },
  };
}
