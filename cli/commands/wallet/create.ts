// Owns `infernet wallet create`: a new key that pays.
import type { Address } from "../../../protocol/bytes.ts";
import type { CommandSpec } from "../../command.ts";
import { createIdentity, keyPathOf } from "../../identity.ts";

type Result = { address: Address; path: string };

export const createCommand: CommandSpec<object, Result> = {
  name: "create",
  summary: "Make the wallet's key, encrypted with a passphrase",
  examples: ["wallet create", "wallet create --home ./buyer --json"],
  async run(context) {
    const { address } = await createIdentity(context, "wallet");
    return { address, path: await keyPathOf(context, "wallet") };
  },
  render: ({ address, path }) =>
    `${address}\nKeep a copy of ${path} and its passphrase: without both, the money is lost.`,
};
