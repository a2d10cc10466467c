// Owns what the requester knows of a request before it pays: its exact bytes, its hash, and how large it can become.
import { z } from "zod";
import type { Hex } from "../protocol/bytes.ts";
import { InfernetError } from "../protocol/errors.ts";
import { featuresOf, type ModelFeature } from "../protocol/features.ts";
import { requestHashOf } from "../protocol/job.ts";
import type { Offer } from "../protocol/offer.ts";
import { promptTextBytes, promptTokenBound } from "../protocol/prompt.ts";
import { parseJsonWith } from "../protocol/schema.ts";
import type { ModelPath } from "../protocol/wire.ts";

export type ModelRequest = {
  path: ModelPath;
  /** Exactly what is hashed and sent. */
  body: Uint8Array;
  requestHash: Hex;
  model: string;
  stream: boolean;
  /** Completion tokens that the request allows; undefined when it names no limit. */
  maxTokens: number | undefined;
  promptTextBytes: number;
  /** The most prompt tokens that a node may count. */
  promptTokenBound: number;
  /** What the model must do. */
  features: ModelFeature[];
};

const tokenLimit = z.int().positive().nullish();
const bodySchema = z.looseObject({
  model: z.string().min(1).max(128),
  stream: z.boolean().nullish(),
  n: z.literal(1, "a job pays for one answer: leave n out").nullish(),
  max_tokens: tokenLimit,
  max_completion_tokens: tokenLimit,
  messages: z.array(z.unknown()).nullish(),
});

/** Reads a request's exact bytes. Throws `bad-request`. */
export function readModelRequest(path: ModelPath, body: Uint8Array): ModelRequest {
  const text = new TextDecoder().decode(body);
  const read = parseJsonWith(bodySchema, text, "bad-request", "the request body");
  return {
    path,
    body,
    requestHash: requestHashOf(path, body),
    model: read.model,
    stream: path !== "/v1/embeddings" && read.stream === true,
    maxTokens: path === "/v1/embeddings" ? 0 : (read.max_completion_tokens ?? read.max_tokens ?? undefined),
    promptTextBytes: promptTextBytes(read),
    promptTokenBound: promptTokenBound(read),
    features: featuresOf(path, read),
  };
}

/** The most completion tokens that this request may cost under an offer. Throws `bad-request` above the offer's limit. */
export function completionLimit(request: ModelRequest, offer: Pick<Offer, "maxCompletionTokens">): number {
  const { maxCompletionTokens } = offer;
  if (request.maxTokens === undefined) return maxCompletionTokens;
  if (request.maxTokens <= maxCompletionTokens) return request.maxTokens;
  throw new InfernetError(
    "bad-request",
    `the node gives at most ${maxCompletionTokens} tokens, not ${request.maxTokens}`,
    { hint: "Lower max_tokens, or choose another node." },
  );
}
