// Owns `infernet wallet address`: the wallet's address, with no passphrase.
import type { Address } from "../../../protocol/bytes.ts";
import type { CommandSpec } from "../../command.ts";
import { keyPathOf, walletAddress } from "../../identity.ts";

type Result = { address: Address; path: string };

export const addressCommand: CommandSpec<object, Result> = {
  name: "address",
  summary: "Print the wallet's address",
  examples: ["wallet address"],
  run: async (context) => ({
    address: await walletAddress(context),
    path: await keyPathOf(context, "wallet"),
  }),
  render: ({ address }) => address,
};
