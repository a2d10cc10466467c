// Owns a false Ollama that plays a written answer, for what a real one cannot be made to do on demand.
import { answerJson, type LoopbackServer, startLoopbackServer } from "./loopback-server.ts";

export type FakeOllama = LoopbackServer & {
  /** Bodies that came to /api/chat, /api/generate and /api/embed. */
  requests: Record<string, unknown>[];
  /** Resolves when a client has left an answer before its end. */
  abandoned: Promise<void>;
  /** What /api/show says that its model can do; an old Ollama says nothing. */
  capabilities: readonly string[] | undefined;
};

/** What generations are answered with: lines of NDJSON as they are, then the end, a broken connection, or silence. */
export type FakeAnswer = { status?: number; lines: (object | string)[]; end?: "close" | "break" | "silence" };

const MODEL_INFO = { "general.architecture": "llama", "llama.context_length": 8192 };
export const FAKE_DIGEST = "ab".repeat(32);

export async function startFakeOllama(answer: FakeAnswer, parameters = ""): Promise<FakeOllama> {
  const requests: Record<string, unknown>[] = [];
  const { promise: abandoned, resolve: leave } = Promise.withResolvers<void>();
  const server = await startLoopbackServer(({ path, body }, response) => {
    if (path === "/api/tags") {
      return answerJson(response, {
        models: [{ name: "fake:latest", model: "fake:latest", digest: FAKE_DIGEST }],
      });
    }
    if (path === "/api/show") {
      const { capabilities } = fake;
      return answerJson(response, { model_info: MODEL_INFO, parameters, capabilities });
    }
    requests.push(JSON.parse(body.toString()));
    const { status = 200, lines, end = "close" } = answer;
    const [first] = lines;
    if (status !== 200) return answerJson(response, first, status);
    if (path === "/api/embed") return answerJson(response, first);
    response.on("close", () => {
      if (!response.writableFinished) leave();
    });
    response.writeHead(200, { "content-type": "application/x-ndjson" });
    const text = lines.map((line) => `${typeof line === "string" ? line : JSON.stringify(line)}\n`).join("");
    response.write(text, () => {
      if (end === "close") response.end();
      if (end === "break") response.destroy();
    });
  });
  const fake: FakeOllama = { ...server, requests, abandoned, capabilities: undefined };
  return fake;
}
