// Owns `infernet node retire`: switches the node off in the Registry, and says which money is still on its way.
import { Option } from "commander";
import { formatUsdc } from "../../../protocol/price.ts";
import type { CommandSpec } from "../../command.ts";
import { readOwnEarnings } from "../../earnings.ts";
import { unlock } from "../../identity.ts";
import { describeListing, type ListedNode, renderListing } from "../../listing.ts";
import { needListing, ownNodeAddress } from "../../own-node.ts";
import { createTransact, type SentTransaction } from "../../transact.ts";

type Options = { undo?: boolean };
/** What a node that takes no new jobs still has to bring home. */
type Remaining = { openJobs: number; settlingJobs: number; unsettledUsdc: string; earnedOnChainUsdc: string };
type Result = ListedNode & { transactions: SentTransaction[]; remaining: Remaining };

export const retireCommand: CommandSpec<Options, Result> = {
  name: "retire",
  summary: "Switch the node off in the Registry: it takes no new jobs",
  options: [new Option("--undo", "switch it on again")],
  examples: ["node retire", "node retire --undo"],
  async run(context, { undo = false }) {
    const address = await ownNodeAddress(context);
    const { active } = await needListing(context, address);
    const chain = await context.chain();
    const transactions: SentTransaction[] = [];
    if (active !== undo) {
      const transact = await createTransact(context, await unlock(context, "node"));
      transactions.push(await transact(chain.calls.setActive(undo)));
    }
    const listing = await needListing(context, address);
    const [earnings, earned] = await Promise.all([readOwnEarnings(context), chain.getEarned(listing.payee)]);
    const remaining = {
      openJobs: earnings?.jobs.open ?? 0,
      settlingJobs: earnings?.jobs.settling ?? 0,
      unsettledUsdc: formatUsdc(earnings?.unsettled ?? 0n),
      earnedOnChainUsdc: formatUsdc(earned),
    };
    return { ...describeListing(listing), transactions, remaining };
  },
  render(result, style) {
    const { active, remaining } = result;
    return [
      renderListing(result, style),
      ...(active ? ["The node is switched on."] : sayRemaining(remaining)),
    ].join("\n");
  },
};

function sayRemaining({ openJobs, settlingJobs, unsettledUsdc, earnedOnChainUsdc }: Remaining): string[] {
  const jobs = openJobs + settlingJobs;
  return [
    "The node is switched off: it takes no new jobs.",
    jobs === 0
      ? "No job is left to settle: the worker may stop."
      : `${jobs} jobs are left (${unsettledUsdc} USDC to settle): let the worker run until node earnings shows none.`,
    ...(earnedOnChainUsdc === formatUsdc(0n)
      ? []
      : [`${earnedOnChainUsdc} USDC wait in the Escrow for the payee: infernet node payout`]),
  ];
}
