// Owns the flag that asks nodes what their models do, and how the answer reads.
import { Option } from "commander";
import type { NodeListing } from "../chain/chain.ts";
import type { Address } from "../protocol/bytes.ts";
import type { OfferedFeatures } from "../requester/offered-features.ts";
import type { Context } from "./context.ts";
import { printable } from "./output.ts";

export const FEATURES_OPTION = new Option(
  "--features",
  "asks the nodes themselves what each model does: tools, JSON, images and the like",
);

/** Features of these nodes' models by their own offers; empty unless they are wanted. */
export async function askFeatures(
  context: Context,
  listings: readonly NodeListing[],
  isWanted: boolean | undefined,
): Promise<ReadonlyMap<Address, OfferedFeatures>> {
  if (!isWanted) return new Map();
  const [{ fetchFeatures }, { systemClock }] = await Promise.all([
    import("../requester/offered-features.ts"),
    import("../runtime/clock.ts"),
  ]);
  return fetchFeatures({ chain: await context.chain(), clock: systemClock }, listings);
}

/** For people: a question mark where no node could be asked. */
export function renderFeatures(features: readonly string[] | null): string {
  return features === null ? "?" : printable(features.join(" "));
}
