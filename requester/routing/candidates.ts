// Owns who could serve a request and in what order they are asked: hard wishes first, then load, then price or speed.
import type { Address, Hex } from "../../protocol/bytes.ts";
import { ZERO_WORD } from "../../protocol/bytes.ts";
import { InfernetError } from "../../protocol/errors.ts";
import {
  type Choice,
  checkVerdict,
  explainRefusals,
  fitRequest,
  noSuchModel,
  type Refusal,
} from "../choose.ts";
import { completionLimit, type ModelRequest } from "../model-request.ts";
import type { Seller } from "../offer-check.ts";
import type { RouteWish } from "./buyer.ts";
import type { MarketView } from "./market.ts";
import type { Measure } from "./measures.ts";
import { describeWanted, isWantedModel, type WantedModel } from "./model-names.ts";

export type Candidate = { choice: Choice; measure: Measure };

export type RouteRequest = {
  request: ModelRequest;
  wanted: WantedModel;
  wish: RouteWish;
  /** What is left for it, in USDC base units. */
  maxCharge: bigint;
  /** Nodes that were asked before. */
  tried: ReadonlySet<Address>;
  /** The weights that must go on with an answer; any where undefined. */
  digest: Hex | undefined;
};

export type Knowledge = {
  verdictOn(node: Address): string | undefined;
  measureOf(node: Address, model: string): Measure;
  /** Requests of ours that run there now. */
  inFlight(node: Address): number;
  /** From 0 to below 1. */
  random(): number;
};

/** The share of requests for the fastest node that go to one that was never measured, while there is one. */
const EXPLORED_SHARE = 0.1;
/** An answer of unknown length counts as so many tokens when nodes are compared by speed. */
const USUAL_TOKENS = 256;
const WORST_ERROR_RATE = 0.9;

/** Those who can serve, best first. Throws why nobody can. */
export function findCandidates(
  view: MarketView,
  route: RouteRequest,
  known: Knowledge,
): [Candidate, ...Candidate[]] {
  const refusals: Refusal[] = [];
  const candidates: Candidate[] = [];
  for (const seller of view.sellers) {
    for (const { name } of seller.signedOffer.offer.models) {
      if (!isWantedModel(name, route.wanted)) continue;
      const judged = judge(seller, name, route, known);
      if ("error" in judged) refusals.push(judged);
      else candidates.push({ choice: judged, measure: known.measureOf(judged.node, name) });
    }
  }
  const [best, ...others] = rank(candidates, route, known);
  if (best) return [best, ...others];
  throw explainNone(view, route.wanted, refusals);
}

function judge(seller: Seller, name: string, route: RouteRequest, known: Knowledge): Choice | Refusal {
  const { node } = seller.listing;
  const { omit = [], priceCeiling } = route.wish;
  try {
    if (omit.includes(node)) throw new InfernetError("no-node", "it is to be left out");
    if (route.tried.has(node)) throw new InfernetError("no-node", "it was asked before");
    checkVerdict(node, known.verdictOn(node));
    const choice = fitRequest(seller, name, route);
    const { model, signedOffer } = choice;
    if (signedOffer.offer.capacity === 0) throw new InfernetError("node-busy", "it has no room now");
    if (route.digest !== undefined && (model.digest !== route.digest || route.digest === ZERO_WORD))
      throw new InfernetError("model-not-offered", "its model is not known to have the same weights");
    if (
      priceCeiling &&
      (model.inputPrice > priceCeiling.inputPrice || model.outputPrice > priceCeiling.outputPrice)
    )
      throw new InfernetError("over-budget", "its prices are above the ceiling");
    return choice;
  } catch (error) {
    if (error instanceof InfernetError) return { node, error };
    throw error;
  }
}

/** Who can serve now comes before whom we already fill, and both before those that cool down. */
function rank(candidates: readonly Candidate[], route: RouteRequest, known: Knowledge): Candidate[] {
  const { prefer = [] } = route.wish;
  const isFast = route.wanted.kind === "auto" && route.wanted.by === "fast";
  const weigh = (candidate: Candidate): [Candidate, number[]] => {
    const { choice, measure } = candidate;
    const cost = Number(choice.estimatedCost);
    const preferred = prefer.indexOf(choice.node);
    // One in so many requests fails there and has to be asked for again.
    const tries = 1 / (1 - Math.min(measure.errorRate, WORST_ERROR_RATE));
    const first = measure.firstTokenMs ?? choice.latencyMs;
    return [
      candidate,
      [
        readiness(candidate, known),
        measure.coolUntil ?? 0,
        preferred === -1 ? prefer.length : preferred,
        ...(isFast ? [expectedMs(candidate, route) * tries, cost] : [cost * tries, first]),
      ],
    ];
  };
  const ranked = candidates
    .map(weigh)
    .sort(([, one], [, other]) => compareWeights(one, other))
    .map(([candidate]) => candidate);
  return isFast ? explore(ranked, known) : ranked;
}

function readiness({ choice, measure }: Candidate, known: Knowledge): number {
  if (measure.coolUntil !== null) return 2;
  return known.inFlight(choice.node) >= choice.signedOffer.offer.capacity ? 1 : 0;
}

/** Now and then a node that was never measured comes first: else nobody would ever know that it is faster. */
function explore(ranked: Candidate[], known: Knowledge): Candidate[] {
  const unknown = ranked.filter(
    (candidate) => readiness(candidate, known) === 0 && candidate.measure.tokensPerSecond === null,
  );
  if (unknown.length === 0 || known.random() >= EXPLORED_SHARE) return ranked;
  const explored = unknown[Math.floor(known.random() * unknown.length)]!;
  return [explored, ...ranked.filter((candidate) => candidate !== explored)];
}

/** Milliseconds to the end of the answer, as measured; never measured is slower than anything. */
function expectedMs({ choice, measure }: Candidate, { request }: RouteRequest): number {
  const { firstTokenMs, tokensPerSecond } = measure;
  if (tokensPerSecond === null) return Number.MAX_SAFE_INTEGER;
  const tokens = Math.min(completionLimit(request, choice.signedOffer.offer), USUAL_TOKENS);
  return (firstTokenMs ?? 0) + (1000 * tokens) / tokensPerSecond;
}

function compareWeights(one: readonly number[], other: readonly number[]): number {
  for (const [index, weight] of one.entries()) if (weight !== other[index]) return weight - other[index]!;
  return 0;
}

/** What sellers of the model say against it; where there are none, what keeps away those who list it. */
function explainNone(
  { sellers, absent }: MarketView,
  wanted: WantedModel,
  refusals: readonly Refusal[],
): InfernetError {
  const names = [
    ...new Set(sellers.flatMap(({ signedOffer }) => signedOffer.offer.models.map(({ name }) => name))),
  ];
  const name = describeWanted(wanted);
  if (refusals.length > 0) return explainRefusals(name, refusals);
  const away = absent.filter(({ listing }) =>
    listing.models.some((model) => isWantedModel(model.name, wanted)),
  );
  if (away.length === 0) return noSuchModel(name, names);
  return explainRefusals(
    name,
    away.map(({ listing, error }) => ({ node: listing.node, error })),
  );
}
