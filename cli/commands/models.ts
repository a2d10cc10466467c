// Owns `infernet models`: what can be bought, from how many nodes, and who asks the least.
import { Option } from "commander";
import type { NodeListing } from "../../chain/chain.ts";
import type { Address } from "../../protocol/bytes.ts";
import type { Prices } from "../../protocol/price.ts";
import type { CommandSpec } from "../command.ts";
import { formatTable, printable } from "../output.ts";
import { formatPrice } from "../values.ts";

type Options = { search?: string };
type SoldModel = {
  name: string;
  nodes: number;
  cheapest: { node: Address; inputPriceUsdc: string; outputPriceUsdc: string };
};
type Result = { models: SoldModel[] };

export const modelsCommand: CommandSpec<Options, Result> = {
  name: "models",
  summary: "List the models that active nodes sell",
  options: [new Option("--search <text>", "only names that contain this text")],
  examples: ["models", "models --search llama --json"],
  async run(context, { search = "" }) {
    const chain = await context.chain();
    const models = modelsOf(await chain.listNodes());
    const wanted = search.toLowerCase();
    return { models: models.filter((model) => model.name.toLowerCase().includes(wanted)) };
  },
  render({ models }, style) {
    if (models.length === 0) return "No active node sells a model that fits.";
    const rows = models.map(({ name, nodes, cheapest }) => [
      printable(name),
      String(nodes),
      cheapest.inputPriceUsdc,
      cheapest.outputPriceUsdc,
      cheapest.node,
    ]);
    const heads = ["MODEL", "NODES", "IN", "OUT", "CHEAPEST NODE"].map(style.dim);
    return `${formatTable([heads, ...rows])}\n${style.dim("Prices: USDC per million tokens, at most.")}`;
  },
};

/** The models of active nodes by name; the cheapest is the one with the least sum of both prices. */
export function modelsOf(listings: readonly NodeListing[]): SoldModel[] {
  const sellers = new Map<string, { node: Address; prices: Prices }[]>();
  for (const { node, models } of listings.filter(({ active }) => active)) {
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
        cheapest: {
          node: cheapest.node,
          inputPriceUsdc: formatPrice(cheapest.prices.inputPrice),
          outputPriceUsdc: formatPrice(cheapest.prices.outputPrice),
        },
      };
    })
    .sort((left, right) => (left.name < right.name ? -1 : 1));
}

function sumOf(prices: Prices): bigint {
  return prices.inputPrice + prices.outputPrice;
}
