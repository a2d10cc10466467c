// Owns `infernet wallet export`: a key leaves the home folder, encrypted unless the bare key is asked for twice.
import { Option } from "commander";
import type { Address, Hex } from "../../../protocol/bytes.ts";
import { InfernetError } from "../../../protocol/errors.ts";
import type { CommandSpec } from "../../command.ts";
import type { Context } from "../../context.ts";
import {
  NODE_KEY_OPTION,
  needAddress,
  type RoleFlags,
  readKeyFile,
  revealPrivateKey,
  roleOf,
} from "../../identity.ts";

type Options = RoleFlags & { out?: string; privateKey?: true; yes?: true };
/** `keystore` (an object) or `privateKey`, unless it went to the file `path`. */
type Result = { address: Address; path?: string; keystore?: object; privateKey?: Hex };

export const exportCommand: CommandSpec<Options, Result> = {
  name: "export",
  summary: "Give out the key file, which every Ethereum wallet reads, or the bare key",
  options: [
    new Option("--out <path>", "a new file that only you may read (default: standard output)"),
    new Option("--private-key", "the bare key, which whoever sees it can spend with"),
    new Option("--yes", "do not ask before the bare key is shown"),
    NODE_KEY_OPTION,
  ],
  examples: ["wallet export --out wallet-copy.json", "wallet export --private-key"],
  async run(context, options) {
    const role = roleOf(options);
    const address = await needAddress(context, role);
    if (options.privateKey) await confirmReveal(context, address, options.yes === true);
    const text = options.privateKey
      ? await revealPrivateKey(context, role)
      : (await readKeyFile(context, role)).trim();
    if (options.out !== undefined) {
      const { createPrivateFile } = await import("../../../runtime/private-file.ts");
      await createPrivateFile(options.out, `${text}\n`);
      return { address, path: options.out };
    }
    return options.privateKey
      ? { address, privateKey: text as Hex }
      : { address, keystore: JSON.parse(text) as object };
  },
  render: ({ address, path, keystore, privateKey }) =>
    privateKey ?? (keystore ? JSON.stringify(keystore) : `${address}\nWritten to ${path}.`),
};

/** The end of the address is what has to be typed: it is on the screen, and nobody types it by accident. */
async function confirmReveal({ prompter }: Context, address: Address, isSure: boolean): Promise<void> {
  if (isSure) return;
  const end = address.slice(-6);
  const typed = await prompter.text({
    message: `Whoever sees the private key of ${address} can take its money. Type ${end} to go on`,
    missing: "--yes",
  });
  if (typed.toLowerCase() === end) return;
  throw new InfernetError("bad-request", "that is not the end of the address: nothing was exported", {
    hint: "Without --private-key the export is encrypted, which is enough for a copy.",
  });
}
