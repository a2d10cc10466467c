// Owns what tests need of the machine: folders that vanish, processes to kill, and the errors that were thrown.
import { type ChildProcess, type ChildProcessByStdio, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import type { Readable } from "node:stream";
import { InfernetError } from "../../protocol/errors.ts";

const ROOT = resolve(import.meta.dirname, "../..");

/** A new empty folder, removed when the test process ends. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "infernet-test-"));
  folders.push(folder);
  return folder;
}

const folders: string[] = [];
process.once("exit", () => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});

/** The InfernetError that this throws or rejects with; fails on anything else. */
export async function failureOf(act: () => unknown): Promise<InfernetError> {
  try {
    await act();
  } catch (error) {
    if (error instanceof InfernetError) return error;
    throw error;
  }
  throw new Error("expected an InfernetError, and nothing was thrown");
}

type StartedProcess = ChildProcessByStdio<null, Readable, Readable> & {
  saidLine(line: string): Promise<void>;
};

/** Runs a TypeScript module text in a Node process of its own; it imports from the repository's root as "./". */
export function startProcess(source: string): StartedProcess {
  const code = source.replaceAll('from "./', `from "${ROOT}/`);
  const child = spawn(process.execPath, ["--input-type=module-typescript", "--eval", code], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  let heard = "";
  let complaint = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    complaint += text;
  });
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    heard += text;
  });
  const saidLine = (line: string) =>
    new Promise<void>((done, reject) => {
      const look = () => heard.split("\n").includes(line) && done();
      child.stdout.on("data", look);
      child.once("exit", () => reject(new Error(`the process ended without saying ${line}: ${complaint}`)));
      look();
    });
  return Object.assign(child, { saidLine });
}

/** Ends a process at once, as a crash does, and waits until the system has cleaned up after it. */
export function killProcess(child: ChildProcess): Promise<void> {
  return new Promise((done) => {
    child.once("exit", () => done());
    child.kill("SIGKILL");
  });
}
