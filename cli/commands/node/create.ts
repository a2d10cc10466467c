// Owns `infernet node create`: a new key that sells, for those who want its address before they register it.
import type { Address } from "../../../protocol/bytes.ts";
import type { CommandSpec } from "../../command.ts";
import { createIdentity, keyPathOf } from "../../identity.ts";

type Result = { address: Address; path: string };

export const createNodeCommand: CommandSpec<object, Result> = {
  name: "create",
  summary: "Make the node's key, encrypted with a passphrase",
  examples: ["node create", "node create --home ./seller --json"],
  async run(context) {
    const { address } = await createIdentity(context, "node");
    return { address, path: await keyPathOf(context, "node") };
  },
  render: ({ address, path }) =>
    `${address}\nIt pays gas: send it some of the chain's coin, then: infernet register. Keep a copy of ${path}.`,
};
