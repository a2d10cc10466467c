// Owns the OpenAI wire form: reading a request's body, writing a stream's payloads, folding them into one answer.
import { z } from "zod";
import { InfernetError } from "../protocol/errors.ts";
import type { TokenCounts } from "../protocol/price.ts";
import { promptTextBytes } from "../protocol/prompt.ts";
import { parseJsonWith } from "../protocol/schema.ts";
import type { ModelPath } from "../protocol/wire.ts";
import type { OpenAiChoice, OpenAiChunk, OpenAiToolCallDelta } from "./upstreams/upstream.ts";

/** What every piece of one answer repeats. `created` is in Unix seconds. */
export type AnswerMeta = { path: ModelPath; id: string; created: number; model: string };

/** The payload that ends every stream. */
export const DONE_PAYLOAD = "[DONE]";

export type GenerationRequest = {
  model: string;
  stream: boolean;
  /** Whether the client asked for the usage chunk; a paid stream carries it either way. */
  includeUsage: boolean;
  maxTokens: number | undefined;
  /** UTF-8 bytes of all text that the model reads. */
  promptTextBytes: number;
  /** The request as parsed, unknown members included. */
  body: Record<string, unknown>;
};

const OBJECT_NAMES = {
  "/v1/chat/completions": { piece: "chat.completion.chunk", whole: "chat.completion" },
  "/v1/completions": { piece: "text_completion", whole: "text_completion" },
  "/v1/embeddings": { piece: "list", whole: "list" },
} as const satisfies Record<ModelPath, { piece: string; whole: string }>;

/** The JSON text of one piece of a stream: what follows `data: `. */
export function chunkPayload(chunk: OpenAiChunk, meta: AnswerMeta): string {
  return JSON.stringify({ ...headOf(meta, "piece"), ...chunk });
}

/** The JSON text of the last piece before `[DONE]`: no choices, only usage. */
export function usagePayload(counts: TokenCounts, meta: AnswerMeta): string {
  return JSON.stringify({ ...headOf(meta, "piece"), choices: [], usage: usageOf(counts) });
}

/** The unstreamed answer that says the same as a stream of these pieces. */
export function foldChunks(
  chunks: readonly OpenAiChunk[],
  counts: TokenCounts,
  meta: AnswerMeta,
): Record<string, unknown> {
  if (meta.path === "/v1/embeddings") {
    const data = chunks.flatMap((chunk) => (Array.isArray(chunk.data) ? chunk.data : []));
    const { prompt_tokens, total_tokens } = usageOf(counts);
    return { object: "list", data, model: meta.model, usage: { prompt_tokens, total_tokens } };
  }
  const choices = chunks.flatMap((chunk) => chunk.choices ?? []);
  const finishReason = choices.findLast((choice) => choice.finish_reason !== null)?.finish_reason ?? null;
  const said =
    meta.path === "/v1/chat/completions" ? { message: foldMessage(choices) } : { text: foldText(choices) };
  return {
    ...headOf(meta, "whole"),
    choices: [{ index: 0, ...said, logprobs: foldLogprobs(choices), finish_reason: finishReason }],
    usage: usageOf(counts),
  };
}

function headOf(meta: AnswerMeta, form: "piece" | "whole"): Record<string, unknown> {
  return { id: meta.id, object: OBJECT_NAMES[meta.path][form], created: meta.created, model: meta.model };
}

function usageOf({ promptTokens, completionTokens }: TokenCounts) {
  return {
    prompt_tokens: promptTokens,
    completion_tokens: completionTokens,
    total_tokens: promptTokens + completionTokens,
  };
}

function foldText(choices: readonly OpenAiChoice[]): string {
  return choices.map((choice) => choice.text ?? "").join("");
}

/** Text members of the deltas are joined, whatever their names (content, refusal, reasoning); tool calls by index. */
function foldMessage(choices: readonly OpenAiChoice[]): Record<string, unknown> {
  const message: Record<string, unknown> = { role: "assistant", content: null };
  const toolCalls: OpenAiToolCallDelta[] = [];
  for (const { delta = {} } of choices) {
    const { role, tool_calls, ...texts } = delta;
    if (role !== undefined) message.role = role;
    for (const call of tool_calls ?? []) foldToolCall(toolCalls, call);
    for (const [name, text] of Object.entries(texts)) {
      const before = message[name];
      message[name] =
        typeof before === "string" && typeof text === "string" ? before + text : (text ?? before);
    }
  }
  const calls = toolCalls.map(({ index: _index, ...call }) => call);
  return calls.length === 0
    ? { ...message, content: message.content ?? "" }
    : { ...message, tool_calls: calls };
}

