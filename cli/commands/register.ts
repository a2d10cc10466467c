// Owns `infernet register`: puts this machine's node into the Registry, or changes what stands there.
import { Option } from "commander";
import type { CommandSpec } from "../command.ts";
import { DOCKER_OPTIONS } from "../docker-flags.ts";
import { unlockOrCreate } from "../identity.ts";
import { describeListing, type ListedNode, renderListing } from "../listing.ts";
import { type RegistrationFlags, registerNode } from "../registering.ts";
import { NO_CHECK_OPTION } from "../sold-models.ts";
import type { SentTransaction } from "../transact.ts";
import { UPSTREAM_OPTIONS } from "../upstream-flags.ts";
import { collectPricedModel, parseAddress } from "../values.ts";

type Result = ListedNode & { created: boolean; transactions: SentTransaction[] };

export const registerCommand: CommandSpec<RegistrationFlags, Result> = {
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
    ...DOCKER_OPTIONS,
  ],
  examples: [
    "register",
    "register --endpoint https://node.example:8443 --model llama3.2:1b=0.05:0.20 --upstream ollama",
    "register --docker --model llama3.2=0.05:0.20",
  ],
  async run(context, options) {
    const node = await unlockOrCreate(context, "node");
    const { listing, created, transactions } = await registerNode(context, node, options);
    return { ...describeListing(listing), created, transactions };
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
