// Owns `infernet nodes`: the sellers that the Registry lists.
import { Option } from "commander";
import type { NodeListing } from "../../chain/chain.ts";
import type { Address } from "../../protocol/bytes.ts";
import { InfernetError } from "../../protocol/errors.ts";
import type { OfferedFeatures } from "../../requester/offered-features.ts";
import type { CommandSpec } from "../command.ts";
import { type DescribedModel, describeListing, type ListedNode } from "../listing.ts";
import { askFeatures, FEATURES_OPTION, renderFeatures } from "../offered-features.ts";
import { formatTable, printable } from "../output.ts";
import { openRequesterToLook } from "../requester-session.ts";
import { parseAddress } from "../values.ts";

type Options = { forgive?: Address; all?: boolean; model?: string; features?: boolean };
type OfferingNode = Omit<ListedNode, "models"> & {
  /** `features` are null where the node was not asked, did not answer, or does not offer the model now. */
  models: (DescribedModel & { features: string[] | null })[];
};
type Result = { nodes: OfferingNode[] };

export const nodesCommand: CommandSpec<Options, Result> = {
  name: "nodes",
  summary: "List the nodes of the Registry",
  options: [
    new Option("--model <name>", "only nodes with this model"),
    new Option("--all", "nodes that are switched off, too"),
    FEATURES_OPTION,
    new Option("--forgive <address>", "ask a node again that was dropped because it lied").argParser(
      parseAddress,
    ),
  ],
  examples: ["nodes", "nodes --model llama3.2:1b --json", "nodes --features"],
  async run(context, options) {
    const chain = await context.chain();
    if (options.forgive !== undefined && !(await openRequesterToLook(context)).forgive(options.forgive))
      throw new InfernetError("not-found", `the node ${options.forgive} was not dropped`);
    const listings = (await chain.listNodes()).filter((listing) => isWanted(listing, options));
    const features = await askFeatures(context, listings, options.features);
    return { nodes: listings.map((listing) => describeOffering(listing, features.get(listing.node))) };
  },
  render({ nodes }, style) {
    if (nodes.length === 0) return "No node is registered that fits.";
    const asked = nodes.some(({ models }) => models.some(({ features }) => features !== null));
    const rows = nodes.flatMap((node) =>
      node.models.map((model, index) => [
        index === 0 ? node.node : "",
        index === 0 ? printable(node.endpoint) : "",
        printable(model.name),
        model.inputPriceUsdc,
        model.outputPriceUsdc,
        ...(asked ? [renderFeatures(model.features)] : []),
        index === 0 && !node.active ? "off" : "",
      ]),
    );
    const titles = ["NODE", "ENDPOINT", "MODEL", "IN", "OUT", ...(asked ? ["DOES"] : []), ""];
    const heads = titles.map(style.dim);
    return `${formatTable([heads, ...rows])}\n${style.dim("Prices: USDC per million tokens, at most.")}`;
  },
};

function describeOffering(listing: NodeListing, offered: OfferedFeatures | undefined): OfferingNode {
  const { models, ...node } = describeListing(listing);
  const featuresOf = (name: string) => {
    const features = offered?.get(name);
    return features === undefined ? null : [...features];
  };
  return { ...node, models: models.map((model) => ({ ...model, features: featuresOf(model.name) })) };
}

function isWanted(listing: NodeListing, { all = false, model }: Options): boolean {
  if (!all && !listing.active) return false;
  return model === undefined || listing.models.some((listed) => listed.name === model);
}