function foldToolCall(toolCalls: OpenAiToolCallDelta[], call: OpenAiToolCallDelta): void {
  const known = toolCalls.find(({ index }) => index === call.index);
  if (known === undefined) {
    toolCalls.push({ type: "function", ...call, function: { ...call.function } });
    return;
  }
  if (call.id !== undefined) known.id = call.id;
  known.function = {
    ...known.function,
    ...call.function,
    arguments: (known.function?.arguments ?? "") + (call.function?.arguments ?? ""),
  };
}

/** Log probabilities of all pieces as one: their lists joined member by member. */
function foldLogprobs(choices: readonly OpenAiChoice[]): Record<string, unknown> | null {
  let joined: Record<string, unknown> | null = null;
  for (const { logprobs } of choices) {
    if (typeof logprobs !== "object" || logprobs === null) continue;
    joined ??= {};
    for (const [name, list] of Object.entries(logprobs)) {
      const before = joined[name];
      joined[name] = Array.isArray(before) && Array.isArray(list) ? [...before, ...list] : list;
    }
  }
  return joined;
}

const textOrParts = z.union([z.string(), z.array(z.looseObject({ type: z.string() }))]);
const positiveCount = z.int().positive().nullish();

const commonMembers = {
  model: z.string().min(1).max(128),
  stream: z.boolean().nullish(),
  stream_options: z.looseObject({ include_usage: z.boolean().nullish() }).nullish(),
  n: z.literal(1, "a job pays for one answer: leave n out").nullish(),
  temperature: z.number().min(0).nullish(),
  top_p: z.number().min(0).max(1).nullish(),
  seed: z.int().nullish(),
  stop: z.union([z.string(), z.array(z.string()).max(16)]).nullish(),
  max_tokens: positiveCount,
};

const chatSchema = z.looseObject({
  ...commonMembers,
  max_completion_tokens: positiveCount,
  messages: z.array(z.looseObject({ role: z.string(), content: textOrParts.nullish() })).min(1),
});

const completionSchema = z.looseObject({
  ...commonMembers,
  best_of: z.literal(1).nullish(),
  prompt: z.union([z.string(), z.tuple([z.string()])], "expected one text"),
});

const embeddingSchema = z.looseObject({
  model: commonMembers.model,
  input: z.union(
    [z.string().min(1), z.array(z.string().min(1)).min(1).max(2048)],
    "expected text, or a list of texts",
  ),
});

type ReadBody = Record<string, unknown> & {
  model: string;
  stream?: boolean | null | undefined;
  stream_options?: { include_usage?: boolean | null | undefined } | null | undefined;
  max_tokens?: number | null | undefined;
  max_completion_tokens?: number | null | undefined;
};

const REQUEST_SCHEMAS: Record<ModelPath, z.ZodType<ReadBody>> = {
  "/v1/chat/completions": chatSchema,
  "/v1/completions": completionSchema,
  "/v1/embeddings": embeddingSchema,
};

/** Reads a request's exact bytes. Throws `bad-request` naming the first member that is wrong. */
export function readGenerationRequest(path: ModelPath, bytes: Uint8Array): GenerationRequest {
  const body = parseJsonWith(REQUEST_SCHEMAS[path], decodeUtf8(bytes), "bad-request", "the request body");
  refuseRemoteParts(body.messages);
  return {
    model: body.model,
    stream: path !== "/v1/embeddings" && body.stream === true,
    includeUsage: body.stream_options?.include_usage === true,
    maxTokens: readLimit(body),
    promptTextBytes: promptTextBytes(body),
    body,
  };
}

/** One limit, by either name: of two, a model server might follow the one that was not paid for. */
function readLimit({ max_completion_tokens, max_tokens }: ReadBody): number | undefined {
  const limit = max_completion_tokens ?? max_tokens ?? undefined;
  if (limit === (max_tokens ?? limit)) return limit;
  throw new InfernetError("bad-request", "max_tokens and max_completion_tokens differ: name one");
}

function decodeUtf8(bytes: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new InfernetError("bad-request", "the request body is not UTF-8", { cause });
  }
}

/** A node fetches nothing for a stranger: an image travels inside the request, where its bytes are paid for. */
function refuseRemoteParts(messages: unknown): void {
  for (const { content } of (messages ?? []) as { content?: unknown }[]) {
    for (const part of Array.isArray(content) ? content : []) refuseRemotePart(part);
  }
}

function refuseRemotePart(part: Record<string, unknown>): void {
  for (const [name, value] of Object.entries(part)) {
    if (!name.endsWith("_url")) continue;
    const url = (value as { url?: unknown } | null)?.url ?? value;
    if (typeof url === "string" && url.startsWith("data:")) continue;
    throw new InfernetError("bad-request", `${name} must be a data: URL`);
  }
}
