// Owns how a node comes to stand in the Registry: what flags leave open a person answers, then the calls are sent.
import type { NodeListing } from "../chain/chain.ts";
import type { Address } from "../protocol/bytes.ts";
import type { ListedModel } from "../protocol/offer.ts";
import type { UpstreamModel } from "../provider/upstreams/upstream.ts";
import type { Context } from "./context.ts";
import { findAddress, type Identity } from "./identity.ts";
import { planRegistration, type Registration, readEndpoint } from "./registration.ts";
import { listedModels, upstreamModels, withDigests } from "./sold-models.ts";
import { type SentTransaction, sendAll } from "./transact.ts";
import type { UpstreamFlags } from "./upstream-flags.ts";
import { type PricedModel, parseAddress, parsePrice } from "./values.ts";

export type RegistrationFlags = UpstreamFlags & {
  payee?: Address;
  endpoint?: string;
  model?: PricedModel[];
  check: boolean;
};
export type Registered = { listing: NodeListing; created: boolean; transactions: SentTransaction[] };

const USUAL_ENDPOINT = "https://127.0.0.1:8443";
const USUAL_PRICES = { input: "0.05", output: "0.20" };

/** Lists the node as the flags want it, or changes what stands there. Throws what is missing where nobody can be asked. */
export async function registerNode(
  context: Context,
  node: Identity,
  options: RegistrationFlags,
): Promise<Registered> {
  const chain = await context.chain();
  const existing = await chain.getNode(node.address);
  const wanted = await decideRegistration(context, options, existing);
  const plan = planRegistration(chain.calls, existing, wanted);
  const transactions = await sendAll(context, node, plan);
  const listing = await chain.getNode(node.address);
  if (!listing) throw new Error("the Registry does not list the node that it has just taken");
  return { listing, created: existing === undefined, transactions };
}

/** What the flags say, else what stands in the Registry, else what a person answers. */
async function decideRegistration(
  context: Context,
  options: RegistrationFlags,
  existing: NodeListing | undefined,
): Promise<Registration> {
  const { prompter } = context;
  const endpoint =
    options.endpoint ??
    existing?.endpoint ??
    (await prompter.text({
      message: "Where do requesters reach this node?",
      missing: "--endpoint URL",
      initial: USUAL_ENDPOINT,
      validate: (text) => isAccepted(() => readEndpoint(text.trim())),
    }));
  return {
    endpoint: readEndpoint(endpoint),
    payee: options.payee ?? existing?.payee ?? (await decidePayee(context)),
    models: await decideModels(context, options, existing),
  };
}

async function decidePayee(context: Context): Promise<Address> {
  const wallet = await findAddress(context, "wallet");
  if (!context.prompter.canAsk && wallet) return wallet;
  const answer = await context.prompter.text({
    message: "Which account earns?",
    missing: "--payee ADDRESS",
    ...(wallet ? { initial: wallet } : {}),
    validate: (text) => isAccepted(() => parseAddress(text.trim())),
  });
  return parseAddress(answer);
}

async function decideModels(
  context: Context,
  options: RegistrationFlags,
  existing: NodeListing | undefined,
): Promise<ListedModel[]> {
  if (options.model) return listedModels(context, options, options.model);
  if (existing) return existing.models;
  const models = await upstreamModels(context, options);
  return withDigests(await askModels(context, models, options.needed), models);
}

/** The prices of the models that were named, else of those that a person chooses. */
async function askModels(
  { prompter }: Context,
  models: readonly UpstreamModel[],
  named?: readonly string[],
): Promise<PricedModel[]> {
  const names =
    named ??
    (await prompter.chooseMany({
      message: "Which models do you sell?",
      missing: "--model NAME=IN:OUT",
      choices: models.map(({ name }) => ({ title: name, value: name })),
    }));
  const priced: PricedModel[] = [];
  for (const name of names) {
    const askPrice = async (what: string, initial: string) =>
      parsePrice(
        await prompter.text({
          message: `${name}: USDC per million tokens of ${what}, at most`,
          missing: "--model NAME=IN:OUT",
          initial,
          validate: (text) => isAccepted(() => parsePrice(text)),
        }),
      );
    const inputPrice = await askPrice("prompt", USUAL_PRICES.input);
    const outputPrice = await askPrice("completion", USUAL_PRICES.output);
    priced.push({ name, inputPrice, outputPrice });
  }
  return priced;
}

/** A validation as `prompts` wants it: true, or why not. */
function isAccepted(parse: () => unknown): true | string {
  try {
    parse();
    return true;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}
