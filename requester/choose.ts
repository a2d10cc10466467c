// Owns the choice of a node: what the Registry lists, what nodes offer, and why an offer is refused.
import type { Chain, NodeListing } from "../chain/chain.ts";
import type { Address, Hex } from "../protocol/bytes.ts";
import { InfernetError } from "../protocol/errors.ts";
import { checkFeatures } from "../protocol/features.ts";
import {
  checkPriceCeiling,
  type OfferedModel,
  offerDigest,
  offeredModel,
  parseServedOffer,
  type SignedOffer,
} from "../protocol/offer.ts";
import { estimatePromptTokens, formatUsdc } from "../protocol/price.ts";
import { OFFER_PATH } from "../protocol/wire.ts";
import type { Clock } from "../runtime/clock.ts";
import { fetchUnpinned } from "../runtime/http-client.ts";
import { recoverSigner } from "../runtime/signers/secp256k1.ts";
import { completionLimit, type ModelRequest } from "./model-request.ts";
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

type Shown = { text: string; tlsKeyHash: Hex | null };
type Refusal = { node: Address; error: InfernetError };

/** Nodes asked for one request: those whose listed prices are the lowest. */
const MOST_NODES_ASKED = 24;
const OFFER_TIMEOUT_MS = 4_000;
/** An offer must outlive the opening that it gates. */
const OPENING_SECONDS = 60;

/**
 * The cheapest node for a request, then the nearest. Throws `no-node`, or the one reason when there is only one; the
 * message names every node that was asked and why it was refused.
 */
export async function chooseNode(deps: { chain: Chain; clock: Clock }, wish: NodeWish): Promise<Choice> {
  const [listings, block] = await Promise.all([
    findListings(deps.chain, wish),
    deps.chain.getBlock("latest"),
  ]);
  // A block that is mined next has about the local time, however long ago the latest one was.
  const now = Math.max(block.timestamp, deps.clock.nowSeconds());
  const answers = await Promise.all(listings.map((listing) => askNode(deps.chain, listing, wish, now)));
  const choices = answers.filter((answer) => "signedOffer" in answer);
  const [best] = choices.sort(
    (a, b) => Number(a.estimatedCost - b.estimatedCost) || a.latencyMs - b.latencyMs,
  );
  if (best) return best;
  throw explainRefusals(
    wish.request.model,
    answers.filter((answer) => "error" in answer),
  );
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
  throw new InfernetError("no-node", `no active node lists the model "${request.model}"`, {
    hint:
      names.length === 0
        ? "No node is active on this chain."
        : `Models listed: ${names.slice(0, 10).join(", ")}.`,
  });
}

async function askNode(
  chain: Chain,
  listing: NodeListing,
  wish: NodeWish,
  now: number,
): Promise<Choice | Refusal> {
  const { node, endpoint } = listing;
  try {
    const startedAt = performance.now();
    const shown = await fetchOffer(endpoint);
    const latencyMs = performance.now() - startedAt;
    const { signedOffer, model } = checkServedOffer(shown, {
      chain,
      listing,
      model: wish.request.model,
      now,
    });
    const estimatedCost = checkFits(wish, signedOffer, model);
    return { node, endpoint, signedOffer, model, estimatedCost, latencyMs };
  } catch (error) {
    if (error instanceof InfernetError) return { node, error };
    throw error;
  }
}

/** What a node's server shows as its offer. Throws `offer-invalid` for an endpoint that is not safe, `node-unreachable`. */
export async function fetchOffer(endpoint: string): Promise<Shown> {
  checkEndpoint(endpoint);
  return await fetchUnpinned(endpoint, OFFER_PATH, { timeoutMs: OFFER_TIMEOUT_MS });
}

function checkEndpoint(endpoint: string): void {
  const url = URL.canParse(endpoint) ? new URL(endpoint) : undefined;
  const isLoopback = url !== undefined && /^(localhost|127(\.\d{1,3}){3}|\[::1\])$/.test(url.hostname);
  if (url?.protocol === "https:" || (url?.protocol === "http:" && isLoopback)) return;
  throw new InfernetError("offer-invalid", "its endpoint is not https");
}

type OfferScene = { chain: Pick<Chain, "domain" | "deployment">; listing: NodeListing; now: number };

/** Judges a served offer for one model. Throws `offer-invalid`, `node-key-mismatch` or `model-not-offered`. */
export function checkServedOffer(
  shown: Shown,
  expected: OfferScene & { model: string },
): { signedOffer: SignedOffer; model: OfferedModel } {
  const signedOffer = checkOfferOf(shown, expected);
  const model = offeredModel(signedOffer.offer, expected.model);
  checkPriceCeiling(model, expected.listing.models);
  return { signedOffer, model };
}

/** Judges a served offer against the chain's word on its node. Throws `offer-invalid` or `node-key-mismatch`. */
export function checkOfferOf(shown: Shown, { chain, listing, now }: OfferScene): SignedOffer {
  const { deployment } = chain;
  const signedOffer = parseServedOffer(shown.text);
  const { offer, offerHash, signature } = signedOffer;
  const refuseIf = (isWrong: boolean, message: string) => {
    if (isWrong) throw new InfernetError("offer-invalid", message);
  };
  refuseIf(offer.node !== listing.node, "its offer names another node");
  refuseIf(
    recoverSigner(offerDigest(chain.domain, offer, offerHash), signature) !== listing.node,
    "its offer is not signed by the node",
  );
  refuseIf(offer.chainId !== deployment.chainId, `its offer is for chain ${offer.chainId}`);
  for (const contract of ["registry", "escrow", "usdc"] as const)
    refuseIf(offer[contract] !== deployment[contract], `its offer names another ${contract}`);
  refuseIf(offer.payee !== listing.payee, "its offer names another payee than the Registry");
  refuseIf(offer.issuedAt > now, "its offer is not valid yet");
  refuseIf(offer.expires < now + OPENING_SECONDS, "its offer has expired, or is about to");
  const isHttps = listing.endpoint.startsWith("https:");
  if (isHttps && (offer.tlsKeyHash === null || offer.tlsKeyHash !== shown.tlsKeyHash)) {
    throw new InfernetError("node-key-mismatch", "its server shows another TLS key than its offer names");
  }
  return signedOffer;
}

/** The estimated cost, when the request fits the offer and its first step fits the budget. */
function checkFits(wish: NodeWish, { offer }: SignedOffer, model: OfferedModel): bigint {
  const { request, maxCharge, isRelayed = false } = wish;
  checkFeatures(model, request.features);
  const openingFee = isRelayed ? offer.openingFee : 0n;
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
  return estimateCost(request, model, offer, openingFee);
}

function explainRefusals(model: string, refusals: readonly Refusal[]): InfernetError {
  const codes = new Set(refusals.map(({ error }) => error.code));
  const [first] = refusals;
  const code = codes.size === 1 ? first!.error.code : "no-node";
  const reasons = refusals.map(({ node, error }) => `${node}: ${error.message}`).join("; ");
  return new InfernetError(code, `no node can serve "${model}" (${reasons})`, {
    hint: codes.size === 1 ? first!.error.hint : "See `infernet nodes` for others.",
  });
}
