// Owns the upstream for any server that speaks OpenAI's HTTP form: vLLM, llama.cpp, LM Studio, hosted services.
import { Agent, type Dispatcher } from "undici";
import { z } from "zod";
import { ZERO_WORD } from "../../protocol/bytes.ts";
import { InfernetError } from "../../protocol/errors.ts";
import { MODEL_FEATURES, type ModelFeature } from "../../protocol/features.ts";
import type { OpenAiChoice, OpenAiChunk } from "../../protocol/openai-answer.ts";
import { refuseCostlyMembers } from "../../protocol/openai-request.ts";
import { parseJsonWith } from "../../protocol/schema.ts";
import { readSse } from "../../runtime/sse.ts";
import { errorOfStatus, explainFailure } from "./failure.ts";
import {
  DEFAULT_CONTEXT_LENGTH,
  type Generation,
  type Upstream,
  type UpstreamEvent,
  type UpstreamModel,
} from "./upstream.ts";

export type OpenAiSettings = {
  /** With or without the path; without one, /v1 is put behind it. */
  url: string;
  apiKey?: string | undefined;
  /** Sell this model alone; all that the server lists when absent. */
  modelName?: string | undefined;
  /** Where the server tells none. */
  contextLength?: number | undefined;
  /** What its models do, where the server does not tell: all but to continue an answer when absent. */
  features?: readonly ModelFeature[] | undefined;
  /** How long the server may be silent. */
  silenceTimeoutMs?: number | undefined;
};

/** Nothing in OpenAI's form tells what a model does; few servers continue an answer, and they cannot be told apart. */
const DEFAULT_FEATURES = MODEL_FEATURES.filter((feature) => feature !== "continue");
const DEFAULT_SILENCE_TIMEOUT_MS = 300_000;
const LIST_TIMEOUT_MS = 5_000;
const CONNECT_TIMEOUT_MS = 5_000;
const MAX_ANSWER_BYTES = 64 * 1024 * 1024;
const MAX_EVENT_BYTES = 8 * 1024 * 1024;
const countSchema = z.int().nonnegative();
const usageSchema = z.object({ prompt_tokens: countSchema, completion_tokens: countSchema.default(0) });
const pieceSchema = z.looseObject({
  choices: z
    .array(z.custom<OpenAiChoice>((choice) => typeof choice === "object" && choice !== null))
    .default([]),
  usage: usageSchema.nullish(),
  error: z.unknown().optional(),
});
const embeddingsSchema = z.looseObject({ data: z.array(z.unknown()), usage: usageSchema.nullish() });
const positiveSchema = z.int().positive().nullish().catch(null);
const modelSchema = z.looseObject({
  id: z.string(),
  max_model_len: positiveSchema,
  context_length: positiveSchema,
  context_window: positiveSchema,
  n_ctx: positiveSchema,
  meta: z.looseObject({ n_ctx: positiveSchema }).nullish().catch(null),
});
const modelListSchema = z.looseObject({ data: z.array(modelSchema) });

/** Connects when asked for the first time; a server that is down is found out then. */
export function openOpenAi(settings: OpenAiSettings): Upstream {
  const base = baseOf(settings.url);
  const server = `the model server at ${base.origin}`;
  const silenceTimeoutMs = settings.silenceTimeoutMs ?? DEFAULT_SILENCE_TIMEOUT_MS;
  const agent = new Agent({
    connect: { timeout: CONNECT_TIMEOUT_MS },
    headersTimeout: silenceTimeoutMs,
    bodyTimeout: silenceTimeoutMs,
  });
  const authorization = settings.apiKey === undefined ? {} : { authorization: `Bearer ${settings.apiKey}` };

  async function request(path: string, signal: AbortSignal, body?: object): Promise<Dispatcher.ResponseData> {
    const answer = await agent.request({
      origin: base.origin,
      path: base.pathname + path,
      method: body === undefined ? "GET" : "POST",
      headers: { ...authorization, "content-type": "application/json" },
      body: body === undefined ? null : JSON.stringify(body),
      signal,
    });
    if (answer.statusCode === 200) return answer;
    const detail = describeRefusal(await readText(answer, server));
    throw errorOfStatus(server, answer.statusCode, detail, answer.headers["retry-after"]);
  }

  async function listModels(): Promise<UpstreamModel[]> {
    const signal = AbortSignal.timeout(LIST_TIMEOUT_MS);
    try {
      const answer = await readText(await request("/models", signal), server);
      const { data } = parseJsonWith(
        modelListSchema,
        answer,
        "upstream-failed",
        "the model server's list of models",
      );
      return data
        .filter(({ id }) => settings.modelName === undefined || id === settings.modelName)
        .map((model) => ({
          name: model.id,
          digest: ZERO_WORD,
          contextLength: contextLengthOf(model) ?? settings.contextLength ?? DEFAULT_CONTEXT_LENGTH,
          features: [...(settings.features ?? DEFAULT_FEATURES)],
        }));
    } catch (error) {
      if (!signal.aborted) throw explainFailure(error, server);
      throw new InfernetError("upstream-timeout", `${server} does not list its models in time`, {
        cause: error,
      });
    }
  }

  async function* generate({ path, body, signal }: Generation): AsyncGenerator<UpstreamEvent> {
    refuseCostlyMembers(body);
    try {
      const route = path.slice("/v1".length);
      if (path === "/v1/embeddings") {
        yield* readEmbeddings(await readText(await request(route, signal, body), server));
        return;
      }
      const options = { ...(body.stream_options as object | null | undefined), include_usage: true };
      const answer = await request(route, signal, { ...body, stream: true, stream_options: options });
      yield* readStream(answer, server);
    } catch (error) {
      throw explainFailure(error, server, signal);
    }
  }

  return { kind: "openai", listModels, generate, close: () => agent.destroy() };
}

