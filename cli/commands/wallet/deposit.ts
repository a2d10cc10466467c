// Owns `infernet wallet deposit`: USDC from the wallet into its credit in the Escrow.
import { Argument } from "commander";
import type { Address } from "../../../protocol/bytes.ts";
import { InfernetError } from "../../../protocol/errors.ts";
import { formatUsdc } from "../../../protocol/price.ts";
import type { CommandSpec } from "../../command.ts";
import { unlock } from "../../identity.ts";
import { createTransact, type SentTransaction } from "../../transact.ts";
import { parseAmountOrAll } from "../../values.ts";

type Options = { amount: bigint | "all" };
type Result = { owner: Address; amountUsdc: string; creditUsdc: string; transactions: SentTransaction[] };

export const depositCommand: CommandSpec<Options, Result> = {
  name: "deposit",
  summary: "Move USDC from the wallet into its credit in the Escrow",
  arguments: [new Argument("<amount>", "USDC, like 1.25, or all").argParser(parseAmountOrAll)],
  examples: ["wallet deposit 5", "wallet deposit all --json"],
  async run(context, options) {
    const chain = await context.chain();
    const wallet = await unlock(context, "wallet");
    const owned = await chain.getUsdc(wallet.address);
    const amount = options.amount === "all" ? owned : options.amount;
    if (amount === 0n || amount > owned) {
      throw new InfernetError(
        "insufficient-funds",
        `the wallet holds ${formatUsdc(owned)} USDC, less than what is to be deposited`,
        { hint: `Send USDC on chain ${chain.chainId} to ${wallet.address}.` },
      );
    }
    const transact = await createTransact(context, wallet);
    const transactions = [
      await transact(chain.calls.approveUsdc(amount)),
      await transact(chain.calls.deposit(amount)),
    ];
    return {
      owner: wallet.address,
      amountUsdc: formatUsdc(amount),
      creditUsdc: formatUsdc(await chain.getCredit(wallet.address)),
      transactions,
    };
  },
  render: ({ amountUsdc, creditUsdc }) => `Deposited ${amountUsdc} USDC. Credit: ${creditUsdc} USDC.`,
};
