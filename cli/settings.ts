// Owns which settings a person may keep in the file, and where the value that counts now comes from.
import type { z } from "zod";
import { InfernetError } from "../protocol/errors.ts";
import { formatUsdc } from "../protocol/price.ts";
import {
  COMMON_SETTINGS,
  chooseHome,
  commonSources,
  readConfigFile,
  resolveSetting,
  type Source,
  writeConfigFile,
} from "../runtime/config.ts";
import { BUDGET_SETTINGS, budgetSources } from "./budget-settings.ts";
import type { Context } from "./context.ts";
import { GATEWAY_SETTINGS, gatewaySources } from "./gateway-settings.ts";
import { PROVIDER_SETTINGS, providerSources } from "./provider-settings.ts";

type Place = Pick<Context, "flags" | "terminal">;

/** A setting as commands show it: `origin` is the flag or variable that gives it; `value` is null when none does. */
export type ShownSetting = {
  key: string;
  value: string | number | null;
  source: "flag" | "environment" | "file" | "default" | "unset";
  origin: string | null;
};

/** Sections of the file: who reads them is told where their settings come from. */
const SECTIONS = {
  requester: {
    schemas: BUDGET_SETTINGS,
    sources: ({ flags, terminal }: Place) => budgetSources(chooseHome(flags, terminal.env), terminal.env),
  },
  provider: {
    schemas: PROVIDER_SETTINGS,
    sources: ({ flags, terminal: { env } }: Place) => providerSources(chooseHome(flags, env), env),
  },
  gateway: {
    schemas: GATEWAY_SETTINGS,
    sources: ({ flags, terminal: { env } }: Place) => gatewaySources({ home: chooseHome(flags, env), env }),
  },
} as const;
type Section = keyof typeof SECTIONS;

type Setting = { key: string; name: string; section: Section | undefined; schema: z.core.$ZodType };

const SETTINGS: readonly Setting[] = [
  ...Object.entries(COMMON_SETTINGS).map(([name, schema]) => ({
    ...{ key: name, name, section: undefined, schema },
  })),
  ...Object.entries(SECTIONS).flatMap(([section, { schemas }]) =>
    Object.entries(schemas).map(([name, schema]) => ({
      ...{ key: `${section}.${name}`, name, section: section as Section, schema },
    })),
  ),
];

/** Every setting with its value and where that comes from. Throws `bad-config` when one of them is wrong. */
export function showSettings(place: Place): ShownSetting[] {
  return SETTINGS.map((setting) => show(place, setting));
}

/** One setting. Throws `bad-request` when there is none of this name. */
export function showSetting(place: Place, key: string): ShownSetting {
  return show(place, findSetting(key));
}

/** Keeps a setting in the file, checked. Throws `bad-request` for a wrong key or value, and then changes nothing. */
export function changeSetting({ flags, terminal }: Place, key: string, text: string): string | number {
  const home = chooseHome(flags, terminal.env);
  const { name, section, schema, key: known } = findSetting(key);
  let value: string | number;
  try {
    const checked = resolveSetting(name, schema, [{ name: "value", values: { [name]: text } }]).value;
    // An amount stays the text that a person wrote.
    value = typeof checked === "string" || typeof checked === "number" ? checked : text;
  } catch (error) {
    if (!(error instanceof InfernetError)) throw error;
    throw new InfernetError(
      "bad-request",
      `"${text}" cannot be ${known}: ${error.message.split(": ").at(-1)}`,
    );
  }
  const file = readConfigFile(home);
  if (section === undefined) writeConfigFile(home, { ...file, [name]: value });
  else writeConfigFile(home, { ...file, [section]: { ...sectionOf(file, section), [name]: value } });
  return value;
}

/** Takes a setting out of the file; false when it was not there. One that is no setting any more can go, too. */
export function removeSetting({ flags, terminal }: Place, key: string): boolean {
  const home = chooseHome(flags, terminal.env);
  const file = readConfigFile(home);
  if (Object.hasOwn(file, key)) {
    const { [key]: _removed, ...rest } = file;
    writeConfigFile(home, rest);
    return true;
  }
  const { name, section } = findSetting(key);
  const inside = section === undefined ? {} : sectionOf(file, section);
  if (section === undefined || !Object.hasOwn(inside, name)) return false;
  const { [name]: _removed, ...rest } = inside;
  writeConfigFile(home, { ...file, [section]: rest });
  return true;
}

function show(place: Place, { key, name, section, schema }: Setting): ShownSetting {
  const { flags, terminal } = place;
  const sources = section ? SECTIONS[section].sources(place) : commonSources(flags, terminal.env);
  const { value, source } = resolveSetting(name, schema, sources);
  const kind = source ? kindOf(source) : "unset";
  return {
    key,
    value: shownValue(value),
    source: kind,
    origin: kind === "flag" || kind === "environment" ? (source?.nameOf?.(name) ?? null) : null,
  };
}

function shownValue(value: unknown): ShownSetting["value"] {
  if (typeof value === "bigint") return formatUsdc(value);
  return typeof value === "boolean" ? String(value) : ((value ?? null) as ShownSetting["value"]);
}

function kindOf({ name }: Source): ShownSetting["source"] {
  if (name === "flags") return "flag";
  if (name === "environment") return "environment";
  return name === "defaults" ? "default" : "file";
}

function findSetting(key: string): Setting {
  const found = SETTINGS.find((setting) => setting.key === key);
  if (found) return found;
  throw new InfernetError("bad-request", `"${key}" is not a setting`, {
    hint: `Settings are ${SETTINGS.map((setting) => setting.key).join(", ")}.`,
  });
}

function sectionOf(file: Record<string, unknown>, section: string): Record<string, unknown> {
  const value = file[section] ?? {};
  if (typeof value === "object" && value !== null && !Array.isArray(value))
    return value as Record<string, unknown>;
  throw new InfernetError("bad-config", `"${section}" in config.json must be an object`);
}
