// Owns the node's offer: built from what is up and listed, signed, renewed in time, and kept until its jobs close.
import type { Address, Hex } from "../protocol/bytes.ts";
import { InfernetError } from "../protocol/errors.ts";
import {
  decodeOffer,
  encodeOffer,
  type ListedModel,
  type Offer,
  type OfferedModel,
  offerDigest,
  type SignedOffer,
} from "../protocol/offer.ts";
import type { Prices } from "../protocol/price.ts";
import { toJson } from "../protocol/schema.ts";
import type { Domain } from "../protocol/typed-data.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Log } from "../runtime/logger.ts";
import type { Signer } from "../runtime/signers/secp256k1.ts";
import type { Store } from "../runtime/store.ts";
import type { ProviderConfig } from "./config.ts";
import type { Dispatcher } from "./dispatch.ts";
import type { UpstreamModel } from "./upstreams/upstream.ts";

/** What of a node's entry in the Registry matters to its offers. */
export type OfferListing = { payee: Address; models: readonly ListedModel[]; active: boolean };

export type OfferDependencies = {
  config: ProviderConfig;
  domain: Domain;
  contracts: { registry: Address; escrow: Address; usdc: Address };
  /** What the Registry says of this node now; undefined when it is not registered. */
  listing: () => Promise<OfferListing | undefined>;
  tlsKeyHash: Hex | null;
  dispatcher: Pick<Dispatcher, "listModels" | "capacityFor" | "snapshot" | "subscribe">;
  signer: Signer;
  store: Store;
  clock: Clock;
  log: Log;
};

export type Offers = {
  /** The offer that new jobs may be opened under. */
  current(): SignedOffer;
  /** An offer that this node once signed and still keeps. */
  byHash(offerHash: Hex): SignedOffer | undefined;
  /** What the Registry said of this node when it was last asked; undefined once it does not know the node any more. */
  listing(): OfferListing | undefined;
  /** Asks the Registry, and signs a new offer when terms changed or half of the old one's life is over. */
  refresh(): Promise<SignedOffer>;
  /** Refreshes by itself from now on. */
  keepFresh(): void;
  stop(): void;
};

type Terms = Omit<Offer, "issuedAt" | "expires">;
type OfferRow = { bytes: Uint8Array; signature: Hex };

const LONGEST_REFRESH_SECONDS = 60;
/** No job lives longer than 30 days, and until its first request nobody sees under which offer it was opened. */
const KEPT_SECONDS = 31 * 24 * 3600;
/** Block time may lag behind this clock: an opening right now must not come before its offer. */
const CLOCK_SKEW_SECONDS = 60;

/**
 * The node's offers, with a first one signed and kept; whenever the upstreams change, the next is signed at once. Throws
 * `not-registered` without a listing, and `model-not-found` when all upstreams are up and have no listed model.
 */
export async function createOffers(deps: OfferDependencies): Promise<Offers> {
  const { config, domain, signer, store, clock, log, dispatcher } = deps;
  const insert = store.db.prepare(
    "INSERT OR IGNORE INTO offers (offer_hash, bytes, signature, issued_at, expires) VALUES (?, ?, ?, ?, ?)",
  );
  const find = store.db.prepare("SELECT bytes, signature FROM offers WHERE offer_hash = ?");
  const forget = store.db.prepare("DELETE FROM offers WHERE expires < ?");

  const sign = (terms: Terms): SignedOffer => {
    const now = clock.nowSeconds();
    const issuedAt = now - CLOCK_SKEW_SECONDS;
    const bytes = encodeOffer({ ...terms, issuedAt, expires: now + config.offerLifeSeconds });
    const { offer, offerHash } = decodeOffer(bytes);
    const signature = signer.signDigest(offerDigest(domain, offer, offerHash));
    store.transact(() => {
      forget.run(now - KEPT_SECONDS);
      insert.run(offerHash, bytes, signature, offer.issuedAt, offer.expires);
    });
    return { offer, bytes, offerHash, signature };
  };

  let listing = await deps.listing();
  if (!listing) throw notRegistered(signer.address);
  /** The entry that terms are made from: the last that there was. */
  let known = listing;
  refuseWithoutModels(deps, known.models);
  let current = sign(termsOf(deps, known));
  let timer: NodeJS.Timeout | undefined;
  let warned = "";
  const warnOfMissing = ({ models }: Terms) => {
    const missing = known.models.filter(({ name }) => !models.some((model) => model.name === name));
    const names = missing.map(({ name }) => name);
    if (names.length > 0 && names.join() !== warned)
      log.warn({ models: names }, "listed models that no upstream has");
    warned = names.join();
  };
  const revise = (): SignedOffer => {
    const terms = termsOf(deps, known);
    warnOfMissing(terms);
    const halfLife = current.offer.expires - config.offerLifeSeconds / 2;
    if (clock.nowSeconds() >= halfLife || !sameTerms(terms, current.offer)) current = sign(terms);
    return current;
  };
  const refresh = async () => {
    listing = await deps.listing();
    if (!listing) throw notRegistered(signer.address);
    known = listing;
    return revise();
  };
  const refreshSoon = () => {
    const seconds = Math.min(LONGEST_REFRESH_SECONDS, config.offerLifeSeconds / 4);
    timer = setTimeout(async () => {
      await refresh().catch((error: unknown) => log.warn({ error }, "the offer could not be renewed"));
      if (timer) refreshSoon();
    }, seconds * 1000).unref();
  };
  const unsubscribe = dispatcher.subscribe(({ type }) => {
    if (type !== "upstream") return;
    try {
      revise();
    } catch (error) {
      log.error({ error }, "the offer could not be signed anew");
    }
  });

  return {
    current: () => current,
    byHash(offerHash) {
      const row = find.get(offerHash) as OfferRow | undefined;
      return row && { ...decodeOffer(row.bytes), signature: row.signature };
    },
    listing: () => listing,
    refresh,
    keepFresh: refreshSoon,
    stop() {
      unsubscribe();
      clearTimeout(timer);
      timer = undefined;
    },
  };
}

