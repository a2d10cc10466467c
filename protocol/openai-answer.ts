// Owns the form of an OpenAI answer: its pieces, the payloads of a stream, and the one answer that they fold into.
import { z } from "zod";
import type { TokenCounts } from "./price.ts";
import { parseJsonWith } from "./schema.ts";
import type { ModelPath } from "./wire.ts";

/** One piece of an OpenAI answer without the members that every piece shares (id, object, created, model). */
export type OpenAiChunk = {
  /** Empty or absent only in an embeddings answer, which carries `data` instead. */
  choices?: OpenAiChoice[];
  [member: string]: unknown;
};

export type OpenAiChoice = {
  index: number;
  /** Chat: what this piece adds to the message. */
  delta?: OpenAiDelta;
  /** Completions: what this piece adds to the text. */
  text?: string;
  finish_reason: string | null;
  [member: string]: unknown;
};

export type OpenAiDelta = {
  role?: string;
  content?: string | null;
  tool_calls?: OpenAiToolCallDelta[];
  [member: string]: unknown;
};

export type OpenAiToolCallDelta = {
  index: number;
  id?: string;
  type?: string;
  function?: { name?: string; arguments?: string };
};

/** What every piece of one answer repeats. `created` is in Unix seconds. */
export type AnswerMeta = { path: ModelPath; id: string; created: number; model: string };

/** The payload that ends every stream. */
export const DONE_PAYLOAD = "[DONE]";

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

const text = z.string().optional();
const countSchema = z.int().nonnegative();
const toolCallSchema = z.looseObject({
  ...{ index: countSchema, id: text, type: text },
  function: z.looseObject({ name: text, arguments: text }).optional(),
});
const payloadSchema = z.looseObject({
  id: z.string().default(""),
  created: countSchema.default(0),
  model: z.string().default(""),
  choices: z
    .array(
      z.looseObject({
        index: countSchema.default(0),
        delta: z
          .looseObject({
            role: text,
            content: z.string().nullish(),
            tool_calls: z.array(toolCallSchema).nullish(),
          })
          .nullish(),
        text,
        finish_reason: z.string().nullable().default(null),
      }),
    )
    .nullish(),
  usage: z.looseObject({ prompt_tokens: countSchema, completion_tokens: countSchema }).nullish(),
});
export type AnswerPiece = z.infer<typeof payloadSchema>;

/** A payload of a stream, read; `choices` may be absent. Throws `node-misbehaved` for what is none. */
export function readPayload(payload: string): AnswerPiece {
  return parseJsonWith(payloadSchema, payload, "node-misbehaved", "a piece of the node's answer");
}

/** The unstreamed answer that says the same as all payloads of a stream. Throws `node-misbehaved`. */
export function foldPayloads(path: ModelPath, payloads: readonly string[]): Record<string, unknown> {
  const pieces = payloads.filter((payload) => payload !== DONE_PAYLOAD).map(readPayload);
  const { id = "", created = 0, model = "" } = pieces[0] ?? {};
  const usage = pieces.findLast((piece) => piece.usage)?.usage;
  const counts = {
    promptTokens: usage?.prompt_tokens ?? 0,
    completionTokens: usage?.completion_tokens ?? 0,
  };
  const chunks = pieces.map((piece) => ({ ...piece, choices: (piece.choices ?? []) as OpenAiChoice[] }));
  return foldChunks(chunks, counts, { path, id, created, model });
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
  for (const { delta } of choices) {
    const { role, tool_calls, ...texts } = delta ?? {};
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
