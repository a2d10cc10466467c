// Owns the choice of a node: what the Registry lists, what nodes offer, and why an offer is refused.
import type { Chain, NodeListing } from "../chain/chain.ts";
import type { Address } from "../protocol/bytes.ts";
import { InfernetError } from "../protocol/errors.ts";
import { checkFeatures } from "../protocol/features.ts";
import type { OfferedModel, SignedOffer } from "../protocol/offer.ts";
import { estimatePromptTokens, formatUsdc } from "../protocol/price.ts";
import type { Clock } from "../runtime/clock.ts";
import { readBlockTime } from "./block-time.ts";
import { completionLimit, type ModelRequest } from "./model-request.ts";
import { type OfferDeps, pickModel, readSeller, type Seller } from "./offer-check.ts";
import { estimateCost, firstReceiptAmount } from "./sizing.ts";

export type NodeWish = {
  request: ModelRequest;
  /** Only this node will do. */
  node?: Address | undefined;
  /** The most that the request may cost, in USDC base units. */
  maxCharge: bigint;
  /** Whether the node is to open the job, for its fee. */
  isRelayed?: boolean;
};

export type Choice = {
  node: Address;
  endpoint: string;
  signedOffer: SignedOffer;
  model: OfferedModel;
  /** The expected cost of this request at most, in USDC base units. */
  estimatedCost: bigint;
  latencyMs: number;
};

/** Why a node is not asked. */
export type Refusal = { node: Address; error: InfernetError };

export type ChooseDeps = OfferDeps & {
  chain: Chain;
  clock: Clock;
  /** Why a node is not to be asked any more; undefined when nothing speaks against it. */
  verdictOn?(node: Address): string | undefined;
};

/** Nodes asked for one request: those whose listed prices are the lowest. */
const MOST_NODES_ASKED = 24;

/**
 * The cheapest node for a request, then the nearest. Throws `no-node`, or the one reason when there is only one; the
 * message names every node that was asked and why it was refused.
 */
export async function chooseNode(deps: ChooseDeps, wish: NodeWish): Promise<Choice> {
  const [listings, now] = await Promise.all([
    findListings(deps.chain, wish),
    readBlockTime(deps.chain, deps.clock),
  ]);
  const { model } = wish.request;
  const answers = await Promise.all(
    listings.map(({ node }, index) =>
      refusalOr(node, async () => {
        checkVerdict(node, deps.verdictOn?.(node));
        return fitRequest(await readSeller(deps, listings[index]!, now), model, wish);
      }),
    ),
  );
  const choices = answers.filter((answer) => "signedOffer" in answer);
  const [best] = choices.sort(
    (a, b) => Number(a.estimatedCost - b.estimatedCost) || a.latencyMs - b.latencyMs,
  );
  if (best) return best;
  throw explainRefusals(
    model,
    answers.filter((answer) => "error" in answer),
  );
}

/** Throws `node-misbehaved` for a node that something speaks against. */
export function checkVerdict(node: Address, verdict: string | undefined): void {
  if (verdict === undefined) return;
  throw new InfernetError("node-misbehaved", `it was dropped: ${verdict}`, {
    hint: `It is asked again once you forgive it: infernet nodes --forgive ${node}.`,
  });
}

async function refusalOr<Value>(node: Address, act: () => Promise<Value>): Promise<Value | Refusal> {
  try {
    return await act();
  } catch (error) {
    if (error instanceof InfernetError) return { node, error };
    throw error;
  }
}

async function findListings(chain: Chain, { node, request }: NodeWish): Promise<NodeListing[]> {
  if (node !== undefined) {
    const listing = await chain.getNode(node);
    if (listing?.active) return [listing];
    const state = listing ? "is switched off" : "is not registered";
    throw new InfernetError("no-node", `the node ${node} ${state}`, { hint: "See `infernet nodes`." });
  }
  const active = (await chain.listNodes()).filter((listing) => listing.active);
  const ceiling = ({ models }: NodeListing) => {
    const model = models.find(({ name }) => name === request.model);
    return model && model.inputPrice + model.outputPrice;
  };
  const found = active
    .map((listing) => ({ listing, price: ceiling(listing) }))
    .filter((entry): entry is { listing: NodeListing; price: bigint } => entry.price !== undefined)
    .sort((a, b) => Number(a.price - b.price))
    .slice(0, MOST_NODES_ASKED);
  if (found.length > 0) return found.map(({ listing }) => listing);
  const names = [...new Set(active.flatMap(({ models }) => models.map(({ name }) => name)))];
  throw noSuchModel(request.model, names);
}

/** `no-node` for a model that nobody has, with names that somebody has. */
export function noSuchModel(model: string, names: readonly string[]): InfernetError {
  return new InfernetError("no-node", `no active node lists the model "${model}"`, {
    hint:
      names.length === 0
        ? "No node is active on this chain."
        : `Models listed: ${names.slice(0, 10).join(", ")}.`,
  });
}

/**
 * A seller as the choice for a request of one of its models: the request fits the offer, and its first step the budget.
 * Throws `model-not-offered`, `offer-invalid`, `unsupported`, `bad-request` or `over-budget`.
 */
export function fitRequest(seller: Seller, modelName: string, wish: Omit<NodeWish, "node">): Choice {
  const { listing, signedOffer, latencyMs } = seller;
  const { offer } = signedOffer;
  const { request, maxCharge, isRelayed = false } = wish;
  const model = pickModel(seller, modelName);
  const openingFee = isRelayed ? offer.openingFee : 0n;
  checkFeatures(model, request.features);
  const limit = completionLimit(request, offer);
  const promptTokens = estimatePromptTokens(request.promptTextBytes);
  if (promptTokens >= model.contextLength) {
    throw new InfernetError("bad-request", `its context of ${model.contextLength} tokens is too small`);
  }
  const aheadTokens = request.stream ? Math.min(offer.chunkTokens, limit) : limit;
  const first = firstReceiptAmount(request, model, aheadTokens, openingFee);
  if (first > maxCharge) {
    throw new InfernetError(
      "over-budget",
      `it needs ${formatUsdc(first)} USDC to start, above the limit of ${formatUsdc(maxCharge)}`,
      { hint: "Allow a higher charge, or ask for fewer tokens." },
    );
  }
  const estimatedCost = estimateCost(request, model, offer, openingFee);
  return { node: listing.node, endpoint: listing.endpoint, signedOffer, model, estimatedCost, latencyMs };
}

/** `no-node` with every node's reason, or the one reason where all are of one kind. */
export function explainRefusals(model: string, refusals: readonly Refusal[]): InfernetError {
  const codes = new Set(refusals.map(({ error }) => error.code));
  const [first] = refusals;
  const code = codes.size === 1 ? first!.error.code : "no-node";
  const reasons = refusals.map(({ node, error }) => `${node}: ${error.message}`).join("; ");
  return new InfernetError(code, `no node can serve "${model}" (${reasons})`, {
    hint: codes.size === 1 ? first!.error.hint : "See `infernet nodes` for others.",
  });
}
