// Owns the form of an OpenAI request: reading its exact bytes, and what no node serves.
import { z } from "zod";
import { InfernetError } from "./errors.ts";
import { promptTextBytes } from "./prompt.ts";
import { parseJsonWith } from "./schema.ts";
import type { ModelPath } from "./wire.ts";

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

/**
 * Members that cost the node more than what is paid for: a hosted service bills them on their own, or a server takes
 * them for a longer prompt or a longer answer than the ones that the payment was sized for.
 */
const COSTLY_MEMBERS = [
  "service_tier",
  "store",
  "background",
  "web_search_options",
  "prediction",
  "use_beam_search",
  "n_predict",
  "documents",
  "chat_template",
  "chat_template_kwargs",
];

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

/** Throws `bad-request` for a member that costs a node more than what is paid for. */
export function refuseCostlyMembers(body: Readonly<Record<string, unknown>>): void {
  const member = COSTLY_MEMBERS.find((name) => ![undefined, null, false].includes(body[name] as undefined));
  if (member === undefined) return;
  throw new InfernetError("bad-request", `nodes do not serve ${member}: leave it out`);
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
