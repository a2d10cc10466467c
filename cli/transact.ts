// Owns sending transactions from a command: progress once each is mined, and the outcome in the result's form.
import type { Call } from "../chain/chain.ts";
import type { Hex } from "../protocol/bytes.ts";
import type { Context } from "./context.ts";
import type { Identity } from "./identity.ts";

/** A mined transaction as results tell it. `feeWei` is what its sender paid in the chain's own coin. */
export type SentTransaction = { label: string; tx: Hex; block: number; gasUsed: number; feeWei: bigint };

export type Transact = (call: Call) => Promise<SentTransaction>;

/** Sends calls one after the other as this identity. Throws `transaction-failed` or `insufficient-funds`. */
export async function createTransact(context: Context, identity: Identity): Promise<Transact> {
  const { createSender } = await import("../chain/sender.ts");
  const sender = createSender(await context.chain(), identity.signer);
  return async ({ label, ...call }) => {
    const { hash: tx, block, gasUsed, feeWei } = await sender.send({ label, ...call });
    const sent = { label, tx, block, gasUsed: Number(gasUsed), feeWei };
    context.output.progress({ event: "transaction", ...sent }, `${label}: ${tx} (gas ${gasUsed})`);
    return sent;
  };
}

/** Sends a plan of calls in its order. */
export async function sendAll(
  context: Context,
  identity: Identity,
  plan: readonly Call[],
): Promise<SentTransaction[]> {
  const transact = await createTransact(context, identity);
  const transactions: SentTransaction[] = [];
  for (const call of plan) transactions.push(await transact(call));
  return transactions;
}
