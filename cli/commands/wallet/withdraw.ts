// Owns `infernet wallet withdraw`: credit out of the Escrow as USDC.
import { Argument, Option } from "commander";
import type { Address } from "../../../protocol/bytes.ts";
import { InfernetError } from "../../../protocol/errors.ts";
import { formatUsdc } from "../../../protocol/price.ts";
import type { CommandSpec } from "../../command.ts";
import { unlock } from "../../identity.ts";
import { createTransact, type SentTransaction } from "../../transact.ts";
import { parseAddress, parseAmountOrAll } from "../../values.ts";

type Options = { amount: bigint | "all"; to?: Address };
type Result = {
  owner: Address;
  to: Address;
  amountUsdc: string;
  creditUsdc: string;
  transactions: SentTransaction[];
};

export const withdrawCommand: CommandSpec<Options, Result> = {
  name: "withdraw",
  summary: "Move credit out of the Escrow as USDC",
  arguments: [new Argument("<amount>", "USDC, like 1.25, or all").argParser(parseAmountOrAll)],
  options: [new Option("--to <address>", "where to (default: the wallet)").argParser(parseAddress)],
  examples: ["wallet withdraw all", "wallet withdraw 2.5 --to 0x70997970C51812dc3A010C7d01b50e0d17dc79C8"],
  async run(context, options) {
    const chain = await context.chain();
    const wallet = await unlock(context, "wallet");
    const credit = await chain.getCredit(wallet.address);
    const amount = options.amount === "all" ? credit : options.amount;
    if (amount === 0n || amount > credit) {
      throw new InfernetError(
        "insufficient-funds",
        `the credit is ${formatUsdc(credit)} USDC, less than what is to be withdrawn`,
        { hint: "What open jobs hold comes back when they are settled or refunded: infernet job list." },
      );
    }
    const to = options.to ?? wallet.address;
    const transact = await createTransact(context, wallet);
    const transactions = [await transact(chain.calls.withdraw(to, amount))];
    return {
      owner: wallet.address,
      to,
      amountUsdc: formatUsdc(amount),
      creditUsdc: formatUsdc(await chain.getCredit(wallet.address)),
      transactions,
    };
  },
  render: ({ amountUsdc, to, creditUsdc }) =>
    `Withdrew ${amountUsdc} USDC to ${to}. Credit: ${creditUsdc} USDC.`,
};
