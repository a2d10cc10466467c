// Owns what a request needs of its model beside tokens, and the refusal where the model lacks it.
import { InfernetError } from "./errors.ts";
import type { OfferedModel } from "./offer.ts";
import type { ModelPath } from "./wire.ts";

/**
 * What a request may need of a model. `json` is an answer held to JSON or to a schema; `images` is reading them;
 * `continue` is going on with a last message of the assistant instead of answering it.
 */
export const MODEL_FEATURES = [
  "chat",
  "completions",
  "embeddings",
  "tools",
  "json",
  "images",
  "continue",
] as const;
export type ModelFeature = (typeof MODEL_FEATURES)[number];

type Json = Record<string, unknown>;

/** What a model must do to serve a request: never empty. Whoever pays and whoever serves read it from the same bytes. */
export function featuresOf(path: ModelPath, body: Json): ModelFeature[] {
  if (path === "/v1/embeddings") return ["embeddings"];
  const json: ModelFeature[] = wantsJson(body.response_format) ? ["json"] : [];
  if (path === "/v1/completions") return ["completions", ...json];
  const messages = Array.isArray(body.messages) ? body.messages.filter(isObject) : [];
  const needed: ModelFeature[] = ["chat", ...json];
  if (hasItems(body.tools) || hasItems(body.functions) || messages.some(speaksOfTools)) needed.push("tools");
  if (messages.some(hasImage)) needed.push("images");
  if (messages.at(-1)?.role === "assistant") needed.push("continue");
  return needed;
}

/** Throws `unsupported`, naming every feature that a request needs and the model's offer does not have. */
export function checkFeatures(
  { name, features }: Pick<OfferedModel, "name" | "features">,
  needed: readonly ModelFeature[],
): void {
  const missing = needed.filter((feature) => !features.includes(feature));
  if (missing.length === 0) return;
  const has = features.length === 0 ? "nothing that is known here" : features.join(", ");
  throw new InfernetError("unsupported", `the node's model "${name}" does not do: ${missing.join(", ")}`, {
    hint: `It does: ${has}. Ask another model or node, or leave that out.`,
    data: { missing: missing.join(",") },
  });
}

function wantsJson(format: unknown): boolean {
  return isObject(format) && format.type !== undefined && format.type !== "text";
}

function speaksOfTools({ role, tool_calls, function_call }: Json): boolean {
  return role === "tool" || role === "function" || hasItems(tool_calls) || isObject(function_call);
}

function hasImage({ content }: Json): boolean {
  if (!Array.isArray(content)) return false;
  return content.some((part) => isObject(part) && (part.type === "image_url" || part.type === "input_image"));
}

function hasItems(value: unknown): boolean {
  return Array.isArray(value) && value.length > 0;
}

function isObject(value: unknown): value is Json {
  return typeof value === "object" && value !== null;
}
