// Owns the SQLite file that one actor keeps its truth in: durable, versioned, one writer, many works a commit.
import { resolve } from "node:path";
import { backup, DatabaseSync } from "node:sqlite";
import { InfernetError } from "../protocol/errors.ts";
import { createPrivateFile, systemCode, touchPrivateFile } from "./private-file.ts";
import { lockFile } from "./store-lock.ts";

export type Store = {
  /** Read with it freely; write inside `transact` or `commitSoon`. */
  db: DatabaseSync;
  /** Runs `work` in one durable transaction (a savepoint when nested); what it throws undoes it. */
  transact<T>(work: () => T): T;
  /**
   * Queues `work` for the next commit and resolves when that is durable: at the end of this turn of the event loop or,
   * when the disk has just been waited for, a moment later. Works run in the order of their calls, in one commit with a
   * later `transact` and before it; one that throws is undone and rejected alone.
   */
  commitSoon(work: () => void): Promise<void>;
  /** Writes a consistent copy while the store is in use; `bad-config` when the path is taken. */
  backupTo(path: string): Promise<void>;
  /** Commits what is queued and closes. Idempotent. */
  close(): void;
};

type QueuedWork = { work: () => unknown; resolve: () => void; reject: (error: unknown) => void };

/** Under load, works are gathered between commits for three times as long as these take: the disk holds up little of all time. */
const TIME_PER_COMMIT = 4;
/** What a quiet store has saved of such rests: so that a few commits in a row are made at once. */
const SAVED_REST_MS = 25;
const LONGEST_REST_MS = 20;
const BUSY_TIMEOUT_MS = 5_000;
/** A copy in one step is of one moment; in several it would begin anew whenever another process commits. */
const ALL_PAGES = 2 ** 31 - 1;
const NEWEST_BROKEN_SQLITE = [3, 51, 2];

/** SQLite up to 3.51.2 can lose commits when a WAL is reset while another connection reads. */
export function hasWalResetBug(version: string): boolean {
  const parts = version.split(".").map(Number);
  for (const [index, broken] of NEWEST_BROKEN_SQLITE.entries()) {
    const part = parts[index] ?? 0;
    if (part !== broken) return part < broken;
  }
  return true;
}

/**
 * Opens or creates the store at `path` and runs the migrations it has not seen. `exclusive` keeps other processes that
 * ask for the same out (`store-locked`) until this one closes or dies. `store-unusable` tells why it cannot be used.
 */
export function openStore(
  path: string,
  migrations: readonly string[],
  options: { exclusive?: boolean } = {},
): Store {
  refuseBrokenSqlite(process.versions.sqlite ?? "0");
  const file = resolve(path);
  createStoreFile(file);
  const release = options.exclusive ? lockFile(file) : () => {};
  try {
    const db = openDatabase(file);
    try {
      migrate(db, file, migrations);
    } catch (error) {
      db.close();
      throw error;
    }
    return createStore(db, file, release);
  } catch (error) {
    release();
    throw explainSqliteError(error, file);
  }
}

/**
 * Opens an existing store to read it beside the process that writes it: nothing is created, locked or migrated, and a
 * write throws. With `migrations` only a store of exactly that schema. `store-unusable`.
 */
export function openStoreToRead(path: string, migrations?: readonly string[]): Store {
  refuseBrokenSqlite(process.versions.sqlite ?? "0");
  const file = resolve(path);
  try {
    const db = new DatabaseSync(file, { timeout: BUSY_TIMEOUT_MS, readOnly: true });
    try {
      const version = schemaVersion(db);
      if (migrations && version > migrations.length) throw tooNew(file, version, migrations.length);
      if (migrations && version < migrations.length) {
        throw new InfernetError("store-unusable", `${file} was last used by an older version of Infernet`, {
          hint: "Start its worker once with this version, which brings the file up to date.",
        });
      }
      return createStore(db, file, () => {});
    } catch (error) {
      db.close();
      throw error;
    }
  } catch (error) {
    throw explainSqliteError(error, file);
  }
}

/** What SQLite finds wrong with a store's file; empty when it is sound. */
export function findStoreDamage({ db }: Pick<Store, "db">): string[] {
  const rows = db.prepare("PRAGMA quick_check(5)").all() as { quick_check: string }[];
  return rows.map(({ quick_check }) => quick_check).filter((finding) => finding !== "ok");
}

