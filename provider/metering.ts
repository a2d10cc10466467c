// Owns the arithmetic of one request: what its upstream's events count to, what must be covered, what to ask for next.

import type { OpenAiChunk } from "../protocol/openai-answer.ts";
import {
  costMillionths,
  estimatePromptTokens,
  type Prices,
  roundCharge,
  type TokenCounts,
} from "../protocol/price.ts";
import type { UpstreamEvent } from "./upstreams/upstream.ts";

/** What a request is metered by. `maxTokens` is the most completion tokens that it may make. */
export type MeterTerms = {
  prices: Prices;
  chunkTokens: number;
  maxTokens: number;
  promptTextBytes: number;
  /** The most prompt tokens that the requester believes. */
  promptTokenBound: number;
};

/**
 * What a request's events came to. `counts.promptTokens` is zero until the upstream tells it; `counted` says that the
 * upstream gave its final usage; `textBytes` are the UTF-8 bytes of all text made.
 */
export type Metered = { counts: TokenCounts; counted: boolean; textBytes: number };

export const NOTHING_METERED: Metered = {
  counts: { promptTokens: 0, completionTokens: 0 },
  counted: false,
  textBytes: 0,
};

/** The meter after one more event: deltas count as they come, the upstream's own usage replaces the count. */
export function meterEvent(metered: Metered, event: UpstreamEvent): Metered {
  const { counts, counted, textBytes } = metered;
  if (event.type === "chunk") {
    const completionTokens = counts.completionTokens + event.tokens;
    return {
      counts: { ...counts, completionTokens },
      counted,
      textBytes: textBytes + textBytesOf(event.chunk),
    };
  }
  const { promptTokens, completionTokens, final } = event;
  return { counts: { promptTokens, completionTokens }, counted: counted || final, textBytes };
}

/** UTF-8 bytes of the text in a chunk: what a model wrote, whichever members carry it. */
export function textBytesOf(chunk: OpenAiChunk): number {
  return (chunk.choices ?? []).reduce((sum, { text, delta }) => {
    const { role: _role, ...written } = delta ?? {};
    return sum + stringBytes(text) + stringBytes(written);
  }, 0);
}

function stringBytes(value: unknown): number {
  if (typeof value === "string") return Buffer.byteLength(value);
  if (typeof value !== "object" || value === null) return 0;
  return Object.values(value).reduce((sum, member) => sum + stringBytes(member), 0);
}

/** What the metered part costs in millionths of a base unit; a prompt not yet counted stands at its estimate. */
export function coverOf(metered: Metered, terms: MeterTerms): bigint {
  return coverWith(metered, terms, metered.counts.completionTokens);
}

/** The cover that a request needs before its model runs: prefill and two chunks of a stream, or the whole of it. */
export function firstCover(terms: MeterTerms, stream: boolean): bigint {
  const { chunkTokens, maxTokens } = terms;
  return coverWith(NOTHING_METERED, terms, stream ? Math.min(2 * chunkTokens, maxTokens) : maxTokens);
}

/**
 * The cover to ask for when less than one chunk of `covered` is left, or undefined while there is enough: one chunk
 * more, so that never more than two chunks are paid ahead, and none that the request's limit cannot reach.
 */
export function nextCover(metered: Metered, terms: MeterTerms, covered: bigint): bigint | undefined {
  const cover = coverOf(metered, terms);
  const chunk = BigInt(terms.chunkTokens) * terms.prices.outputPrice;
  if (covered - cover >= chunk) return undefined;
  const wanted = least(greatest(covered, cover) + chunk, coverWith(metered, terms, terms.maxTokens));
  return wanted > covered ? wanted : undefined;
}

function coverWith({ counts }: Metered, terms: MeterTerms, completionTokens: number): bigint {
  const promptTokens = counts.promptTokens || estimatePromptTokens(terms.promptTextBytes);
  return costMillionths({ promptTokens, completionTokens }, terms.prices);
}

/** Counts that a requester can believe: no more completion tokens than bytes of text, no more prompt than it can hold. */
export function believableCounts({ counts, textBytes }: Metered, terms: MeterTerms): TokenCounts {
  return {
    promptTokens: Math.min(counts.promptTokens, terms.promptTokenBound),
    completionTokens: Math.min(counts.completionTokens, textBytes),
  };
}

/** The largest counts under these that `covered` millionths pay for: completion first, then the prompt. */
export function coveredCounts(counts: TokenCounts, prices: Prices, covered: bigint): TokenCounts {
  const completionTokens = affordable(counts.completionTokens, prices.outputPrice, covered);
  const left = covered - BigInt(completionTokens) * prices.outputPrice;
  return { promptTokens: affordable(counts.promptTokens, prices.inputPrice, left), completionTokens };
}

function affordable(tokens: number, price: bigint, money: bigint): number {
  if (price === 0n || BigInt(tokens) * price <= money) return tokens;
  return Number(money / price);
}

function least(left: bigint, right: bigint): bigint {
  return left < right ? left : right;
}

export function greatest(left: bigint, right: bigint): bigint {
  return left > right ? left : right;
}

/** Millionths of a base unit that a cumulative amount of base units pays for. */
export function millionthsOf(amount: bigint): bigint {
  return amount * 1_000_000n;
}

/** What is still reserved of `covered` beyond what these counts cost, in base units. */
export function reservationOf(covered: bigint, counts: TokenCounts, prices: Prices): bigint {
  const left = covered - costMillionths(counts, prices);
  return left > 0n ? roundCharge(left) : 0n;
}
