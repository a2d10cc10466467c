// Owns the list of models as OpenAI's clients read it: what is sold now, and the names that stand for it.
import { InfernetError } from "../../protocol/errors.ts";
import { formatUsdc } from "../../protocol/price.ts";
import type { SoldModel } from "../routing/buyer.ts";

/** Names that stand for whatever is cheapest or fastest when they are asked. */
const AUTOMATIC = ["auto:cheap", "auto:fast"];

type ListedModel = { id: string; object: "model"; created: number; owned_by: string } & Record<
  string,
  unknown
>;

/** All names that a request may carry: models, then aliases whose model is sold, then the automatic ones. */
export function listModels(
  sold: readonly SoldModel[],
  aliases: Readonly<Record<string, string>>,
  created: number,
): ListedModel[] {
  const common = { object: "model" as const, created, owned_by: "infernet" };
  const models = sold.map((model) => ({ id: model.name, ...common, ...describe(model) }));
  const named = Object.entries(aliases).flatMap(([id, name]) => {
    const model = sold.find((candidate) => candidate.name === name);
    if (model) return [{ id, ...common, ...describe(model), root: name }];
    return AUTOMATIC.includes(name) && sold.length > 0 ? [{ id, ...common, root: name }] : [];
  });
  const automatic = sold.length === 0 ? [] : AUTOMATIC.map((id) => ({ id, ...common }));
  return [...models, ...named, ...automatic];
}

/** One of them. Throws `model-not-offered`. */
export function findModel(listed: readonly ListedModel[], id: string): ListedModel {
  const found = listed.find((model) => model.id === id);
  if (found) return found;
  throw notSold(id, listed);
}

/** The error of a model that nobody sells, as OpenAI's clients know it: 404. */
export function notSold(id: string, listed: readonly ListedModel[]): InfernetError {
  const names = listed.slice(0, 10).map((model) => model.id);
  return new InfernetError("model-not-offered", `the model "${id}" is not on sale`, {
    hint: names.length === 0 ? "No node sells anything now." : `On sale: ${names.join(", ")}.`,
    data: { param: "model" },
  });
}

function describe({ nodes, best, features, contextLength }: SoldModel): Record<string, unknown> {
  return {
    context_length: contextLength,
    features,
    nodes: nodes.length,
    /** USDC per million tokens, at the cheapest node. */
    pricing: { input: formatUsdc(best.inputPrice), output: formatUsdc(best.outputPrice) },
  };
}
