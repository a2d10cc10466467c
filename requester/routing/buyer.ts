// Owns the words of buying: what is wanted of the market, what it came to, and what is known of its nodes.
import type { Address, Hex } from "../../protocol/bytes.ts";
import type { Prices } from "../../protocol/price.ts";
import type { ModelPath } from "../../protocol/wire.ts";

/** How a request is to be routed; what is left out is free. */
export type RouteWish = {
  /** The most that the request may cost over all attempts, in USDC base units. */
  maxCharge?: bigint | undefined;
  /** Nodes that come first, as long as they can serve. */
  prefer?: readonly Address[] | undefined;
  /** Nodes that are never asked. */
  omit?: readonly Address[] | undefined;
  /** Neither price may be above it. */
  priceCeiling?: Prices | undefined;
};

export type BuyInput = {
  path: ModelPath;
  /** The client's bytes; their model may be a name on sale, an alias, `auto:cheap` or `auto:fast`. */
  body: Uint8Array;
  wish?: RouteWish | undefined;
  signal?: AbortSignal | undefined;
  /** Called once, before the first payload: who answers. */
  onRoute?(route: { node: Address; model: string }): void;
  /** One OpenAI payload as text: an SSE chunk, [DONE], or the whole unstreamed body. */
  onPayload(payload: string): void;
};

/** One node that was asked. `outcome` is `served`, or the code of what went wrong. */
export type Attempt = {
  node: Address;
  model: string;
  outcome: string;
  /** What it cost at most, in USDC base units: its node's signed word, or what is the most by our own count. */
  charge: bigint;
};

/** What a request came to over all attempts. */
export type Bought = {
  jobId: Hex;
  requestId: Hex;
  node: Address;
  model: string;
  /** As the client sees them. */
  promptTokens: number;
  completionTokens: number;
  estimated: boolean;
  /** In millionths of a USDC base unit; `charge` is the same rounded up, in base units. */
  costMillionths: bigint;
  charge: bigint;
  text: string;
  finishReason: string;
  firstTokenMs: number;
  tokensPerSecond: number;
  attempts: Attempt[];
};

/** A model on sale now. */
export type SoldModel = {
  name: string;
  nodes: Address[];
  /** The offer with the least sum of both prices. */
  best: { node: Address } & Prices;
  /** What at least one node can do with it. */
  features: string[];
  /** The longest that one node offers, in tokens. */
  contextLength: number;
};

/** What is known of one node with one model. Times in Unix seconds. */
export type RouteRow = {
  node: Address;
  model: string;
  requests: number;
  /** Decaying averages; null until measured. */
  firstTokenMs: number | null;
  tokensPerSecond: number | null;
  /** The share of requests that failed: a decaying average from 0 to 1. */
  errorRate: number;
  /** Newest first, three at most. */
  lastErrors: { at: number; code: string; message: string }[];
  /** Until then it is asked only when nobody else can serve, and why. */
  coolUntil: number | null;
  coolReason: string | null;
  /** What shows that the node lied: it is not asked any more until it is forgiven. */
  dropped: string | null;
};

/** Buys answers on the market: chooses nodes, fails over, and measures. */
export type Buyer = {
  /** Throws the last node's error by its code, `no-node`, `over-budget`, `bad-request`, `unsupported`, `interrupted`. */
  buy(input: BuyInput): Promise<Bought>;
  /** Every model on sale now, by name. */
  models(): Promise<SoldModel[]>;
  table(): RouteRow[];
  stop(): Promise<void>;
};
