// Owns `infernet wallet withdraw`: credit out of the Escrow as USDC.
import { Argument, Option } from "commander";
import type { Address } from "../../../protocol/bytes.ts";
import { formatUsdc } from "../../../protocol/price.ts";
import type { MoveTransaction } from "../../../requester/moves.ts";
import type { CommandSpec } from "../../command.ts";
import { ACCOUNT_OPTION, GAS_OPTION, type GasFlags, NODE_OPTION, tellMoves } from "../../gas-flags.ts";
import { openRequester } from "../../requester-session.ts";
import { parseAddress, parseAmountOrAll } from "../../values.ts";

type Options = GasFlags & { amount: bigint | "all"; to?: Address };
type Result = {
  owner: Address;
  to: Address;
  amountUsdc: string;
  /** What the node that sent it earned, out of the credit. */
  feeUsdc: string;
  creditUsdc: string;
  /** Who sent it; null for the wallet itself. */
  node: Address | null;
  transactions: MoveTransaction[];
};

export const withdrawCommand: CommandSpec<Options, Result> = {
  name: "withdraw",
  summary: "Move credit out of the Escrow as USDC",
  arguments: [new Argument("<amount>", "USDC, like 1.25, or all").argParser(parseAmountOrAll)],
  options: [
    new Option("--to <address>", "where to (default: the wallet)").argParser(parseAddress),
    GAS_OPTION,
    NODE_OPTION,
    ACCOUNT_OPTION,
  ],
  examples: ["wallet withdraw all", "wallet withdraw 2.5 --to 0x70997970C51812dc3A010C7d01b50e0d17dc79C8"],
  async run(context, { amount: wanted, to: wished, gas, node: only, account }) {
    const requester = await openRequester(context, account);
    const owner = requester.account;
    const to = wished ?? owner;
    const moved = await requester.withdraw({ amount: wanted, to, gas, node: only });
    const { amount, fee, node, transactions } = moved;
    tellMoves(context, transactions);
    const chain = await context.chain();
    return {
      owner,
      to,
      amountUsdc: formatUsdc(amount),
      feeUsdc: formatUsdc(fee),
      creditUsdc: formatUsdc(await chain.getCredit(owner)),
      node,
      transactions,
    };
  },
  render: ({ amountUsdc, feeUsdc, node, to, creditUsdc }) => {
    const fee = node ? ` (fee: ${feeUsdc} USDC)` : "";
    return `Withdrew ${amountUsdc} USDC to ${to}${fee}. Credit: ${creditUsdc} USDC.`;
  },
};