/** One event for each piece; running usage where the server tells it; the last usage once more as the final one. */
async function* readStream(answer: Dispatcher.ResponseData, server: string): AsyncGenerator<UpstreamEvent> {
  let finished = false;
  let deltas = 0;
  let usage: { promptTokens: number; completionTokens: number } | undefined;
  for await (const data of readPayloads(answer)) {
    if (data === "[DONE]") {
      finished = true;
      break;
    }
    const piece = parseJsonWith(pieceSchema, data, "upstream-failed", "a piece of the model server's answer");
    if (piece.error)
      throw new InfernetError("upstream-failed", `${server} gave up in the middle of its answer`);
    const tokens = piece.choices.some(carriesOutput) ? 1 : 0;
    deltas += tokens;
    finished ||= piece.choices.some((choice) => typeof choice.finish_reason === "string");
    if (piece.choices.length > 0) yield { type: "chunk", chunk: chunkOf(piece), tokens };
    if (!piece.usage) continue;
    // Some servers count the token that ends an answer: where it is all there was, nothing was delivered.
    const completionTokens = deltas === 0 ? 0 : piece.usage.completion_tokens;
    usage = { promptTokens: piece.usage.prompt_tokens, completionTokens };
    yield { type: "usage", ...usage, final: false };
  }
  if (!finished) throw new InfernetError("upstream-failed", `${server} broke off its answer`);
  if (usage !== undefined) yield { type: "usage", ...usage, final: true };
}

async function* readPayloads(answer: Dispatcher.ResponseData): AsyncGenerator<string> {
  try {
    for await (const { data } of readSse(answer.body, { maxEventLength: MAX_EVENT_BYTES })) yield data;
  } catch (error) {
    // The reader speaks of nodes, but this is the node's own model server.
    if (!(error instanceof InfernetError)) throw error;
    throw new InfernetError("upstream-failed", error.message, { cause: error });
  } finally {
    answer.body.destroy();
  }
}

/** The piece without what the node writes itself. */
function chunkOf(piece: z.infer<typeof pieceSchema>): OpenAiChunk {
  const {
    id: _id,
    object: _object,
    created: _created,
    model: _model,
    usage: _usage,
    error: _error,
    ...rest
  } = piece;
  const choices = rest.choices.map((choice) => ({ ...choice, finish_reason: choice.finish_reason ?? null }));
  return { ...rest, choices };
}

function carriesOutput({ delta, text }: OpenAiChoice): boolean {
  const { role: _role, ...said } = delta ?? {};
  return (
    Boolean(text) ||
    Object.values(said).some((value) => (Array.isArray(value) ? value.length > 0 : Boolean(value)))
  );
}

function* readEmbeddings(text: string): Generator<UpstreamEvent> {
  const { data, usage } = parseJsonWith(
    embeddingsSchema,
    text,
    "upstream-failed",
    "the model server's embeddings",
  );
  yield { type: "chunk", chunk: { data }, tokens: 0 };
  if (usage) yield { type: "usage", promptTokens: usage.prompt_tokens, completionTokens: 0, final: true };
}

async function readText(answer: Dispatcher.ResponseData, server: string): Promise<string> {
  const parts: Uint8Array[] = [];
  let length = 0;
  for await (const part of answer.body as AsyncIterable<Uint8Array>) {
    length += part.length;
    if (length > MAX_ANSWER_BYTES) throw new InfernetError("upstream-failed", `${server} answered too much`);
    parts.push(part);
  }
  return Buffer.concat(parts).toString("utf8");
}

/** The words of a refusal that are safe to show: names of codes and members. Its sentences may quote prompt or key. */
function describeRefusal(text: string): string {
  try {
    const { error = {} } = JSON.parse(text) as { error?: Record<string, unknown> };
    const words = [error.code, error.type, error.param];
    return words.filter((word) => typeof word === "string" && /^[a-z_.[\]\d]{1,64}$/.test(word)).join(", ");
  } catch {
    return "";
  }
}

function contextLengthOf(model: z.infer<typeof modelSchema>): number | undefined {
  const told = [
    model.max_model_len,
    model.context_length,
    model.context_window,
    model.n_ctx,
    model.meta?.n_ctx,
  ];
  return told.find((length) => typeof length === "number") ?? undefined;
}

function baseOf(text: string): URL {
  const url = URL.parse(text);
  if (url === null || !/^https?:$/.test(url.protocol) || url.username || url.search || url.hash) {
    throw new InfernetError(
      "bad-config",
      "the model server's URL is not a plain http:// or https:// address",
      {
        hint: "It looks like http://127.0.0.1:8080/v1.",
      },
    );
  }
  url.pathname = url.pathname === "/" ? "/v1" : url.pathname.replace(/\/+$/, "");
  return url;
}
