// Owns `infernet node show`: one node's entry in the Registry.
import { Argument } from "commander";
import type { Address } from "../../../protocol/bytes.ts";
import type { CommandSpec } from "../../command.ts";
import { describeListing, type ListedNode, renderListing } from "../../listing.ts";
import { needListing, ownNodeAddress } from "../../own-node.ts";
import { parseAddress } from "../../values.ts";

type Options = { address?: Address };

export const showCommand: CommandSpec<Options, ListedNode> = {
  name: "show",
  summary: "Show a node's entry in the Registry",
  arguments: [new Argument("[address]", "the node (default: this machine's)").argParser(parseAddress)],
  examples: ["node show", "node show 0x70997970C51812dc3A010C7d01b50e0d17dc79C8 --json"],
  async run(context, options) {
    const address = options.address ?? (await ownNodeAddress(context));
    return describeListing(await needListing(context, address));
  },
  render: renderListing,
};