function createStore(db: DatabaseSync, file: string, release: () => void): Store {
  let queue: QueuedWork[] = [];
  let restsUntil = 0;

  function inTransaction<T>(work: () => T): T {
    const nested = db.isTransaction;
    try {
      db.exec(nested ? "SAVEPOINT work" : "BEGIN IMMEDIATE");
      const result = work();
      if (result instanceof Promise) throw new TypeError("a transaction's work cannot wait");
      if (nested) db.exec("RELEASE work");
      else commit();
      return result;
    } catch (error) {
      // SQLite itself may have ended the transaction, as it does when the disk is full.
      if (db.isTransaction) db.exec(nested ? "ROLLBACK TO work; RELEASE work" : "ROLLBACK");
      throw explainSqliteError(error, file);
    }
  }

  function commit(): void {
    const startedAt = performance.now();
    db.exec("COMMIT");
    const endedAt = performance.now();
    const earliest = Math.max(restsUntil, startedAt - SAVED_REST_MS);
    restsUntil = Math.min(earliest + (endedAt - startedAt) * TIME_PER_COMMIT, endedAt + LONGEST_REST_MS);
  }

  function flushSoon(): void {
    const restMs = restsUntil - performance.now();
    if (restMs > 0) setTimeout(flush, restMs);
    else setImmediate(flush);
  }

  function attempt(item: QueuedWork): { item: QueuedWork; error: unknown } | undefined {
    try {
      inTransaction(item.work);
    } catch (error) {
      // Without the transaction around it nothing of the group is left: the group fails, not the work.
      if (!db.isTransaction) throw error;
      return { item, error };
    }
  }

  function flush(): void {
    if (queue.length === 0 || db.isTransaction) return;
    const group = queue;
    queue = [];
    try {
      const failures = inTransaction(() => group.map(attempt).filter((outcome) => outcome !== undefined));
      for (const { item, error } of failures) item.reject(error);
      for (const item of group) item.resolve();
    } catch (error) {
      for (const item of group) item.reject(error);
    }
  }

  return {
    db,
    transact(work) {
      if (queue.length === 0 || db.isTransaction) return inTransaction(work);
      let result: { of: ReturnType<typeof work> } | { error: unknown } | undefined;
      queue.push({
        work() {
          const of = work();
          result = { of };
          return of;
        },
        resolve() {},
        reject(error) {
          result = { error };
        },
      });
      flush();
      if (result === undefined) throw new TypeError("a work was not run");
      if ("error" in result) throw result.error;
      return result.of;
    },
    commitSoon(work) {
      return new Promise((resolve, reject) => {
        if (!db.isOpen) {
          reject(new InfernetError("store-unusable", `${file} is closed`));
          return;
        }
        if (queue.length === 0) flushSoon();
        queue.push({ work, resolve, reject });
      });
    },
    async backupTo(path) {
      flush();
      const copy = resolve(path);
      await createPrivateFile(copy, (draft) => backup(db, draft, { rate: ALL_PAGES })).catch((error) => {
        throw explainSqliteError(error, copy);
      });
    },
    close() {
      if (!db.isOpen) return;
      flush();
      db.close();
      release();
    },
  };
}

function refuseBrokenSqlite(version: string): void {
  if (!hasWalResetBug(version)) return;
  throw new InfernetError("store-unusable", `this Node.js brings SQLite ${version}, which can lose commits`, {
    hint: "Use a Node.js release with SQLite 3.51.3 or newer, such as the current 24.",
  });
}

function createStoreFile(file: string): void {
  try {
    touchPrivateFile(file);
  } catch (cause) {
    throw new InfernetError("store-unusable", `cannot create ${file}: ${systemCode(cause)}`, {
      hint: "Choose a home folder that you can write to, with INFERNET_HOME.",
      cause,
    });
  }
}

function openDatabase(file: string): DatabaseSync {
  const db = new DatabaseSync(file, { timeout: BUSY_TIMEOUT_MS, enableForeignKeyConstraints: true });
  try {
    db.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;");
    return db;
  } catch (error) {
    db.close();
    throw error;
  }
}

function migrate(db: DatabaseSync, file: string, migrations: readonly string[]): void {
  if (schemaVersion(db) === migrations.length) return;
  db.exec("BEGIN IMMEDIATE");
  try {
    // Read again behind the write lock: another process may have migrated meanwhile.
    const from = schemaVersion(db);
    if (from > migrations.length) throw tooNew(file, from, migrations.length);
    for (const migration of migrations.slice(from)) db.exec(migration);
    db.exec(`PRAGMA user_version = ${migrations.length}`);
    db.exec("COMMIT");
  } catch (error) {
    if (db.isTransaction) db.exec("ROLLBACK");
    throw error;
  }
}

function schemaVersion(db: DatabaseSync): number {
  return Number(db.prepare("PRAGMA user_version").get()?.user_version);
}

function tooNew(file: string, schema: number, known: number): InfernetError {
  return new InfernetError("store-unusable", `${file} was written by a newer version of Infernet`, {
    hint: "Update Infernet, or choose another home folder.",
    data: { schema, known },
  });
}

const SQLITE_REASONS: Readonly<Record<number, { reason: string; hint: string }>> = {
  5: { reason: "is busy", hint: "Another process is writing to it: wait for it, or stop it." },
  8: { reason: "is read-only", hint: "Give yourself write access to the file and its folder." },
  10: { reason: "cannot be read or written", hint: "Check the disk and its free space." },
  11: { reason: "is damaged", hint: "Restore it from your last `infernet backup`." },
  13: { reason: "cannot grow: the disk is full", hint: "Free some space on that disk, then start again." },
  14: { reason: "cannot be opened", hint: "Check that the folder exists and that you can write to it." },
  26: { reason: "is not an Infernet store", hint: "Choose another home folder, or move that file away." },
};

/** What SQLite says about the machine becomes `store-unusable`; what it says about a statement stays as it is. */
function explainSqliteError(error: unknown, file: string): unknown {
  const code = (error as { errcode?: unknown } | null)?.errcode;
  // The low byte is the primary code; the rest only refines it.
  const known = typeof code === "number" ? SQLITE_REASONS[code & 0xff] : undefined;
  if (known === undefined) return error;
  return new InfernetError("store-unusable", `${file} ${known.reason}`, { hint: known.hint, cause: error });
}
