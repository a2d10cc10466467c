// Owns `infernet config set` and `unset`: what the file of settings holds.
import { Argument } from "commander";
import type { CommandSpec } from "../../command.ts";
import { configPath } from "./show.ts";

const KEY_ARGUMENT = new Argument("<key>", "the setting, like rpcUrl (see: infernet config list)");

type SetResult = { key: string; value: string | number; path: string };

export const setConfigCommand: CommandSpec<{ key: string; value: string }, SetResult> = {
  name: "set",
  summary: "Keep a setting in the file",
  arguments: [KEY_ARGUMENT, new Argument("<value>", "its new value")],
  examples: ["config set rpcUrl https://mainnet.base.org", "config set requester.maxUsdcPerDay 2.50"],
  async run(context, { key, value }) {
    const { changeSetting } = await import("../../settings.ts");
    return { key, value: changeSetting(context, key, value), path: await configPath(context) };
  },
  render: ({ key, value, path }) => `${key} is ${value} now, in ${path}`,
};

type UnsetResult = { key: string; removed: boolean; path: string };

export const unsetConfigCommand: CommandSpec<{ key: string }, UnsetResult> = {
  name: "unset",
  summary: "Take a setting out of the file",
  arguments: [KEY_ARGUMENT],
  examples: ["config unset rpcUrl"],
  async run(context, { key }) {
    const { removeSetting } = await import("../../settings.ts");
    return { key, removed: removeSetting(context, key), path: await configPath(context) };
  },
  render: ({ key, removed, path }) =>
    removed ? `${key} is no longer in ${path}` : `${key} was not in ${path}: nothing to do`,
};
