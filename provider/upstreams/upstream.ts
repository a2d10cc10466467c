// Owns what the provider asks of whatever runs its models: list them, generate with exact counts, stop when told.
import type { Hex } from "../../protocol/bytes.ts";
import type { ModelFeature } from "../../protocol/features.ts";
import type { OpenAiChunk } from "../../protocol/openai-answer.ts";
import type { ModelPath } from "../../protocol/wire.ts";

/** Tokens of prompt and completion together, where neither the model's server nor the node's settings tell. */
export const DEFAULT_CONTEXT_LENGTH = 4096;

export type UpstreamModel = {
  name: string;
  /** SHA-256 of the weights, or of what the upstream calls their digest; the zero word when it tells none. */
  digest: Hex;
  /** Tokens of prompt and completion together. */
  contextLength: number;
  /** All that it does here. */
  features: ModelFeature[];
};

export type UpstreamEvent =
  | {
      type: "chunk";
      chunk: OpenAiChunk;
      /** Completion tokens that it carries: 1 a delta where the upstream does not count, 0 where it carries no output. */
      tokens: number;
    }
  | {
      /** Absolute counts so far; the last event of a generation whose upstream counts is the final one. */
      type: "usage";
      promptTokens: number;
      completionTokens: number;
      final: boolean;
    };

export type Generation = {
  path: ModelPath;
  /** The OpenAI request, already checked by `readGenerationRequest`; members that nobody knows are passed on. */
  body: Record<string, unknown>;
  /** Ends the generation: the iterator then throws the signal's reason, and the model is free for the next one. */
  signal: AbortSignal;
};

/** How far a model has come; the bytes grow as more of it is known. */
export type PullProgress = { status: string; receivedBytes: number; totalBytes: number };

/**
 * A server or library that runs models. `generate` throws `model-not-found`, `bad-request`, `unsupported`, `upstream-unreachable`,
 * `upstream-timeout` or `upstream-failed`; whatever it yielded before stands.
 */
export type Upstream = {
  kind: "ollama" | "openai" | "embedded";
  listModels(): Promise<UpstreamModel[]>;
  generate(input: Generation): AsyncIterable<UpstreamEvent>;
  /** Loads models into memory, in this order and only as many as fit; resolves with the names of those that are there. */
  warmUp?(names: readonly string[], signal: AbortSignal): Promise<string[]>;
  /** Fetches a model that it does not have. Throws `model-not-found` or `upstream-failed`. */
  pull?(name: string, onProgress: (progress: PullProgress) => void, signal: AbortSignal): Promise<void>;
  close(): Promise<void>;
};
