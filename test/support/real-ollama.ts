// Owns a real Ollama process for tests, where its program is on this machine.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { freePort } from "../../tools/demo/processes.ts";
import { cachedOllama } from "../../tools/docker/ollama.ts";

export type RealOllama = {
  url: string;
  stop(): Promise<void>;
};

/** INFERNET_OLLAMA_BIN, else the one that `tools/docker/prepare.ts` built, else `ollama` on PATH, else nothing. */
export function findOllama(env: NodeJS.ProcessEnv = process.env): string | undefined {
  const folders = (env.PATH ?? "").split(delimiter);
  return [env.INFERNET_OLLAMA_BIN, cachedOllama(), ...folders.map((folder) => join(folder, "ollama"))].find(
    (path) => path !== undefined && path !== "" && existsSync(path),
  );
}

export async function startRealOllama(program: string): Promise<RealOllama> {
  const folder = mkdtempSync(join(tmpdir(), "infernet-ollama-"));
  const url = `http://127.0.0.1:${await freePort()}`;
  const env = { ...process.env, OLLAMA_HOST: url, OLLAMA_MODELS: folder, HOME: folder };
  const child = spawn(program, ["serve"], { env, stdio: ["ignore", "ignore", "pipe"] });
  await listening(child);

  return {
    url,
    async stop() {
      child.kill();
      if (child.exitCode === null) await once(child, "exit");
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** Resolves when the process says that it listens. */
function listening(child: ChildProcess): Promise<void> {
  return new Promise((resolve, reject) => {
    let said = "";
    child.stderr?.on("data", (part) => {
      said = (said + part).slice(-2_000);
      if (said.includes("Listening on")) resolve();
    });
    child.once("error", reject);
    child.once("exit", () => reject(new Error(`Ollama ended before it listened: ${said}`)));
  });
}
