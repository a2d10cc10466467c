// Owns the judgement of an offer: fetching it from a stranger's server, and holding it against the chain's word.
import type { Chain, NodeListing } from "../chain/chain.ts";
import type { Hex } from "../protocol/bytes.ts";
import { InfernetError } from "../protocol/errors.ts";
import {
  checkPriceCeiling,
  type OfferedModel,
  offerDigest,
  offeredModel,
  parseServedOffer,
  type SignedOffer,
} from "../protocol/offer.ts";
import { OFFER_PATH } from "../protocol/wire.ts";
import { fetchUnpinned } from "../runtime/http-client.ts";
import { isLoopbackHost } from "../runtime/loopback.ts";
import { recoverSigner } from "../runtime/signers/secp256k1.ts";

type Shown = { text: string; tlsKeyHash: Hex | null };

/** A node with its offer, judged but for single models. */
export type Seller = { listing: NodeListing; signedOffer: SignedOffer; latencyMs: number };

export type OfferDeps = {
  chain: Pick<Chain, "domain" | "deployment" | "chainId">;
  /** Whether endpoints may lead into private networks on a real chain, too. */
  allowPrivate?: boolean | undefined;
};

const OFFER_TIMEOUT_MS = 4_000;
/** An offer must outlive the opening that it gates. */
const OPENING_SECONDS = 60;
/** Hardhat's chain and its like: whoever lists nodes there runs them here. */
const LOCAL_CHAIN_ID = 31_337;

/**
 * Fetches and judges a node's offer. Throws `offer-invalid`, `node-key-mismatch`, or `node-unreachable`: also for an
 * endpoint in a private network, where it is not allowed.
 */
export async function readSeller(deps: OfferDeps, listing: NodeListing, now: number): Promise<Seller> {
  const { chain, allowPrivate = false } = deps;
  checkEndpoint(listing.endpoint);
  const reach = allowPrivate || chain.chainId === LOCAL_CHAIN_ID ? "any" : "public";
  const startedAt = performance.now();
  const shown = await fetchUnpinned(listing.endpoint, OFFER_PATH, { timeoutMs: OFFER_TIMEOUT_MS, reach });
  const latencyMs = performance.now() - startedAt;
  return { listing, signedOffer: checkServedOffer(shown, { chain, listing, now }), latencyMs };
}

function checkEndpoint(endpoint: string): void {
  const url = URL.canParse(endpoint) ? new URL(endpoint) : undefined;
  if (url?.protocol === "https:" || (url?.protocol === "http:" && isLoopbackHost(url.hostname))) return;
  throw new InfernetError("offer-invalid", "its endpoint is not https");
}

type OfferScene = { chain: OfferDeps["chain"]; listing: NodeListing; now: number };

/** Judges a served offer against the chain's word on its node. Throws `offer-invalid` or `node-key-mismatch`. */
export function checkServedOffer(shown: Shown, { chain, listing, now }: OfferScene): SignedOffer {
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
  refuseIf(!isLasting(signedOffer, now), "its offer has expired, or is about to");
  const isHttps = listing.endpoint.startsWith("https:");
  if (isHttps && (offer.tlsKeyHash === null || offer.tlsKeyHash !== shown.tlsKeyHash)) {
    throw new InfernetError("node-key-mismatch", "its server shows another TLS key than its offer names");
  }
  return signedOffer;
}

/** Whether a job can still be opened by this offer at this block time. */
export function isLasting({ offer }: SignedOffer, now: number): boolean {
  return offer.expires >= now + OPENING_SECONDS;
}

/**
 * A seller's model at the prices it offers. Throws `upstream-unreachable` for a node that has nothing to offer now,
 * `model-not-offered`, or `offer-invalid` above the Registry's ceiling.
 */
export function pickModel(
  { listing, signedOffer }: Pick<Seller, "listing" | "signedOffer">,
  name: string,
): OfferedModel {
  const { offer } = signedOffer;
  if (offer.models.length === 0 || offer.capacity === 0) {
    throw new InfernetError("upstream-unreachable", "it offers nothing now: what runs its models is down", {
      hint: "Choose another node, or try again later.",
    });
  }
  const model = offeredModel(offer, name);
  checkPriceCeiling(model, listing.models);
  return model;
}
