// Owns `infernet register`: puts this machine's node into the Registry, or changes what stands there.
import { Option } from "commander";
import type { NodeListing } from "../../chain/chain.ts";
import type { Address } from "../../protocol/bytes.ts";
import type { ListedModel } from "../../protocol/offer.ts";
import type { UpstreamModel } from "../../provider/upstreams/upstream.ts";
import type { CommandSpec } from "../command.ts";
import type { Context } from "../context.ts";
import { findAddress, unlockOrCreate } from "../identity.ts";
import { describeListing, type ListedNode, renderListing } from "../listing.ts";
import { planRegistration, type Registration, readEndpoint } from "../registration.ts";
import { listedModels, NO_CHECK_OPTION, upstreamModels, withDigests } from "../sold-models.ts";
import { type SentTransaction, sendAll } from "../transact.ts";
import { UPSTREAM_OPTIONS, type UpstreamFlags } from "../upstream-flags.ts";
import { collectPricedModel, type PricedModel, parseAddress, parsePrice } from "../values.ts";

type Options = UpstreamFlags & { payee?: Address; endpoint?: string; model?: PricedModel[]; check: boolean };
type Result = ListedNode & { created: boolean; transactions: SentTransaction[] };

const USUAL_ENDPOINT = "https://127.0.0.1:8443";
const USUAL_PRICES = { input: "0.05", output: "0.20" };

export const registerCommand: CommandSpec<Options, Result> = {
  name: "register",
  summary: "List this machine's node in the Registry, or change its entry",
  options: [
    new Option("--payee <address>", "account that earns (default: the wallet)").argParser(parseAddress),
    new Option("--endpoint <url>", "where requesters reach the node, like https://node.example:8443"),
    new Option(
      "--model <NAME=IN:OUT>",
      "a model and its highest prices in USDC per million tokens; repeat for more",
    ).argParser(collectPricedModel),
    NO_CHECK_OPTION,
    ...UPSTREAM_OPTIONS,
  ],
  examples: [
    "register",
    "register --endpoint https://node.example:8443 --model llama3.2:1b=0.05:0.20 --upstream ollama",
  ],
  async run(context, options) {
    const chain = await context.chain();
    const node = await unlockOrCreate(context, "node");
    const existing = await chain.getNode(node.address);
    const wanted = await decideRegistration(context, options, existing);
    const plan = planRegistration(chain.calls, existing, wanted);
    const transactions = await sendAll(context, node, plan);
    const listing = await chain.getNode(node.address);
    if (!listing) throw new Error("the Registry does not list the node that it has just taken");
    return { ...describeListing(listing), created: existing === undefined, transactions };
  },
  render(result, style) {
    const done = result.created
      ? "Registered."
      : result.transactions.length > 0
        ? "Changed."
        : "Nothing to change.";
    return `${renderListing(result, style)}\n${done} Next: infernet worker`;
  },
};

/** What the flags say, else what stands in the Registry, else what a person answers. */
async function decideRegistration(
  context: Context,
  options: Options,
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
  options: Options,
  existing: NodeListing | undefined,
): Promise<ListedModel[]> {
  if (options.model) return listedModels(context, options, options.model);
  if (existing) return existing.models;
  const models = await upstreamModels(context, options);
  return withDigests(await askModels(context, models), models);
}

async function askModels(context: Context, models: readonly UpstreamModel[]): Promise<PricedModel[]> {
  const { prompter } = context;
  const names = await prompter.chooseMany({
    message: "Which models do you sell?",
    missing: "--model NAME=IN:OUT",
    choices: models.map(({ name }) => ({ title: name, value: name })),
  });
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
