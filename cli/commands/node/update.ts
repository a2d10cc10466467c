// Owns `infernet node update`: changes what stands in the Registry of a node that is there already.
import { Option } from "commander";
import { InfernetError } from "../../../protocol/errors.ts";
import type { ListedModel } from "../../../protocol/offer.ts";
import type { CommandSpec } from "../../command.ts";
import type { Context } from "../../context.ts";
import { DOCKER_OPTIONS } from "../../docker-flags.ts";
import { unlock } from "../../identity.ts";
import { describeListing, type ListedNode, renderListing } from "../../listing.ts";
import { needListing, ownNodeAddress } from "../../own-node.ts";
import { planRegistration, readEndpoint } from "../../registration.ts";
import { type CheckedUpstreamFlags, listedModels, NO_CHECK_OPTION } from "../../sold-models.ts";
import { type SentTransaction, sendAll } from "../../transact.ts";
import { UPSTREAM_OPTIONS } from "../../upstream-flags.ts";
import { collectPricedModel, type PricedModel } from "../../values.ts";

type Options = CheckedUpstreamFlags & { endpoint?: string; model?: PricedModel[]; removeModel?: string[] };
type Result = ListedNode & { transactions: SentTransaction[] };

export const updateCommand: CommandSpec<Options, Result> = {
  name: "update",
  summary: "Change the node's endpoint, models or highest prices in the Registry",
  options: [
    new Option("--endpoint <url>", "where requesters reach the node from now on"),
    new Option(
      "--model <NAME=IN:OUT>",
      "add a model, or change its highest prices in USDC per million tokens; repeat for more",
    ).argParser(collectPricedModel),
    new Option("--remove-model <name>", "sell a model no more; repeat for more").argParser(
      (name: string, names: string[] = []) => [...names, name],
    ),
    NO_CHECK_OPTION,
    ...UPSTREAM_OPTIONS,
    ...DOCKER_OPTIONS,
  ],
  examples: [
    "node update --endpoint https://node.example:8443",
    "node update --model llama3.2:1b=0.04:0.15 --no-check",
  ],
  async run(context, options) {
    const { endpoint, model, removeModel } = options;
    if (endpoint === undefined && !model && !removeModel) {
      throw new InfernetError("bad-request", "nothing is named that should change", {
        hint: "Give --endpoint URL, --model NAME=IN:OUT or --remove-model NAME.",
      });
    }
    const address = await ownNodeAddress(context);
    const existing = await needListing(context, address);
    const wanted = {
      payee: existing.payee,
      endpoint: endpoint === undefined ? existing.endpoint : readEndpoint(endpoint),
      models: await changedModels(context, options, existing.models),
    };
    const { calls } = await context.chain();
    // A retired node stays retired: only `node retire --undo` and `register` switch it on.
    const plan = planRegistration(calls, { ...existing, active: true }, wanted);
    const transactions = plan.length === 0 ? [] : await sendAll(context, await unlock(context, "node"), plan);
    return { ...describeListing(await needListing(context, address)), transactions };
  },
  render: (result, style) =>
    `${renderListing(result, style)}\n${result.transactions.length > 0 ? "Changed. A running worker offers it after its next start." : "Nothing to change."}`,
};

/** The listed models with those of the flags changed, added and taken away; others stay as they are. */
async function changedModels(
  context: Context,
  { model = [], removeModel = [], ...flags }: Options,
  existing: readonly ListedModel[],
): Promise<ListedModel[]> {
  const unknown = removeModel.find((name) => !existing.some((listed) => listed.name === name));
  if (unknown !== undefined) {
    throw new InfernetError(
      "bad-request",
      `the Registry does not list the model "${unknown}" for this node`,
      {
        hint: `It lists: ${existing.map(({ name }) => name).join(", ")}.`,
      },
    );
  }
  const digestOf = (name: string) => existing.find((listed) => listed.name === name)?.digest;
  const listed = model.length === 0 ? [] : await listedModels(context, flags, model);
  // A price change without a look at the upstream keeps what is known of the model.
  const changed = flags.check
    ? listed
    : listed.map((one) => ({ ...one, digest: digestOf(one.name) ?? one.digest }));
  const kept = existing.filter(
    ({ name }) => !removeModel.includes(name) && !changed.some((listed) => listed.name === name),
  );
  const models = [...kept, ...changed];
  if (models.length > 0) return models;
  throw new InfernetError("bad-request", "a node sells one model at least", {
    hint: "To sell nothing: infernet node retire.",
  });
}
