// Owns `infernet models`: what can be bought, from how many nodes, and who asks the least.
import { Option } from "commander";
import type { NodeListing } from "../../chain/chain.ts";
import type { Address } from "../../protocol/bytes.ts";
import type { Prices } from "../../protocol/price.ts";
import type { OfferedFeatures } from "../../requester/offered-features.ts";
import type { CommandSpec } from "../command.ts";
import { askFeatures, FEATURES_OPTION, renderFeatures } from "../offered-features.ts";
import { formatTable, printable } from "../output.ts";
import { formatPrice } from "../values.ts";

type Options = { search?: string; features?: boolean };
type SoldModel = {
  name: string;
  nodes: number;
  /** What it does on at least one of the nodes; null where none was asked or answered. */
  features: string[] | null;
  cheapest: { node: Address; inputPriceUsdc: string; outputPriceUsdc: string };
};
type Result = { models: SoldModel[] };

export const modelsCommand: CommandSpec<Options, Result> = {
  name: "models",
  summary: "List the models that active nodes sell",
  options: [new Option("--search <text>", "only names that contain this text"), FEATURES_OPTION],
  examples: ["models", "models --search llama --json", "models --features"],
  async run(context, { search = "", features }) {
    const chain = await context.chain();
    const listings = (await chain.listNodes()).filter(({ active }) => active);
    const models = modelsOf(listings, await askFeatures(context, listings, features));
    const wanted = search.toLowerCase();
    return { models: models.filter((model) => model.name.toLowerCase().includes(wanted)) };
  },
  render({ models }, style) {
    if (models.length === 0) return "No active node sells a model that fits.";
    const asked = models.some(({ features }) => features !== null);
    const rows = models.map(({ name, nodes, cheapest, features }) => [
      printable(name),
      String(nodes),
      cheapest.inputPriceUsdc,
      cheapest.outputPriceUsdc,
      cheapest.node,
      ...(asked ? [renderFeatures(features)] : []),
    ]);
    const titles = ["MODEL", "NODES", "IN", "OUT", "CHEAPEST NODE", ...(asked ? ["DOES"] : [])];
    const heads = titles.map(style.dim);
    return `${formatTable([heads, ...rows])}\n${style.dim("Prices: USDC per million tokens, at most.")}`;
  },
};

/** The models of these nodes by name; the cheapest is the one with the least sum of both prices. */
function modelsOf(
  listings: readonly NodeListing[],
  features: ReadonlyMap<Address, OfferedFeatures>,
): SoldModel[] {
  const sellers = new Map<string, { node: Address; prices: Prices }[]>();
  for (const { node, models } of listings) {
    for (const { name, inputPrice, outputPrice } of models) {
      const seller = { node, prices: { inputPrice, outputPrice } };
      sellers.set(name, [...(sellers.get(name) ?? []), seller]);
    }
  }
  return [...sellers]
    .map(([name, offers]) => {
      const cheapest = offers.reduce((best, offer) =>
        sumOf(offer.prices) < sumOf(best.prices) ? offer : best,
      );
      return {
        name,
        nodes: offers.length,
        features: joinFeatures(offers.map(({ node }) => features.get(node)?.get(name))),
        cheapest: {
          node: cheapest.node,
          inputPriceUsdc: formatPrice(cheapest.prices.inputPrice),
          outputPriceUsdc: formatPrice(cheapest.prices.outputPrice),
        },
      };
    })
    .sort((left, right) => (left.name < right.name ? -1 : 1));
}

function joinFeatures(told: readonly (readonly string[] | undefined)[]): string[] | null {
  const known = told.filter((features) => features !== undefined);
  return known.length === 0 ? null : [...new Set(known.flat())];
}

function sumOf(prices: Prices): bigint {
  return prices.inputPrice + prices.outputPrice;
}