function notRegistered(node: Address): InfernetError {
  return new InfernetError("not-registered", `the Registry does not know the node ${node}`, {
    hint: "Register it first: infernet register.",
  });
}

/** A node may wait for upstreams that are down; when all are up, waiting helps none of the listed models. */
function refuseWithoutModels({ dispatcher }: OfferDependencies, listed: readonly ListedModel[]): void {
  const available = dispatcher.listModels();
  if (offeredVariants(available, listed).length > 0) return;
  if (dispatcher.snapshot().upstreams.some(({ state }) => state === "down")) return;
  throw new InfernetError("model-not-found", "no upstream has any of the models that the Registry lists", {
    hint: `They have: ${available.map(({ name }) => name).join(", ") || "none"}.`,
  });
}

function termsOf(deps: OfferDependencies, { payee, models: listed }: OfferListing): Terms {
  const { config, domain, contracts, signer, tlsKeyHash, dispatcher } = deps;
  const models = offeredModels(config, dispatcher.listModels(), listed);
  const { endpoint, chunkTokens, receiptTimeoutSeconds, maxCompletionTokens } = config;
  const { longestRequestSeconds, minDeposit, openingFee, relayFee } = config;
  return {
    protocol: "infernet/1",
    node: signer.address,
    payee,
    chainId: Number(domain.chainId),
    ...contracts,
    endpoint,
    tlsKeyHash,
    models,
    chunkTokens,
    receiptTimeoutSeconds,
    maxCompletionTokens,
    longestRequestSeconds,
    minDeposit,
    openingFee,
    relayFee,
    capacity: dispatcher.capacityFor(models),
  };
}

/** What is up and the Registry lists, at the configured prices but never above the Registry's. */
function offeredModels(
  config: ProviderConfig,
  available: readonly UpstreamModel[],
  listed: readonly ListedModel[],
): OfferedModel[] {
  return offeredVariants(available, listed).map(({ model, ceiling }) => {
    const { name, digest, contextLength, features } = model;
    const prices = capPrices(config.prices.byModel[name] ?? config.prices.default, ceiling);
    return { name, digest, ...prices, contextLength, features };
  });
}

/** Of each listed model the one that the Registry names by its digest, else what the first upstream that has it has. */
function offeredVariants(available: readonly UpstreamModel[], listed: readonly ListedModel[]) {
  return listed.flatMap((ceiling) => {
    const variants = available.filter(({ name }) => name === ceiling.name);
    const model = variants.find(({ digest }) => digest === ceiling.digest) ?? variants[0];
    return model ? [{ model, ceiling }] : [];
  });
}

function capPrices(wanted: Prices, ceiling: Prices): Prices {
  const cap = (price: bigint, most: bigint) => (price < most ? price : most);
  return {
    inputPrice: cap(wanted.inputPrice, ceiling.inputPrice),
    outputPrice: cap(wanted.outputPrice, ceiling.outputPrice),
  };
}

function sameTerms(terms: Terms, { issuedAt: _issuedAt, expires: _expires, ...signed }: Offer): boolean {
  const byName = (left: OfferedModel, right: OfferedModel) => (left.name < right.name ? -1 : 1);
  const text = (one: Terms) =>
    toJson(
      Object.entries({ ...one, models: [...one.models].sort(byName) }).sort(([a], [b]) => (a < b ? -1 : 1)),
    );
  return text(terms) === text(signed);
}
