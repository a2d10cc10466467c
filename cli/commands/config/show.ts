// Owns `infernet config get`, `list` and `path`: what is set, and where it comes from.
import { Argument } from "commander";
import { InfernetError } from "../../../protocol/errors.ts";
import type { CommandSpec } from "../../command.ts";
import type { Context } from "../../context.ts";
import { formatTable } from "../../output.ts";
import type { ShownSetting } from "../../settings.ts";

export const getConfigCommand: CommandSpec<{ key: string }, ShownSetting> = {
  name: "get",
  summary: "Print the value of one setting that counts now",
  arguments: [new Argument("<key>", "the setting, like rpcUrl (see: infernet config list)")],
  examples: ["config get rpcUrl", "config get requester.maxUsdcPerDay --json"],
  async run(context, { key }) {
    const { showSetting } = await import("../../settings.ts");
    const setting = showSetting(context, key);
    if (setting.value !== null) return setting;
    throw new InfernetError("not-found", `${key} is not set`, {
      hint: `Set it: infernet config set ${key} VALUE.`,
    });
  },
  render: ({ value }) => String(value),
};

export const listConfigCommand: CommandSpec<object, { path: string; settings: ShownSetting[] }> = {
  name: "list",
  summary: "List all settings: their values, and where each comes from",
  examples: ["config list", "config list --json"],
  async run(context) {
    const { showSettings } = await import("../../settings.ts");
    return { path: await configPath(context), settings: showSettings(context) };
  },
  render: ({ path, settings }, style) =>
    formatTable([
      ["SETTING", "VALUE", "FROM"].map(style.dim),
      ...settings.map(({ key, value, source, origin }) => [
        key,
        String(value ?? ""),
        origin ?? (source === "file" ? path : source),
      ]),
    ]),
};

export const pathConfigCommand: CommandSpec<object, { path: string }> = {
  name: "path",
  summary: "Print where the file of settings lies, or would lie",
  examples: ["config path"],
  run: async (context) => ({ path: await configPath(context) }),
  render: ({ path }) => path,
};

/** Where the file of settings is; needs no file that can be read. */
export async function configPath({ flags, terminal }: Context): Promise<string> {
  const [{ chooseHome }, { homePaths }] = await Promise.all([
    import("../../../runtime/config.ts"),
    import("../../../runtime/home.ts"),
  ]);
  return homePaths(chooseHome(flags, terminal.env)).config;
}
