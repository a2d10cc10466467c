// Owns the node's offer: built from what the upstream has, signed, renewed in time, and kept until its jobs close.
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
import type { Upstream } from "./upstreams/upstream.ts";

export type OfferDependencies = {
  config: ProviderConfig;
  domain: Domain;
  contracts: { registry: Address; escrow: Address; usdc: Address };
  /** What the Registry says of this node now; undefined when it is not registered. */
  listing: () => Promise<{ payee: Address; models: readonly ListedModel[] } | undefined>;
  tlsKeyHash: Hex | null;
  upstream: Upstream;
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
  /** Signs a new offer when models or prices changed or half of the old one's life is over. */
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
 * The node's offers, with a first one signed and kept. Throws `not-registered` without a listing, `model-not-found` when
 * the upstream has none of the listed models, and what the upstream throws.
 */
export async function createOffers(deps: OfferDependencies): Promise<Offers> {
  const { config, domain, signer, store, clock, log } = deps;
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

  let current = sign(await termsOf(deps));
  let timer: NodeJS.Timeout | undefined;
  const refresh = async () => {
    const terms = await termsOf(deps);
    const halfLife = current.offer.expires - config.offerLifeSeconds / 2;
    if (clock.nowSeconds() >= halfLife || !sameTerms(terms, current.offer)) current = sign(terms);
    return current;
  };
  const refreshSoon = () => {
    const seconds = Math.min(LONGEST_REFRESH_SECONDS, config.offerLifeSeconds / 4);
    timer = setTimeout(async () => {
      await refresh().catch((error: unknown) => log.warn({ error }, "the offer could not be renewed"));
      if (timer) refreshSoon();
    }, seconds * 1000).unref();
  };

  return {
    current: () => current,
    byHash(offerHash) {
      const row = find.get(offerHash) as OfferRow | undefined;
      return row && { ...decodeOffer(row.bytes), signature: row.signature };
    },
    refresh,
    keepFresh: refreshSoon,
    stop() {
      clearTimeout(timer);
      timer = undefined;
    },
  };
}

async function termsOf(deps: OfferDependencies): Promise<Terms> {
  const { config, domain, contracts, signer, tlsKeyHash } = deps;
  const listing = await deps.listing();
  if (!listing) {
    throw new InfernetError("not-registered", `the Registry does not know the node ${signer.address}`, {
      hint: "Register it first: infernet register.",
    });
  }
  const models = await offeredModels(deps, listing.models);
  const { endpoint, chunkTokens, receiptTimeoutSeconds, maxCompletionTokens } = config;
  const { longestRequestSeconds, minDeposit, openingFee, relayFee, capacity } = config;
  return {
    protocol: "infernet/1",
    node: signer.address,
    payee: listing.payee,
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
    capacity,
  };
}

/** What the upstream has and the Registry lists, at the configured prices but never above the Registry's. */
async function offeredModels(
  { config, upstream, log }: OfferDependencies,
  listed: readonly ListedModel[],
): Promise<OfferedModel[]> {
  const available = await upstream.listModels();
  const models: OfferedModel[] = [];
  for (const { name, digest, contextLength, features } of available) {
    const ceiling = listed.find((candidate) => candidate.name === name);
    if (!ceiling) continue;
    const prices = capPrices(config.prices.byModel[name] ?? config.prices.default, ceiling);
    models.push({ name, digest, ...prices, contextLength, features });
  }
  const missing = listed.filter(({ name }) => !available.some((model) => model.name === name));
  if (missing.length > 0) {
    log.warn({ models: missing.map(({ name }) => name) }, "listed models that the upstream does not have");
  }
  if (models.length > 0) return models;
  throw new InfernetError("model-not-found", "the upstream has none of the models that the Registry lists", {
    hint: `It has: ${available.map(({ name }) => name).join(", ") || "none"}.`,
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
