// Owns the copy of a home folder that can become another machine's: keys, settings, TLS identity and both ledgers.
import { createHash } from "node:crypto";
import { createReadStream, existsSync, mkdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { z } from "zod";
import { InfernetError } from "../protocol/errors.ts";
import { parseJsonWith } from "../protocol/schema.ts";
import { createPrivateFile, explainWriteError, systemCode } from "./private-file.ts";
import { findStoreDamage, openStoreToRead } from "./store.ts";

/** What a backup holds, under the names that it has in a home folder: ledgers first, keys last. */
const LEDGERS = ["requester.db", "provider.db"] as const;
const FILES = ["config.json", "tls/key.pem", "tls/certificate.pem", "wallet.json", "node.json"] as const;
const NAMES = [...LEDGERS, ...FILES] as const;
/** What SQLite keeps beside a ledger: one of another ledger would spoil a restored one. */
const LEDGER_COMPANIONS = ["-wal", "-shm", "-journal"];

const MANIFEST = "backup.json";
const fileSchema = z.object({
  name: z.enum(NAMES),
  bytes: z.int().nonnegative(),
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
});
const manifestSchema = z.object({
  format: z.literal("infernet-backup/1"),
  /** ISO 8601. */
  createdAt: z.iso.datetime(),
  /** The release that wrote it. */
  version: z.string(),
  files: z.array(fileSchema).min(1),
});

export type BackedUpFile = z.infer<typeof fileSchema>;
export type BackupManifest = z.infer<typeof manifestSchema>;

/**
 * Copies a home folder into a new folder that is whole or absent, whatever runs from that home meanwhile: each ledger is
 * of one moment. `bad-config` when the folder exists or there is nothing to copy, `store-unusable` for a damaged ledger.
 */
export async function createBackup(home: string, folder: string, version: string): Promise<BackupManifest> {
  const target = resolve(folder);
  if (existsSync(target)) throw taken(target);
  const names = NAMES.filter((name) => existsSync(join(home, name)));
  if (names.length === 0) {
    throw new InfernetError("bad-config", `there is nothing to back up in ${home}`, {
      hint: "Name the home folder with --home or INFERNET_HOME.",
    });
  }
  const draft = `${target}.${process.pid}.draft`;
  try {
    mkdirSync(dirname(target), { recursive: true });
    mkdirSync(draft, { mode: 0o700 });
    const files: BackedUpFile[] = [];
    for (const name of names) {
      await copyPart(join(home, name), join(draft, name), isLedger(name));
      files.push({ name, ...(await measure(join(draft, name))) });
    }
    const createdAt = new Date().toISOString();
    const manifest: BackupManifest = { format: "infernet-backup/1", createdAt, version, files };
    await createPrivateFile(join(draft, MANIFEST), `${JSON.stringify(manifest, null, 2)}\n`);
    renameSync(draft, target);
    return manifest;
  } catch (cause) {
    throw explainWriteError(cause, target);
  } finally {
    rmSync(draft, { recursive: true, force: true });
  }
}

/**
 * Puts a backup's files into a home folder that has none of them; what fails half-way is taken away again. `bad-config`
 * when one is there, or when a file is not, byte for byte, what was backed up: then nothing is changed.
 */
export async function restoreBackup(folder: string, home: string): Promise<BackupManifest> {
  const manifest = readManifest(folder);
  for (const { name } of manifest.files) {
    const path = join(home, name);
    const names = isLedger(name) ? ["", ...LEDGER_COMPANIONS].map((end) => path + end) : [path];
    const found = names.find((one) => existsSync(one));
    if (found !== undefined) throw taken(found);
  }
  for (const file of manifest.files) await verify(join(folder, file.name), file);
  const placed: string[] = [];
  try {
    for (const file of manifest.files) {
      const path = join(home, file.name);
      await createPrivateFile(path, async (draft) => {
        await writeFile(draft, createReadStream(join(folder, file.name)));
        await verify(draft, file);
      });
      placed.push(path);
    }
  } catch (error) {
    for (const path of placed) rmSync(path, { force: true });
    throw error;
  }
  return manifest;
}

function readManifest(folder: string): BackupManifest {
  let text: string;
  try {
    text = readFileSync(join(folder, MANIFEST), "utf8");
  } catch (cause) {
    throw new InfernetError("bad-config", `${folder} is no backup: ${MANIFEST}: ${systemCode(cause)}`, {
      hint: "Name a folder that `infernet backup` made.",
      cause,
    });
  }
  return parseJsonWith(manifestSchema, text, "bad-config", join(folder, MANIFEST));
}

async function copyPart(from: string, to: string, ledger: boolean): Promise<void> {
  if (!ledger) return createPrivateFile(to, (draft) => writeFile(draft, createReadStream(from)));
  const store = openStoreToRead(from);
  try {
    const [damage] = findStoreDamage(store);
    if (damage !== undefined) {
      throw new InfernetError("store-unusable", `${from} is damaged: ${damage}`, {
        hint: "Restore it from an older backup; this one would not be of use.",
      });
    }
    await store.backupTo(to);
  } finally {
    store.close();
  }
}

async function verify(path: string, { name, bytes, sha256 }: BackedUpFile): Promise<void> {
  const found = existsSync(path) ? await measure(path) : undefined;
  if (found?.bytes === bytes && found.sha256 === sha256) return;
  throw new InfernetError(
    "bad-config",
    `${name} of the backup is ${found ? "not as it was written" : "missing"}`,
    {
      hint: "Copy the backup again from where it was made, or use another one.",
    },
  );
}

async function measure(path: string): Promise<Pick<BackedUpFile, "bytes" | "sha256">> {
  const hash = createHash("sha256");
  let bytes = 0;
  for await (const part of createReadStream(path) as AsyncIterable<Buffer>) {
    hash.update(part);
    bytes += part.length;
  }
  return { bytes, sha256: hash.digest("hex") };
}

function isLedger(name: BackedUpFile["name"]): boolean {
  return LEDGERS.some((ledger) => ledger === name);
}

function taken(path: string): InfernetError {
  return new InfernetError("bad-config", `${path} exists and is not overwritten`, {
    hint: "Choose another folder, or move that away first.",
  });
}
