// Owns `infernet nodes`: the sellers that the Registry lists.
import { Option } from "commander";
import type { NodeListing } from "../../chain/chain.ts";
import type { CommandSpec } from "../command.ts";
import { describeListing, type ListedNode } from "../listing.ts";
import { formatTable, printable } from "../output.ts";

type Options = { all?: boolean; model?: string };
type Result = { nodes: ListedNode[] };

export const nodesCommand: CommandSpec<Options, Result> = {
  name: "nodes",
  summary: "List the nodes of the Registry",
  options: [
    new Option("--model <name>", "only nodes with this model"),
    new Option("--all", "nodes that are switched off, too"),
  ],
  examples: ["nodes", "nodes --model llama3.2:1b --json"],
  async run(context, options) {
    const chain = await context.chain();
    const listings = await chain.listNodes();
    return { nodes: listings.filter((listing) => isWanted(listing, options)).map(describeListing) };
  },
  render({ nodes }, style) {
    if (nodes.length === 0) return "No node is registered that fits.";
    const rows = nodes.flatMap((node) =>
      node.models.map((model, index) => [
        index === 0 ? node.node : "",
        index === 0 ? printable(node.endpoint) : "",
        printable(model.name),
        model.inputPriceUsdc,
        model.outputPriceUsdc,
        index === 0 && !node.active ? "off" : "",
      ]),
    );
    const heads = ["NODE", "ENDPOINT", "MODEL", "IN", "OUT", ""].map(style.dim);
    return `${formatTable([heads, ...rows])}\n${style.dim("Prices: USDC per million tokens, at most.")}`;
  },
};

function isWanted(listing: NodeListing, { all = false, model }: Options): boolean {
  if (!all && !listing.active) return false;
  return model === undefined || listing.models.some((listed) => listed.name === model);
}
