// Owns how priced models of the command line become entries for the Registry: with the upstream's own digests.
import { Option } from "commander";
import { ZERO_WORD } from "../protocol/bytes.ts";
import { InfernetError } from "../protocol/errors.ts";
import type { ListedModel } from "../protocol/offer.ts";
import type { UpstreamModel } from "../provider/upstreams/upstream.ts";
import type { Context } from "./context.ts";
import { modelsOfUpstreams, pickModels, type UpstreamFlags } from "./upstream-flags.ts";
import type { PricedModel } from "./values.ts";

/** `check` is false with `--no-check`. */
export type CheckedUpstreamFlags = UpstreamFlags & { check: boolean };

export const NO_CHECK_OPTION = new Option(
  "--no-check",
  "list models without asking the upstream whether it has them",
);

/** Entries for these models. Throws `model-not-found` for one that the upstream does not have, unless told not to ask. */
export async function listedModels(
  context: Context,
  flags: CheckedUpstreamFlags,
  priced: readonly PricedModel[],
): Promise<ListedModel[]> {
  if (!flags.check) return priced.map((model) => ({ ...model, digest: ZERO_WORD }));
  const needed = priced.map(({ name }) => name);
  return withDigests(priced, await upstreamModels(context, { ...flags, needed }));
}

/** The upstreams' models, one at least. Throws `model-not-found` when it has none. */
export async function upstreamModels(context: Context, flags: UpstreamFlags): Promise<UpstreamModel[]> {
  const models = await modelsOfUpstreams(context, flags);
  if (models.length > 0) return models;
  throw new InfernetError("model-not-found", "what runs the models has none", {
    hint: "Give it one first, for example: ollama pull llama3.2:1b.",
  });
}

/** Priced models with the digests of the upstream's models of the same names. Throws `model-not-found`. */
export function withDigests(priced: readonly PricedModel[], models: readonly UpstreamModel[]): ListedModel[] {
  const digests = pickModels(
    models,
    priced.map(({ name }) => name),
  );
  return priced.map((model, index) => ({ ...model, digest: digests[index]!.digest }));
}
