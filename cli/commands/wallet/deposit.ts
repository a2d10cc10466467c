// Owns `infernet wallet deposit`: USDC from the wallet into its credit in the Escrow.
import { Argument } from "commander";
import type { Address } from "../../../protocol/bytes.ts";
import { formatUsdc } from "../../../protocol/price.ts";
import type { MoveTransaction } from "../../../requester/moves.ts";
import type { CommandSpec } from "../../command.ts";
import { type FundingFlags, WAIT_FUNDS_OPTION, whenFunded } from "../../funding.ts";
import { ACCOUNT_OPTION, GAS_OPTION, type GasFlags, NODE_OPTION, tellMoves } from "../../gas-flags.ts";
import { openNewRequester } from "../../requester-session.ts";
import { parseAmountOrAll } from "../../values.ts";

type Options = FundingFlags & GasFlags & { amount: bigint | "all" };
type Result = {
  owner: Address;
  amountUsdc: string;
  creditUsdc: string;
  /** Who sent it; null for the wallet itself. */
  node: Address | null;
  transactions: MoveTransaction[];
};

export const depositCommand: CommandSpec<Options, Result> = {
  name: "deposit",
  summary: "Move USDC from the wallet into its credit in the Escrow",
  arguments: [new Argument("<amount>", "USDC, like 1.25, or all").argParser(parseAmountOrAll)],
  options: [GAS_OPTION, NODE_OPTION, ACCOUNT_OPTION, WAIT_FUNDS_OPTION],
  examples: ["wallet deposit 5", "wallet deposit 5 --wait-funds 30m", "wallet deposit all --gas node --json"],
  async run(context, { amount: wanted, gas, node: only, account, waitFunds }) {
    const { requester } = await openNewRequester(context, account);
    const owner = requester.account;
    const { amount, node, transactions } = await whenFunded(context, { owner, waitFunds }, () =>
      requester.deposit({ amount: wanted, gas, node: only }),
    );
    tellMoves(context, transactions);
    const chain = await context.chain();
    return {
      owner,
      amountUsdc: formatUsdc(amount),
      creditUsdc: formatUsdc(await chain.getCredit(owner)),
      node,
      transactions,
    };
  },
  render: ({ amountUsdc, creditUsdc }) => `Deposited ${amountUsdc} USDC. Credit: ${creditUsdc} USDC.`,
};
