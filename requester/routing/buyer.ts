// Owns buying on the market: which nodes are asked for a request, and how another one takes over from one that fails.
import type { Address } from "../../protocol/bytes.ts";
import { InfernetError } from "../../protocol/errors.ts";
import type { Prices } from "../../protocol/price.ts";
import type { ModelPath } from "../../protocol/wire.ts";
import type { Choice } from "../choose.ts";
import type { ModelRequest } from "../model-request.ts";
import type { SessionBill } from "../sessions/session-request.ts";
import type { Sessions } from "../sessions/sessions.ts";
import type { Limits } from "./attempt.ts";
import type { Knowledge } from "./candidates.ts";
import type { Market } from "./market.ts";
import type { Measures } from "./measures.ts";
import type { ModelAliases } from "./model-names.ts";
import { Purchase } from "./purchase.ts";
import { routeRows, soldModels } from "./route-table.ts";
import type { Verdicts } from "./verdicts.ts";

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

/**
 * What a request came to over all attempts: counts as the client sees them, costs summed; job and request are those of
 * the node that answered last, zero where its word never came.
 */
export type Bought = SessionBill & { attempts: Attempt[] };

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

export type BuyerDeps = {
  market: Market;
  measures: Measures;
  verdicts: Verdicts;
  ask: Sessions["ask"];
  /** The most that a request may cost whose wish names no limit, in USDC base units. */
  maxCharge(): bigint;
  /** Looks again at what was delivered; what it finds wrong it keeps as evidence. */
  check?(delivered: Delivered): void;
  aliases?: ModelAliases | undefined;
  /** From 0 to below 1: chance, and in tests what they say. */
  random?(): number;
  limits?: Partial<Limits> | undefined;
};

/** An answer as one node delivered it whole. */
export type Delivered = { request: ModelRequest; choice: Choice; bill: SessionBill; isPlain: boolean };

/** A buyer over a market; it does nothing by itself until it is asked. */
export function createBuyer(deps: BuyerDeps): Buyer {
  const { market, measures, verdicts } = deps;
  const stopped = new AbortController();
  const running = new Map<Address, number>();
  const known: Knowledge = {
    verdictOn: (node) => verdicts.on(node),
    measureOf: (node, model) => measures.of(node, model),
    inFlight: (node) => running.get(node) ?? 0,
    random: deps.random ?? Math.random,
  };
  const count = (node: Address, change: number) => running.set(node, known.inFlight(node) + change);

  return {
    async buy(input) {
      const signals = [stopped.signal, ...(input.signal ? [input.signal] : [])];
      return await new Purchase(deps, known, { ...input, signal: AbortSignal.any(signals) }, count).run();
    },
    models: async () => soldModels(await market.view(), known),
    table: () => routeRows(measures, verdicts),
    async stop() {
      stopped.abort(new InfernetError("interrupted", "the buyer is stopping"));
      await market.stop();
    },
  };
}
