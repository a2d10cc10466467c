// Owns `infernet wallet deposit`: USDC from the wallet into its credit in the Escrow.
import { Argument } from "commander";
import type { Address } from "../../../protocol/bytes.ts";
import { InfernetError } from "../../../protocol/errors.ts";
import { formatUsdc } from "../../../protocol/price.ts";
import type { CommandSpec } from "../../command.ts";
import type { Context } from "../../context.ts";
import { type FundingFlags, WAIT_FUNDS_OPTION, whenFunded } from "../../funding.ts";
import { type Identity, unlockOrCreate } from "../../identity.ts";
import { createTransact, type SentTransaction } from "../../transact.ts";
import { parseAmountOrAll } from "../../values.ts";

type Options = FundingFlags & { amount: bigint | "all" };
type Result = { owner: Address; amountUsdc: string; creditUsdc: string; transactions: SentTransaction[] };

export const depositCommand: CommandSpec<Options, Result> = {
  name: "deposit",
  summary: "Move USDC from the wallet into its credit in the Escrow",
  arguments: [new Argument("<amount>", "USDC, like 1.25, or all").argParser(parseAmountOrAll)],
  options: [WAIT_FUNDS_OPTION],
  examples: ["wallet deposit 5", "wallet deposit 5 --wait-funds 30m", "wallet deposit all --json"],
  async run(context, { amount, waitFunds }) {
    await context.chain();
    const wallet = await unlockOrCreate(context, "wallet");
    return whenFunded(context, { owner: wallet.address, waitFunds }, () => deposit(context, wallet, amount));
  },
  render: ({ amountUsdc, creditUsdc }) => `Deposited ${amountUsdc} USDC. Credit: ${creditUsdc} USDC.`,
};

async function deposit(context: Context, wallet: Identity, wanted: Options["amount"]): Promise<Result> {
  const chain = await context.chain();
  const owned = await chain.getUsdc(wallet.address);
  const amount = wanted === "all" ? owned : wanted;
  if (amount === 0n || amount > owned) {
    const needed = wanted === "all" ? 1n : wanted;
    throw new InfernetError(
      "insufficient-funds",
      `the wallet holds ${formatUsdc(owned)} USDC, less than what is to be deposited`,
      {
        hint: `Send USDC to ${wallet.address} on chain ${chain.chainId}.`,
        data: { needed: needed.toString(), wallet: owned.toString() },
      },
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
}
