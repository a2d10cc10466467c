// Owns where the settings of one actor's section come from: environment over the file's section over defaults.
import { InfernetError } from "../protocol/errors.ts";
import { environmentSource, readConfigFile, type Source } from "../runtime/config.ts";
import { type Environment, homePaths } from "../runtime/home.ts";

/** The sources of a section's keys, strongest first. Throws `bad-config` for a file that cannot be read. */
export function sectionSources(
  section: "requester" | "provider",
  keys: readonly string[],
  defaults: Readonly<Record<string, unknown>>,
  { home, env }: { home: string; env: Environment },
): Source[] {
  const { [section]: values = {} } = readConfigFile(home);
  if (typeof values !== "object" || values === null || Array.isArray(values)) {
    throw new InfernetError("bad-config", `"${section}" in ${homePaths(home).config} must be an object`);
  }
  return [
    environmentSource(env, keys),
    { name: "config.json", values: values as Record<string, unknown>, nameOf: (key) => `${section}.${key}` },
    { name: "defaults", values: defaults },
  ];
}
