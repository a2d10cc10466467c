// Owns how files that nobody else may read come into being: mode 0600, in one step, and over an older file only where that is asked for.
import {
  closeSync,
  existsSync,
  fsyncSync,
  linkSync,
  mkdirSync,
  openSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { dirname } from "node:path";
import { InfernetError } from "../protocol/errors.ts";

/** The code of a failed system call, such as "ENOENT". */
export function systemCode(error: unknown): string | undefined {
  const code = (error as NodeJS.ErrnoException | null)?.code;
  return typeof code === "string" ? code : undefined;
}

/** Makes a folder, and those above it, that only their owner can enter. A folder that exists keeps its mode. */
function createPrivateFolder(folder: string): void {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
}

/** Makes sure that a private file is there, empty if it was not, for a library that would create it readable to all. */
export function touchPrivateFile(path: string): void {
  createPrivateFolder(dirname(path));
  // An existing file is not opened: closing it would drop the locks that SQLite holds on it in this process.
  if (!existsSync(path)) closeSync(openSync(path, "a", 0o600));
}

/**
 * Makes a new private file that is whole or absent, whatever happens meanwhile: from a text, or from what `fill` writes
 * into the empty draft at the path it is given. `bad-config` when the name is taken or cannot be written.
 */
export async function createPrivateFile(
  path: string,
  contents: string | ((draft: string) => Promise<unknown>),
): Promise<void> {
  const draft = `${path}.${process.pid}-${Date.now().toString(36)}.draft`;
  try {
    createPrivateFolder(dirname(path));
    writeFileSync(draft, typeof contents === "string" ? contents : "", { mode: 0o600, flag: "wx" });
    try {
      if (typeof contents !== "string") await contents(draft);
      syncToDisk(draft);
      // A link, unlike a rename, fails when the name is taken: two writers cannot overwrite each other.
      linkSync(draft, path);
    } finally {
      rmSync(draft, { force: true });
    }
    if (process.platform !== "win32") syncToDisk(dirname(path));
  } catch (cause) {
    throw explainWriteError(cause, path);
  }
}

/**
 * Puts a text into a private file that may be there already: whoever reads it finds the old text or the new one, whole.
 * A link is followed. `bad-config` when it cannot be written.
 */
export function replacePrivateFile(path: string, text: string): void {
  try {
    createPrivateFolder(dirname(path));
    const target = existsSync(path) ? realpathSync(path) : path;
    const draft = `${target}.${process.pid}-${Date.now().toString(36)}.draft`;
    try {
      writeFileSync(draft, text, { mode: 0o600, flag: "wx" });
      syncToDisk(draft);
      renameSync(draft, target);
    } finally {
      rmSync(draft, { force: true });
    }
    if (process.platform !== "win32") syncToDisk(dirname(target));
  } catch (cause) {
    throw explainWriteError(cause, path);
  }
}

/** What the system says about a file that cannot be written becomes `bad-config`; anything else stays as it is. */
export function explainWriteError(cause: unknown, path: string): unknown {
  const { code, syscall } = cause as NodeJS.ErrnoException;
  if (code === "EEXIST" && syscall === "link") {
    return new InfernetError("bad-config", `${path} exists and is not overwritten`, {
      hint: "Choose another path, or move that file away first.",
      cause,
    });
  }
  if (syscall === undefined) return cause;
  return new InfernetError("bad-config", `cannot write ${path}: ${code}`, {
    hint: "Choose a folder that you can write to, on a disk with free space.",
    cause,
  });
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
