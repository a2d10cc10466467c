// Owns what a requested model name means: a name on sale, a name of the user's own, or the cheapest or fastest of all.
import { InfernetError } from "../../protocol/errors.ts";

/** `auto` means any model that can serve the request. */
export type WantedModel = { kind: "named"; name: string } | { kind: "auto"; by: "cheap" | "fast" };

/** The user's own names for models: each stands for a name on sale or for an `auto:` name. */
export type ModelAliases = ReadonlyMap<string, string>;

const AUTO_PREFIX = "auto:";
/** What Ollama adds to a name that says no tag. */
const DEFAULT_TAG = ":latest";

/** Reads a requested name; an alias of the user's comes before everything else. Throws `bad-request`. */
export function readWantedModel(requested: string, aliases: ModelAliases): WantedModel {
  const name = aliases.get(requested) ?? requested;
  if (!name.startsWith(AUTO_PREFIX)) return { kind: "named", name };
  const by = name.slice(AUTO_PREFIX.length);
  if (by === "cheap" || by === "fast") return { kind: "auto", by };
  throw new InfernetError("bad-request", `"${name}" is no way to choose a model`, {
    hint: "Use auto:cheap, auto:fast, or a model's name.",
  });
}

/** Whether an offered model is the wanted one; a name with Ollama's default tag is the same as one without a tag. */
export function isWantedModel(offered: string, wanted: WantedModel): boolean {
  return wanted.kind === "auto" || untagged(offered) === untagged(wanted.name);
}

/** How a wanted model is called in messages. */
export function describeWanted(wanted: WantedModel): string {
  return wanted.kind === "named" ? wanted.name : AUTO_PREFIX + wanted.by;
}

function untagged(name: string): string {
  return name.endsWith(DEFAULT_TAG) ? name.slice(0, -DEFAULT_TAG.length) : name;
}
