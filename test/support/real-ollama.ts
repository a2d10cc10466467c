// Owns a real Ollama process for tests, where its program is on this machine.
import { type ChildProcess, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";

export type RealOllama = {
  url: string;
  /** Makes a model from a GGUF file, under a name of its own. */
  createModel(name: string, modelFile: string, parameters: Record<string, unknown>): Promise<void>;
  stop(): Promise<void>;
};

const CHAT_TEMPLATE = "{{ range .Messages }}{{ .Role }}: {{ .Content }}\n{{ end }}assistant: ";

/** INFERNET_OLLAMA_BIN, else `ollama` on PATH, else nothing. */
export function findOllama(env: NodeJS.ProcessEnv = process.env): string | undefined {
  const folders = (env.PATH ?? "").split(delimiter);
  return [env.INFERNET_OLLAMA_BIN, ...folders.map((folder) => join(folder, "ollama"))].find(
    (path) => path !== undefined && path !== "" && existsSync(path),
  );
}

export async function startRealOllama(program: string): Promise<RealOllama> {
  const folder = mkdtempSync(join(tmpdir(), "infernet-ollama-"));
  const url = `http://127.0.0.1:${await freePort()}`;
  const env = { ...process.env, OLLAMA_HOST: url, OLLAMA_MODELS: folder, HOME: folder };
  const child = spawn(program, ["serve"], { env, stdio: ["ignore", "ignore", "pipe"] });
  await listening(child);

  async function call(path: string, body: RequestInit["body"]): Promise<void> {
    const answer = await fetch(url + path, { method: "POST", body: body ?? null });
    if (!answer.ok) throw new Error(`Ollama answered ${answer.status} to ${path}: ${await answer.text()}`);
    await answer.body?.cancel();
  }

  return {
    url,
    async createModel(name, modelFile, parameters) {
      const bytes = readFileSync(modelFile);
      const digest = `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
      await call(`/api/blobs/${digest}`, bytes);
      const model = {
        model: name,
        files: { "model.gguf": digest },
        template: CHAT_TEMPLATE,
        parameters,
        stream: false,
      };
      await call("/api/create", JSON.stringify(model));
    },
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

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  await once(server, "close");
  return typeof address === "object" && address !== null ? address.port : 0;
}
