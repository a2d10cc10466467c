// Owns the mark that a running worker leaves in its home folder, so that `worker stop` finds it and its container.
import { readFileSync, rmSync } from "node:fs";
import { z } from "zod";
import { homePaths } from "../runtime/home.ts";
import { replacePrivateFile } from "../runtime/private-file.ts";
import { isStoreLocked } from "../runtime/store-lock.ts";

const mark = z.object({
  pid: z.int().positive(),
  /** The container that it runs Ollama in; null without --docker. */
  container: z.string().nullable(),
  /** Set by `worker stop --leave-container`: at its end the worker leaves the container running. */
  keepContainer: z.boolean(),
});

export type WorkerMark = z.infer<typeof mark>;

/** Marks this process, which holds the provider's ledger, as the home's worker. */
export function announceWorker(home: string, { container }: Pick<WorkerMark, "container">) {
  const path = homePaths(home).workerProcess;
  write(path, { pid: process.pid, container, keepContainer: false });
  return {
    isContainerKept: () => read(path)?.keepContainer === true,
    end: () => rmSync(path, { force: true }),
  };
}

/** The worker that runs from this home. The ledger's lock tells it from one that died without taking its mark away. */
export function findWorker(home: string): WorkerMark | undefined {
  const { workerProcess, providerStore } = homePaths(home);
  return isStoreLocked(providerStore) ? read(workerProcess) : undefined;
}

/** The container of the worker that ran last from this home and was cut off; undefined where all is in order. */
export function findLeftContainer(home: string): string | undefined {
  return read(homePaths(home).workerProcess)?.container ?? undefined;
}

/** Has the running worker leave its container as it is. */
export function askToKeepContainer(home: string, worker: WorkerMark): void {
  write(homePaths(home).workerProcess, { ...worker, keepContainer: true });
}

function write(path: string, worker: WorkerMark): void {
  replacePrivateFile(path, `${JSON.stringify(worker)}\n`);
}

function read(path: string): WorkerMark | undefined {
  try {
    return mark.parse(JSON.parse(readFileSync(path, "utf8")));
  } catch {
    // None, or none of ours: then there is nobody to be stopped.
    return undefined;
  }
}
