// Owns `infernet wallet import`: a key that another wallet made becomes this home folder's.
import { Option } from "commander";
import type { Address } from "../../../protocol/bytes.ts";
import type { CommandSpec } from "../../command.ts";
import { importIdentity, keyPathOf, NODE_KEY_OPTION, type RoleFlags, roleOf } from "../../identity.ts";
import { readText } from "../../prompt-input.ts";

type Options = RoleFlags & { file?: string };
type Result = { address: Address; path: string };

export const importCommand: CommandSpec<Options, Result> = {
  name: "import",
  summary: "Take over a key that another wallet made",
  options: [
    new Option("--file <path>", "a private key or a keystore JSON (default: standard input, or a question)"),
    NODE_KEY_OPTION,
  ],
  examples: ["wallet import --file UTC--2026-11-30.json", "wallet import < private-key.txt"],
  async run(context, options) {
    const role = roleOf(options);
    const { address } = await importIdentity(context, role, () => readKeyText(context, options));
    return { address, path: await keyPathOf(context, role) };
  },
  render: ({ address, path }) =>
    `${address}\nImported into ${path}. Delete what you imported it from, unless it is your copy.`,
};

function readKeyText(context: Parameters<typeof readText>[0], { file }: Options): Promise<string> {
  // A key that is typed or pasted is not shown.
  const ask = () =>
    context.prompter.secret({ message: "Private key or keystore JSON", missing: "--file PATH" });
  return readText(context, file, ask);
}
