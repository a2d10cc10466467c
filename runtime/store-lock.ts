// Owns the lock that keeps a second process out of a store, and that the system lets go when its holder dies.
import { existsSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";
import { InfernetError } from "../protocol/errors.ts";
import { touchPrivateFile } from "./private-file.ts";

/**
 * Takes the lock or throws `store-locked`; returns what lets it go. It is an empty SQLite file of its own, so that
 * `infernet backup` can still read the store beside the process that holds it.
 */
export function lockFile(storePath: string): () => void {
  const lockPath = lockPathOf(storePath);
  touchPrivateFile(lockPath);
  const lock = new DatabaseSync(lockPath, { timeout: 0 });
  try {
    lock.exec("PRAGMA journal_mode = MEMORY; PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE;");
  } catch (cause) {
    lock.close();
    throw new InfernetError("store-locked", `another process is using ${storePath}`, {
      hint: "Stop the other Infernet that runs from this home folder, or choose another with INFERNET_HOME.",
      cause,
    });
  }
  return () => {
    if (lock.isOpen) lock.close();
  };
}

/** Whether a process holds a store's lock now. */
export function isStoreLocked(storePath: string): boolean {
  const lockPath = lockPathOf(storePath);
  if (!existsSync(lockPath)) return false;
  const lock = new DatabaseSync(lockPath, { timeout: 0, readOnly: true });
  try {
    lock.prepare("SELECT count(*) FROM sqlite_master").get();
    return false;
  } catch {
    return true;
  } finally {
    lock.close();
  }
}

function lockPathOf(storePath: string): string {
  return `${storePath}.lock`;
}
