// Owns reaching nodes that send moves of money for others: which to ask, in what order, and what their answers mean.
import type { Chain, NodeListing } from "../chain/chain.ts";
import type { Address, Hex } from "../protocol/bytes.ts";
import { InfernetError } from "../protocol/errors.ts";
import type { Offer } from "../protocol/offer.ts";
import { moveAnswerSchema, RELAY_PATH, type RelayedMove } from "../protocol/relay.ts";
import { parseJsonWith } from "../protocol/schema.ts";
import type { Clock } from "../runtime/clock.ts";
import { createHttpClient } from "../runtime/http-client.ts";
import { readBlockTime } from "./block-time.ts";
import { ampleWei } from "./gas.ts";
import { postJson, RELAY_TIMEOUT_MS } from "./node-client.ts";
import { type OfferDeps, readSeller } from "./offer-check.ts";

/** A node that may relay, by its own signed offer. */
export type RelayNode = { node: Address; endpoint: string; offer: Offer };

/** What became of a move: the node that did it, and its transaction where that is known. */
export type Relayed = { node: Address | null; tx: Hex | null };

type RelayDeps = OfferDeps & { chain: Chain; clock: Clock };

const MOST_NODES_ASKED = 24;

/**
 * Has one node after the other try a move until one did it or the chain shows that it is done; `moveFor` gives the
 * signed body for a node, kept before it leaves. Throws `relay-refused` when none did, and
 * `insufficient-funds` when there is none.
 */
export async function relayMove(
  deps: RelayDeps & { wallet: { address: Address } },
  wish: { node?: Address | undefined; first?: Address },
  moveFor: (node: RelayNode) => Promise<RelayedMove>,
  isDone: () => Promise<boolean>,
): Promise<Relayed> {
  const { chain, wallet } = deps;
  const refusals: string[] = [];
  for (const relay of await findRelays(deps, wish, refusals)) {
    const move = await moveFor(relay);
    try {
      return { node: relay.node, tx: await post(relay, move) };
    } catch (error) {
      if (!(error instanceof InfernetError)) throw error;
      // Whatever the node says, the chain knows better.
      if (await isDone()) return { node: null, tx: null };
      refusals.push(`${relay.node}: ${error.message}`);
    }
  }
  const coin = `Send some of the chain's own coin to ${wallet.address} on chain ${chain.chainId} and use --gas own`;
  if (refusals.length === 0) {
    const [owned, ample] = await Promise.all([chain.getNative(wallet.address), ampleWei(chain)]);
    const figures = { balanceWei: owned.toString(), neededWei: ample.toString() };
    throw new InfernetError(
      "insufficient-funds",
      "the wallet cannot pay for gas, and no node is there to do it",
      { hint: `${coin}.`, data: figures },
    );
  }
  throw new InfernetError("relay-refused", `no node sends this for the wallet (${refusals.join("; ")})`, {
    hint: `${coin}, or name another --node.`,
  });
}

/** Nodes that the Registry lists as active, the wished one alone or first, then by what they ask. */
async function findRelays(
  deps: RelayDeps,
  { node, first }: { node?: Address | undefined; first?: Address },
  refusals: string[],
): Promise<RelayNode[]> {
  const { chain, clock } = deps;
  const listings = (await chain.listNodes()).filter(
    (listing) => listing.active && (node === undefined || listing.node === node),
  );
  const now = await readBlockTime(chain, clock);
  const asked = listings
    .sort((a, b) => Number(b.node === first) - Number(a.node === first))
    .slice(0, MOST_NODES_ASKED);
  const found = await Promise.all(asked.map((listing) => readRelay(deps, listing, now, refusals)));
  return found
    .filter((relay) => relay !== undefined)
    .sort(
      (a, b) =>
        Number(b.node === first) - Number(a.node === first) || Number(a.offer.relayFee - b.offer.relayFee),
    );
}

async function readRelay(
  deps: RelayDeps,
  listing: NodeListing,
  now: number,
  refusals: string[],
): Promise<RelayNode | undefined> {
  const { node, endpoint } = listing;
  try {
    const { signedOffer } = await readSeller(deps, listing, now);
    return { node, endpoint, offer: signedOffer.offer };
  } catch (error) {
    if (!(error instanceof InfernetError)) throw error;
    refusals.push(`${node}: ${error.message}`);
    return undefined;
  }
}

async function post({ endpoint, offer }: RelayNode, move: RelayedMove): Promise<Hex | null> {
  const http = createHttpClient({ endpoint, tlsKeyHash: offer.tlsKeyHash });
  try {
    const text = await postJson(http, RELAY_PATH, move, AbortSignal.timeout(RELAY_TIMEOUT_MS));
    return parseJsonWith(moveAnswerSchema, text, "node-misbehaved", "the relay's answer").tx;
  } finally {
    await http.close();
  }
}
