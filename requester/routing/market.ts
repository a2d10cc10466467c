// Owns the view of the market: listed nodes with their judged offers, refreshed behind the requests that read it.
import { setTimeout as delay } from "node:timers/promises";
import type { Chain, NodeListing } from "../../chain/chain.ts";
import type { Address } from "../../protocol/bytes.ts";
import { InfernetError } from "../../protocol/errors.ts";
import type { Clock } from "../../runtime/clock.ts";
import type { Log } from "../../runtime/logger.ts";
import { readBlockTime } from "../block-time.ts";
import { isLasting, type OfferDeps, readSeller, type Seller } from "../offer-check.ts";

export type MarketDeps = OfferDeps & {
  chain: Chain;
  clock: Clock;
  log: Log;
  /** How old a view may become before it is refreshed, in milliseconds. */
  refreshMs?: number;
};

/** An active node without an offer, and why. */
type Absence = { listing: NodeListing; error: InfernetError };

/** `sellers` have an offer that lasts. */
export type MarketView = { sellers: readonly Seller[]; absent: readonly Absence[] };

export type Market = {
  /** The view as it is. Waits for the first one only; throws the chain's error while there is none. */
  view(): Promise<MarketView>;
  /** Looks at all nodes again now. */
  refresh(): Promise<void>;
  stop(): Promise<void>;
};

const REFRESH_MS = 30_000;
/** A market that nobody asks for so long is not looked at any more until somebody does. */
const IDLE_MS = 300_000;
/** The first view goes without nodes that take longer; they come with the next. */
const FIRST_VIEW_MS = 3_000;
const ASKED_AT_ONCE = 24;
const MOST_NODES = 512;

/** A market that begins to look when it is first asked. */
export function createMarket(deps: MarketDeps): Market {
  const { chain, clock, log, refreshMs = REFRESH_MS } = deps;
  const stopped = new AbortController();
  const sellers = new Map<Address, Seller>();
  const absent = new Map<Address, Absence>();
  let refreshing: Promise<void> | undefined;
  let hasView = false;
  let refreshedAt = Number.NEGATIVE_INFINITY;
  let askedAt = 0;
  let timer: NodeJS.Timeout | undefined;

  async function look(listing: NodeListing, now: number): Promise<void> {
    const { node } = listing;
    try {
      sellers.set(node, await readSeller(deps, listing, now));
      absent.delete(node);
    } catch (error) {
      if (!(error instanceof InfernetError)) throw error;
      sellers.delete(node);
      absent.set(node, { listing, error });
    }
  }

  async function lookAtAll(): Promise<void> {
    const [listings, now] = await Promise.all([chain.listNodes(), readBlockTime(chain, clock)]);
    const active = listings.filter((listing) => listing.active);
    const names = new Set(active.map(({ node }) => node));
    for (const known of [sellers, absent])
      for (const node of known.keys()) if (!names.has(node)) known.delete(node);
    // Those that answered before come first: a crowd of dead entries does not push them out.
    const queue = active
      .sort((a, b) => Number(sellers.has(b.node)) - Number(sellers.has(a.node)))
      .slice(0, MOST_NODES);
    const lookNext = async (): Promise<void> => {
      for (let listing = queue.shift(); listing && !stopped.signal.aborted; listing = queue.shift())
        await look(listing, now);
    };
    await Promise.all(Array.from({ length: ASKED_AT_ONCE }, lookNext));
  }

  function refresh(): Promise<void> {
    refreshing ??= lookAtAll()
      .then(() => {
        hasView = true;
      })
      .finally(() => {
        refreshedAt = performance.now();
        refreshing = undefined;
        schedule();
      });
    return refreshing;
  }

  function refreshBehind(): void {
    void refresh().catch((error: unknown) => log.warn({ error: String(error) }, "the market stays as seen"));
  }

  function schedule(): void {
    clearTimeout(timer);
    if (stopped.signal.aborted) return;
    timer = setTimeout(() => {
      if (performance.now() - askedAt < IDLE_MS) refreshBehind();
    }, refreshMs).unref();
  }

  return {
    refresh,
    async view() {
      askedAt = performance.now();
      if (!hasView) {
        const looking = refresh();
        await Promise.race([looking, delay(FIRST_VIEW_MS, undefined, { ref: false })]);
        // Late nodes come into the same maps; what fails later is told by the next view.
        looking.catch(() => {});
        if (sellers.size === 0) await looking;
      } else if (askedAt - refreshedAt > refreshMs) refreshBehind();
      const now = clock.nowSeconds();
      return {
        sellers: [...sellers.values()].filter(({ signedOffer }) => isLasting(signedOffer, now)),
        absent: [...absent.values()],
      };
    },
    async stop() {
      stopped.abort();
      clearTimeout(timer);
      await refreshing?.catch(() => {});
    },
  };
}
