// Owns what nodes' signed offers say that their models do, for listings: the Registry tells names and prices only.
import type { Chain, NodeListing } from "../chain/chain.ts";
import type { Address } from "../protocol/bytes.ts";
import { InfernetError } from "../protocol/errors.ts";
import type { Clock } from "../runtime/clock.ts";
import { readSeller } from "./offer-check.ts";

/** Features by model name. */
export type OfferedFeatures = ReadonlyMap<string, readonly string[]>;

/** Nodes asked at the same time. */
const ASKED_AT_ONCE = 24;

/** By node; one that does not answer, or whose offer is not to be trusted, is absent. */
export async function fetchFeatures(
  { chain, clock }: { chain: Chain; clock: Clock },
  listings: readonly NodeListing[],
): Promise<ReadonlyMap<Address, OfferedFeatures>> {
  const { timestamp } = await chain.getBlock("latest");
  const now = Math.max(timestamp, clock.nowSeconds());
  const found = new Map<Address, OfferedFeatures>();
  const queue = [...listings];
  const askNext = async (): Promise<void> => {
    for (let listing = queue.shift(); listing !== undefined; listing = queue.shift()) {
      const features = await ask(chain, listing, now);
      if (features) found.set(listing.node, features);
    }
  };
  await Promise.all(Array.from({ length: ASKED_AT_ONCE }, askNext));
  return found;
}

async function ask(chain: Chain, listing: NodeListing, now: number): Promise<OfferedFeatures | undefined> {
  try {
    const { signedOffer } = await readSeller({ chain }, listing, now);
    return new Map(signedOffer.offer.models.map(({ name, features }) => [name, features]));
  } catch (error) {
    if (error instanceof InfernetError) return undefined;
    throw error;
  }
}
