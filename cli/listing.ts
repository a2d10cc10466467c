// Owns how a node's entry in the Registry reads in results.
import type { NodeListing } from "../chain/chain.ts";
import type { Address, Hex } from "../protocol/bytes.ts";
import type { ListedModel } from "../protocol/offer.ts";
import { formatTable, printable, type Style } from "./output.ts";
import { formatPrice } from "./values.ts";

/** Prices are decimal texts of USDC per million tokens, a ceiling for what the node's offer may ask. */
export type DescribedModel = { name: string; digest: Hex; inputPriceUsdc: string; outputPriceUsdc: string };
export type ListedNode = {
  node: Address;
  payee: Address;
  endpoint: string;
  active: boolean;
  models: DescribedModel[];
};

export function describeListing(listing: NodeListing): ListedNode {
  const { node, payee, endpoint, active, models } = listing;
  return { node, payee, endpoint, active, models: models.map(describeModel) };
}

/** A node's entry for people. */
export function renderListing(listing: ListedNode, style: Style): string {
  const rows = [
    [style.dim("node"), listing.node],
    [style.dim("payee"), listing.payee],
    [style.dim("endpoint"), `${printable(listing.endpoint)}${listing.active ? "" : " (switched off)"}`],
    ...listing.models.map(({ name, inputPriceUsdc, outputPriceUsdc }) => [
      style.dim("model"),
      `${printable(name)}  ${inputPriceUsdc} in, ${outputPriceUsdc} out (USDC per million tokens)`,
    ]),
  ];
  return formatTable(rows);
}

function describeModel(model: ListedModel): DescribedModel {
  return {
    name: model.name,
    digest: model.digest,
    inputPriceUsdc: formatPrice(model.inputPrice),
    outputPriceUsdc: formatPrice(model.outputPrice),
  };
}
