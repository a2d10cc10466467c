// Owns `infernet wallet address`: the wallet's address, with no passphrase.
import type { Address } from "../../../protocol/bytes.ts";
import type { CommandSpec } from "../../command.ts";
import { keyPathOf, NODE_KEY_OPTION, needAddress, type RoleFlags, roleOf } from "../../identity.ts";

type Result = { address: Address; path: string };

export const addressCommand: CommandSpec<RoleFlags, Result> = {
  name: "address",
  summary: "Print the wallet's address",
  options: [NODE_KEY_OPTION],
  examples: ["wallet address", "wallet address --node-key"],
  run: async (context, options) => ({
    address: await needAddress(context, roleOf(options)),
    path: await keyPathOf(context, roleOf(options)),
  }),
  render: ({ address }) => address,
};
