// Owns how commands find this machine's node: its address, and what the Registry says of it.
import type { NodeListing } from "../chain/chain.ts";
import type { Address } from "../protocol/bytes.ts";
import { InfernetError } from "../protocol/errors.ts";
import type { Context } from "./context.ts";
import { needAddress } from "./identity.ts";

/** The address of this machine's node, with no passphrase. Throws `wallet-missing` with what to do. */
export function ownNodeAddress(context: Context): Promise<Address> {
  return needAddress(context, "node");
}

/** A node's entry in the Registry. Throws `not-registered`. */
export async function needListing(context: Context, node: Address): Promise<NodeListing> {
  const listing = await (await context.chain()).getNode(node);
  if (listing) return listing;
  throw new InfernetError("not-registered", `the Registry does not list the node ${node}`, {
    hint: "List this machine's node: infernet register.",
  });
}
