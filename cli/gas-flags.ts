// Owns the flags that say who pays the gas, whose money it is, and how what was sent is told.
import { Option } from "commander";
import type { Address } from "../protocol/bytes.ts";
import type { GasChoice } from "../requester/gas.ts";
import type { MoveTransaction } from "../requester/moves.ts";
import type { Context } from "./context.ts";
import { parseAddress } from "./values.ts";

export type GasFlags = { gas?: GasChoice; node?: Address; account?: Address };

const CHOICES: readonly GasChoice[] = ["auto", "own", "node"];

export const GAS_OPTION = new Option(
  "--gas <who>",
  "who pays the gas: the wallet (own), a node that sends it for you (node), or whichever can (auto)",
).choices(CHOICES);

export const NODE_OPTION = new Option("--node <address>", "let only this node send it").argParser(
  parseAddress,
);

export const ACCOUNT_OPTION = new Option(
  "--account <address>",
  "a smart wallet that the wallet's key owns, whose money it is",
).argParser(parseAddress);

/** Tells each transaction that was sent. */
export function tellMoves({ output }: Context, transactions: readonly MoveTransaction[]): void {
  for (const sent of transactions) {
    const gas = sent.gasUsed === null ? "sent by a node" : `gas ${sent.gasUsed}`;
    output.progress({ event: "transaction", ...sent }, `${sent.label}: ${sent.tx} (${gas})`);
  }
}
