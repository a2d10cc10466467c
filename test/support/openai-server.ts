// Owns a model server that speaks OpenAI's HTTP form, with a real model behind it.
import type { ServerResponse } from "node:http";
import { InfernetError } from "../../protocol/errors.ts";
import {
  type AnswerMeta,
  chunkPayload,
  DONE_PAYLOAD,
  foldChunks,
  type OpenAiChunk,
  usagePayload,
} from "../../protocol/openai-answer.ts";
import { type GenerationRequest, readGenerationRequest } from "../../protocol/openai-request.ts";
import type { TokenCounts } from "../../protocol/price.ts";
import { MODEL_PATHS, type ModelPath } from "../../protocol/wire.ts";
import type { Upstream } from "../../provider/upstreams/upstream.ts";
import { answerJson, type LoopbackServer, startLoopbackServer } from "./loopback-server.ts";

export type OpenAiServer = LoopbackServer & {
  /** Bodies of the generations that were asked for. */
  requests: Record<string, unknown>[];
  /** Generations that ended because their client left. */
  abandoned: number;
};

/** `usage`: "asked" as OpenAI does, "never" as old servers do, "running" on every piece as vLLM can. */
export async function startOpenAiServer(
  upstream: Upstream,
  options: { apiKey?: string; usage?: "asked" | "never" | "running" } = {},
): Promise<OpenAiServer> {
  const { apiKey, usage = "asked" } = options;
  const seen = { requests: [] as Record<string, unknown>[], abandoned: 0 };

  const server = await startLoopbackServer(async ({ path, headers, body }, response) => {
    if (apiKey !== undefined && headers.authorization !== `Bearer ${apiKey}`) {
      const message = `Incorrect API key provided: ${headers.authorization}`;
      return answerJson(
        response,
        { error: { message, type: "invalid_request_error", code: "invalid_api_key" } },
        401,
      );
    }
    if (path === "/v1/models") return listModels(upstream, response);
    if (!MODEL_PATHS.some((known) => known === path)) return answerJson(response, {}, 404);
    try {
      const request = readGenerationRequest(path as ModelPath, body);
      seen.requests.push(request.body);
      await answer(path as ModelPath, request, response);
    } catch (error) {
      if (response.destroyed) seen.abandoned++;
      else if (error instanceof InfernetError) {
        answerJson(
          response,
          { error: { message: error.message, code: error.code, type: "error" } },
          error.status,
        );
      } else throw error;
    }
  });

  async function answer(
    path: ModelPath,
    request: GenerationRequest,
    response: ServerResponse,
  ): Promise<void> {
    const meta: AnswerMeta = { path, id: "cmpl-1", created: 1_700_000_000, model: request.model };
    const left = new AbortController();
    response.on("close", () => left.abort(new Error("the client left")));
    const chunks: OpenAiChunk[] = [];
    let counts: TokenCounts = { promptTokens: 0, completionTokens: 0 };
    const write = (data: string) => response.write(`data: ${data}\n\n`);
    for await (const event of upstream.generate({ path, body: request.body, signal: left.signal })) {
      if (event.type === "usage") {
        counts = event;
        continue;
      }
      chunks.push(event.chunk);
      counts = { ...counts, completionTokens: counts.completionTokens + event.tokens };
      if (!request.stream) continue;
      if (!response.headersSent) response.writeHead(200, { "content-type": "text/event-stream" });
      const running = usage === "running" ? { usage: JSON.parse(usagePayload(counts, meta)).usage } : {};
      write(chunkPayload({ ...event.chunk, ...running }, meta));
    }
    if (!request.stream) return answerJson(response, foldChunks(chunks, counts, meta));
    if (usage === "asked" && request.includeUsage) write(usagePayload(counts, meta));
    write(DONE_PAYLOAD);
    response.end();
  }

  return Object.assign(seen, server);
}

async function listModels(upstream: Upstream, response: ServerResponse): Promise<void> {
  const models = await upstream.listModels();
  const data = models.map(({ name, contextLength }) => ({
    id: name,
    object: "model",
    max_model_len: contextLength,
  }));
  answerJson(response, { object: "list", data });
}
