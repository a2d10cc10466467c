// Owns a model server that speaks Ollama's own API, with a real model behind it.
import type { OpenAiChunk } from "../../protocol/openai-answer.ts";
import type { Upstream } from "../../provider/upstreams/upstream.ts";
import { answerJson, type LoopbackServer, startLoopbackServer } from "./loopback-server.ts";

type ChatBody = {
  model: string;
  messages: unknown[];
  options?: { num_predict?: number; temperature?: number; seed?: number };
};

const DIGEST = "cd".repeat(32);

/** Serves the upstream's one model under these names. */
export async function startOllamaServer(
  upstream: Upstream,
  names: readonly string[],
): Promise<LoopbackServer> {
  const [served] = await upstream.listModels();
  return startLoopbackServer(async ({ path, body }, response) => {
    if (path === "/api/tags") {
      return answerJson(response, { models: names.map((name) => ({ name, model: name, digest: DIGEST })) });
    }
    if (path === "/api/show") {
      const length = served!.contextLength;
      return answerJson(response, {
        model_info: { "general.architecture": "llama", "llama.context_length": length },
        parameters: `num_ctx ${length}`,
      });
    }
    if (path !== "/api/chat") return answerJson(response, { error: `no ${path} here` }, 404);
    const { model, messages, options = {} } = JSON.parse(body.toString()) as ChatBody;
    const { num_predict, temperature, seed } = options;
    const limit = num_predict === undefined ? {} : { max_tokens: num_predict };
    const gone = new AbortController();
    response.on("close", () => gone.abort());
    response.writeHead(200, { "content-type": "application/x-ndjson" });
    const say = (line: object) => response.write(`${JSON.stringify({ model, ...line })}\n`);
    const counts = { prompt_eval_count: 0, eval_count: 0 };
    const request = { model: served!.name, messages, ...limit, temperature, seed };
    for await (const event of upstream.generate({
      path: "/v1/chat/completions",
      body: request,
      signal: gone.signal,
    })) {
      if (event.type === "chunk")
        say({ message: { role: "assistant", content: textOf(event.chunk) }, done: false });
      else
        Object.assign(counts, { prompt_eval_count: event.promptTokens, eval_count: event.completionTokens });
    }
    say({ message: { role: "assistant", content: "" }, done: true, done_reason: "length", ...counts });
    response.end();
  });
}

function textOf(chunk: OpenAiChunk): string {
  const [choice] = chunk.choices as { delta?: { content?: string | null } }[];
  return choice?.delta?.content ?? "";
}
