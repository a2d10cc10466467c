// Owns settings: flags win over environment, environment over the file in the home folder, that over defaults.
import { readFileSync } from "node:fs";
import { z } from "zod";
import { toAddress } from "../protocol/bytes.ts";
import { InfernetError } from "../protocol/errors.ts";
import { type Environment, homeFolder, homePaths } from "./home.ts";
import { replacePrivateFile, systemCode } from "./private-file.ts";

const address = z
  .string()
  .regex(/^0x[0-9a-fA-F]{40}$/, "expected an address: 0x and 40 hex digits")
  .transform(toAddress);

const flag = z
  .union([z.boolean(), z.enum(["true", "false"], "expected true or false")])
  .transform((value) => value === true || value === "true");

/** The settings that every command shares and the file may hold. */
export const COMMON_SETTINGS = {
  rpcUrl: z.url({ protocol: /^(https?|wss?)$/, error: "expected an http(s):// or ws(s):// URL" }),
  chainId: z.coerce.number("expected a number").int().positive(),
  registry: address.optional(),
  escrow: address.optional(),
  usdc: address.optional(),
  deploymentFolder: z.string().min(1).optional(),
  allowPrivate: flag,
  logLevel: z.enum(["debug", "info", "warn", "error", "silent"]),
};

const shape = { home: z.string().min(1), ...COMMON_SETTINGS };

export type Config = z.infer<z.ZodObject<typeof shape>>;

/** The local chain: a real one is chosen by an explicit setting only. */
const DEFAULTS = { rpcUrl: "http://127.0.0.1:8545", chainId: 31_337, allowPrivate: false, logLevel: "info" };

/** Sections of the file that belong to one actor and are resolved with `resolveSettings` by its command. */
const SECTIONS = ["provider", "requester", "gateway"];

/** Where a setting may come from, strongest first: `name` is said in errors. */
export type Source = {
  name: string;
  values: Readonly<Record<string, unknown>>;
  nameOf?(key: string): string;
};

/** What all commands share. `bad-config` names the source and the key that is wrong. `defaults` replace the built-in. */
export function loadConfig(
  flags: Partial<Record<keyof Config, unknown>>,
  env: Environment = process.env,
  defaults: Partial<Config> = {},
): Config {
  const home = chooseHome(flags, env);
  const file = readConfigFile(home);
  const unknown = Object.keys(file).find(
    (key) => key === "home" || !(key in shape || SECTIONS.includes(key)),
  );
  if (unknown !== undefined) {
    throw new InfernetError("bad-config", `${homePaths(home).config}: "${unknown}" is not a setting`, {
      hint: `Settings are ${Object.keys(COMMON_SETTINGS).join(", ")}.`,
    });
  }
  return resolveSettings(shape, commonSources(flags, env, defaults));
}

/** The home folder of a command line; needs no file there. */
export function chooseHome(flags: Partial<Record<keyof Config, unknown>>, env: Environment): string {
  return typeof flags.home === "string" && flags.home !== "" ? flags.home : homeFolder(env);
}

/** Where `COMMON_SETTINGS` come from, strongest first. `bad-config` when the file cannot be read. */
export function commonSources(
  flags: Partial<Record<keyof Config, unknown>>,
  env: Environment,
  defaults: Partial<Config> = {},
): Source[] {
  const home = chooseHome(flags, env);
  return [
    flagSource(flags),
    environmentSource(env, Object.keys(shape)),
    { name: homePaths(home).config, values: readConfigFile(home) },
    { name: "defaults", values: { ...DEFAULTS, ...defaults, home } },
  ];
}

/**
 * Takes each setting from the first source that has it and checks it against its schema. An actor's own settings are
 * resolved by this too. `bad-config` names the source and the key.
 */
export function resolveSettings<Shape extends z.ZodRawShape>(
  settings: Shape,
  sources: readonly Source[],
): z.infer<z.ZodObject<Shape>> {
  const resolved: Record<string, unknown> = {};
  for (const [key, schema] of Object.entries(settings)) {
    const { value } = resolveSetting(key, schema, sources);
    if (value !== undefined) resolved[key] = value;
  }
  return resolved as z.infer<z.ZodObject<Shape>>;
}

/** One setting, checked, and the source that it was taken from; both undefined when no source has it. */
export function resolveSetting(
  key: string,
  schema: z.core.$ZodType,
  sources: readonly Source[],
): { value: unknown; source: Source | undefined } {
  const source = sources.find(({ values }) => values[key] !== undefined);
  const result = z.safeParse(schema, source?.values[key]);
  if (result.success) return { value: result.data, source };
  const issue = result.error.issues[0];
  const where = [source?.nameOf?.(key) ?? key, ...(issue?.path ?? [])].join(".");
  throw new InfernetError("bad-config", `${source?.name ?? "settings"}: ${where}: ${issue?.message}`);
}

/** Command-line flags: `rpcUrl` is `--rpc-url`. */
export function flagSource(flags: Readonly<Record<string, unknown>>): Source {
  return { name: "flags", values: flags, nameOf: (key) => `--${kebabCase(key)}` };
}

/** Environment variables: `rpcUrl` is `INFERNET_RPC_URL`. An empty one counts as absent. */
export function environmentSource(env: Environment, keys: readonly string[], prefix = "INFERNET_"): Source {
  const nameOf = (key: string) => `${prefix}${kebabCase(key).replaceAll("-", "_").toUpperCase()}`;
  const values = keys.map((key) => [key, env[nameOf(key)] || undefined] as const);
  return { name: "environment", values: Object.fromEntries(values), nameOf };
}

/** The settings in the home folder's file, unchecked; none when there is no file. `bad-config` when unreadable. */
export function readConfigFile(home: string): Record<string, unknown> {
  const path = homePaths(home).config;
  try {
    return z.record(z.string(), z.unknown()).parse(JSON.parse(readFileSync(path, "utf8")));
  } catch (cause) {
    if (systemCode(cause) === "ENOENT") return {};
    throw new InfernetError("bad-config", `${path} is not a JSON object that can be read`, {
      hint: "Mend the file, or move it away to go on with the defaults.",
      cause,
    });
  }
}

/** Puts other settings into the home folder's file, all at once. `bad-config` when it cannot be written. */
export function writeConfigFile(home: string, contents: Record<string, unknown>): void {
  replacePrivateFile(homePaths(home).config, `${JSON.stringify(contents, null, 2)}\n`);
}

/** INFERNET_PASSPHRASE, else the text of the file that INFERNET_PASSPHRASE_FILE names, without its last line break. */
export function readPassphraseSource(env: Environment): string | undefined {
  if (env.INFERNET_PASSPHRASE) return env.INFERNET_PASSPHRASE;
  const path = env.INFERNET_PASSPHRASE_FILE;
  if (!path) return undefined;
  try {
    return readFileSync(path, "utf8").replace(/\r?\n$/, "");
  } catch (cause) {
    throw new InfernetError(
      "bad-config",
      `INFERNET_PASSPHRASE_FILE: cannot read ${path}: ${systemCode(cause)}`,
      {
        cause,
      },
    );
  }
}

function kebabCase(key: string): string {
  return key.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}
