// Owns a container registry of this machine's own, which hands out one image as real registries do, or stalls.
import { execFileSync } from "node:child_process";
import { createHash, randomUUID } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import type { ServerResponse } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import type { Engine } from "../../tools/docker/engine.ts";
import { buildOllamaImage } from "../../tools/docker/images.ts";
import { fetchOllama } from "../../tools/docker/ollama.ts";
import { answerJson, startLoopbackServer } from "./loopback-server.ts";

const MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json";
const CONFIG_TYPE = "application/vnd.docker.container.image.v1+json";
const LAYER_TYPE = "application/vnd.docker.image.rootfs.diff.tar.gzip";

export type LocalRegistry = {
  /** The image's name with this registry's address, as `docker pull` wants it. */
  nameOf(name: string): string;
  /** Resolves when a layer is asked for. */
  layerAsked: Promise<void>;
  close(): Promise<void>;
};

/**
 * Serves an image of Ollama under every name, one that the engine does not know any layer of; with `stalls` only half
 * of each layer ever comes.
 */
export async function startLocalRegistry(engine: Engine, { stalls = false } = {}): Promise<LocalRegistry> {
  const image = `infernet-test/served:${randomUUID()}`;
  await buildOllamaImage(engine, await fetchOllama(), image, `/served/${image}`);
  const { manifest, blobs } = await readImage(engine, image);
  await engine.docker(["image", "rm", image]);
  const { promise: layerAsked, resolve } = Promise.withResolvers<void>();
  const server = await startLoopbackServer(({ path, method }, response) => {
    if (path === "/v2/") return answerJson(response, {});
    if (path.includes("/manifests/")) return send(response, MANIFEST_TYPE, manifest, method);
    const blob = blobs.get(path.split("/").at(-1)!);
    if (blob === undefined) return answerJson(response, { errors: [{ code: "BLOB_UNKNOWN" }] }, 404);
    const isLayer = blob.type === LAYER_TYPE;
    if (isLayer) resolve();
    return send(response, blob.type, blob.bytes, method, isLayer && stalls);
  });
  return {
    nameOf: (name) => `${new URL(server.url).host}/${name}`,
    layerAsked,
    close: server.close,
  };
}

async function readImage(engine: Engine, image: string) {
  const folder = mkdtempSync(join(tmpdir(), "infernet-registry-"));
  try {
    const archive = join(folder, "image.tar");
    await engine.docker(["save", "--output", archive, image]);
    execFileSync("tar", ["-xf", archive, "-C", folder]);
    const read = (path: string) => readFileSync(join(folder, path));
    const [{ Config, Layers }] = JSON.parse(read("manifest.json").toString());
    const config = { type: CONFIG_TYPE, bytes: read(Config) };
    const layers = (Layers as string[]).map((path) => ({
      type: LAYER_TYPE,
      bytes: gzipSync(read(path), { level: 1 }),
    }));
    const blobs = new Map([config, ...layers].map((blob) => [digestOf(blob.bytes), blob]));
    const entries = [...blobs].map(([digest, { type, bytes }]) => ({
      mediaType: type,
      size: bytes.length,
      digest,
    }));
    const [first, ...others] = entries;
    const manifest = { schemaVersion: 2, mediaType: MANIFEST_TYPE, config: first, layers: others };
    return { manifest: Buffer.from(JSON.stringify(manifest)), blobs };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function send(response: ServerResponse, type: string, bytes: Buffer, method: string, stalls = false): void {
  response.writeHead(200, {
    "content-type": type,
    "content-length": bytes.length,
    "docker-content-digest": digestOf(bytes),
  });
  if (method === "HEAD") response.end();
  else if (stalls) response.write(bytes.subarray(0, bytes.length / 2));
  else response.end(bytes);
}

function digestOf(bytes: Buffer): string {
  return `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
}
