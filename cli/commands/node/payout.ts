// Owns `infernet node payout`: sends the payee, now, what the Escrow holds for it.
import type { Address } from "../../../protocol/bytes.ts";
import { formatUsdc } from "../../../protocol/price.ts";
import type { CommandSpec } from "../../command.ts";
import { unlock } from "../../identity.ts";
import { needListing, ownNodeAddress } from "../../own-node.ts";
import { createTransact, type SentTransaction } from "../../transact.ts";

type Result = { node: Address; payee: Address; paidOutUsdc: string; transactions: SentTransaction[] };

export const payoutCommand: CommandSpec<object, Result> = {
  name: "payout",
  summary: "Send the payee what it has earned in the Escrow, now",
  examples: ["node payout", "node payout --json"],
  async run(context) {
    const node = await ownNodeAddress(context);
    const { payee } = await needListing(context, node);
    const chain = await context.chain();
    const earned = await chain.getEarned(payee);
    if (earned === 0n) return { node, payee, paidOutUsdc: formatUsdc(0n), transactions: [] };
    const transact = await createTransact(context, await unlock(context, "node"));
    const transactions = [await transact(chain.calls.payOut(payee))];
    const left = await chain.getEarned(payee);
    return { node, payee, paidOutUsdc: formatUsdc(earned > left ? earned - left : 0n), transactions };
  },
  render: ({ payee, paidOutUsdc, transactions }) =>
    transactions.length === 0
      ? `Nothing to pay out: the Escrow holds nothing for ${payee}.`
      : `Paid out ${paidOutUsdc} USDC to ${payee}.`,
};
