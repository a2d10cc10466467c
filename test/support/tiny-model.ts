// Owns where tests find the tiny model: one file in the system's temporary folder, written when it is not there.
import { createHash } from "node:crypto";
import { existsSync, readFileSync, renameSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { writeTinyModel } from "../../tools/tiny-model.ts";

const WRITER = new URL("../../tools/tiny-model.ts", import.meta.url);

/** Path of the tiny model's GGUF file. Its name follows the writer's source, so that a changed writer writes anew. */
export function tinyModelFile(): string {
  const version = createHash("sha256").update(readFileSync(WRITER)).digest("hex").slice(0, 12);
  const path = join(tmpdir(), `infernet-tiny-${version}.gguf`);
  if (existsSync(path)) return path;
  const unfinished = `${path}.${process.pid}`;
  writeTinyModel(unfinished);
  renameSync(unfinished, path);
  return path;
}
