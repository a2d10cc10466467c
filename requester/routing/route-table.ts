// Owns the two lists that people read: what is on sale now, and what is known of each node with each model.
import type { Address } from "../../protocol/bytes.ts";
import { InfernetError } from "../../protocol/errors.ts";
import type { OfferedModel } from "../../protocol/offer.ts";
import type { Prices } from "../../protocol/price.ts";
import { pickModel, type Seller } from "../offer-check.ts";
import type { RouteRow, SoldModel } from "./buyer.ts";
import type { MarketView } from "./market.ts";
import type { Measures } from "./measures.ts";
import type { Verdicts } from "./verdicts.ts";

/** The models of a view by name, without what dropped nodes sell. */
export function soldModels(
  { sellers }: MarketView,
  { verdictOn }: { verdictOn(node: Address): string | undefined },
): SoldModel[] {
  const sold = new Map<string, SoldModel>();
  for (const seller of sellers) {
    const { node } = seller.listing;
    if (verdictOn(node) !== undefined) continue;
    for (const model of honestModels(seller)) {
      const { name, features, contextLength, inputPrice, outputPrice } = model;
      const own = { node, inputPrice, outputPrice };
      const known = sold.get(name) ?? { name, nodes: [], best: own, features: [], contextLength };
      sold.set(name, {
        name,
        nodes: [...known.nodes, node],
        best: sumOf(own) < sumOf(known.best) ? own : known.best,
        features: [...new Set([...known.features, ...features])],
        contextLength: Math.max(known.contextLength, contextLength),
      });
    }
  }
  return [...sold.values()].sort((one, other) => (one.name < other.name ? -1 : 1));
}

/** Everything measured, and every node that was dropped, measured or not. */
export function routeRows(measures: Measures, verdicts: Verdicts): RouteRow[] {
  const reasons = new Map(verdicts.all().map(({ node, reason }) => [node, reason]));
  const measured = measures.rows();
  const rows = measured.map((row) => ({ ...row, dropped: reasons.get(row.node) ?? null }));
  const unmeasured = [...reasons].filter(([node]) => !measured.some((row) => row.node === node));
  return [...rows, ...unmeasured.map(([node, dropped]) => ({ ...measures.of(node, ""), dropped }))];
}

/** Models whose offered prices keep to the Registry. */
function honestModels(seller: Seller): OfferedModel[] {
  return seller.signedOffer.offer.models.filter(({ name }) => {
    try {
      return pickModel(seller, name) !== undefined;
    } catch (error) {
      if (error instanceof InfernetError) return false;
      throw error;
    }
  });
}

function sumOf({ inputPrice, outputPrice }: Prices): bigint {
  return inputPrice + outputPrice;
}
