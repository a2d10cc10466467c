// Owns how files that nobody else may read come into being: mode 0600, in one step, never over an older file.
import {
  chmodSync,
  closeSync,
  fsyncSync,
  linkSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { dirname } from "node:path";
import { InfernetError } from "../protocol/errors.ts";

/** The system's code of a failed call, such as "ENOENT". */
export function systemCode(error: unknown): string | undefined {
  const code = (error as NodeJS.ErrnoException | null)?.code;
  return typeof code === "string" ? code : undefined;
}

/** Makes a folder, and those above it, that only their owner can enter. A folder that exists keeps its mode. */
export function createPrivateFolder(folder: string): void {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
}

/** Writes a new private file that is whole or absent, whatever happens meanwhile. `bad-config` when it exists. */
export function createPrivateFile(path: string, contents: string): void {
  createPrivateFolder(dirname(path));
  const draft = draftOf(path);
  const descriptor = openSync(draft, "wx", 0o600);
  try {
    writeFileSync(descriptor, contents);
  } finally {
    closeSync(descriptor);
  }
  publishDraft(draft, path);
}

/** A name beside `path` that nobody else uses. */
export function draftOf(path: string): string {
  return `${path}.${process.pid}-${Date.now().toString(36)}.draft`;
}

/** Gives a finished draft its name, durably; the draft is gone afterwards. `bad-config` when the name is taken. */
export function publishDraft(draft: string, path: string): void {
  try {
    chmodSync(draft, 0o600);
    syncToDisk(draft);
    // A link, unlike a rename, fails when the name is taken: two writers cannot overwrite each other.
    linkSync(draft, path);
  } catch (cause) {
    if (systemCode(cause) !== "EEXIST") throw cause;
    throw new InfernetError("bad-config", `${path} exists and is not overwritten`, {
      hint: "Choose another path, or move that file away first.",
      cause,
    });
  } finally {
    rmSync(draft, { force: true });
  }
  if (process.platform !== "win32") syncToDisk(dirname(path));
}

/** The text of a private file, undefined when there is none. `bad-config` when others on this machine can read it. */
export function readPrivateFile(path: string): string | undefined {
  let text: string;
  let mode: number;
  try {
    mode = statSync(path).mode;
    text = readFileSync(path, "utf8");
  } catch (cause) {
    if (systemCode(cause) === "ENOENT") return undefined;
    throw new InfernetError("bad-config", `cannot read ${path}: ${systemCode(cause)}`, { cause });
  }
  if (process.platform !== "win32" && (mode & 0o077) !== 0) {
    throw new InfernetError("bad-config", `others on this machine can read ${path}`, {
      hint: `Run: chmod 600 ${path}`,
    });
  }
  return text;
}

function syncToDisk(path: string): void {
  const descriptor = openSync(path, "r");
  try {
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}
