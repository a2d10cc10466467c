// Owns the checks of this machine: Node.js and its SQLite, the disk, the ledgers and who holds them.
import { existsSync } from "node:fs";
import { statfs } from "node:fs/promises";
import { homePaths } from "../../runtime/home.ts";
import { findStoreDamage, hasWalResetBug, openStoreToRead } from "../../runtime/store.ts";
import { isStoreLocked } from "../../runtime/store-lock.ts";
import { type Finding, fail, ok, tryLook, warn } from "./finding.ts";

/** Ledgers grow by what is kept for replays; a full disk ends a worker. */
const LITTLE_BYTES = 256 * 1024 * 1024;

export async function checkMachine(home: string): Promise<Finding[]> {
  const { requesterStore, providerStore } = homePaths(home);
  return [
    checkNode(),
    ...(await checkDisk(home)),
    ...(await checkLedger("requester ledger", requesterStore)),
    ...(await checkLedger("worker ledger", providerStore)),
  ];
}

/** Whether a worker runs from this home now. */
export function isWorkerRunning(home: string): boolean {
  return isStoreLocked(homePaths(home).providerStore);
}

function checkNode(): Finding {
  const { node, sqlite = "0" } = process.versions;
  const message = `Node.js ${node} with SQLite ${sqlite}`;
  if (!hasWalResetBug(sqlite)) return ok("node.js", message);
  return fail(
    "node.js",
    "store-unusable",
    `${message}, which can lose commits`,
    "Use a Node.js release with SQLite 3.51.3 or newer, such as the current 24.",
  );
}

async function checkDisk(home: string): Promise<Finding[]> {
  if (!existsSync(home)) {
    return [
      warn(
        "home",
        `${home} does not exist`,
        "Make a key in it: infernet wallet create, or infernet register.",
      ),
    ];
  }
  const { bavail, bsize } = await statfs(home);
  const free = `${Math.floor((bavail * bsize) / 1024 / 1024)} MiB free at ${home}`;
  if (bavail * bsize >= LITTLE_BYTES) return [ok("disk", free)];
  return [warn("disk", `only ${free}`, "Free some space: a full disk stops the ledgers.")];
}

async function checkLedger(check: string, path: string): Promise<Finding[]> {
  if (!existsSync(path)) return [];
  const finding = await tryLook(check, () => {
    const store = openStoreToRead(path);
    try {
      const [damage] = findStoreDamage(store);
      if (damage === undefined) {
        return ok(check, isStoreLocked(path) ? "sound, and in use by a running worker" : "sound");
      }
      const hint = "Stop what uses it, move it away, and take the last backup: infernet restore.";
      return fail(check, "store-unusable", `${path} is damaged: ${damage}`, hint);
    } finally {
      store.close();
    }
  });
  return [finding];
}
