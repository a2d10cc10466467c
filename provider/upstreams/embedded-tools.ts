// Owns what an embedded model is told of its tools, and the form in which it is made to call one.
import type { ChatModelFunctions, ChatWrapper, LlamaText } from "node-llama-cpp";
import { InfernetError } from "../../protocol/errors.ts";
import { type Callable, grammarOfArguments, grammarOfCall } from "./schema-grammar.ts";

type Body = Record<string, unknown>;
type Tool = { type?: unknown; function?: { name?: unknown; description?: unknown; parameters?: unknown } };
type LlamaTexts = Pick<typeof import("node-llama-cpp"), "LlamaText">;

export type ToolWish = {
  tools: readonly (Callable & { description?: string })[];
  /** "auto" where the model may answer or call; otherwise the tools of which it must call one; empty for none. */
  mustCall: readonly Callable[] | "auto";
};

/** A call in the model's own words: `lead` comes before the name, `between` before the arguments. */
export type CallForm = {
  lead: LlamaText;
  names: readonly string[];
  between: string;
  /** Holds what is sampled behind `lead`, and behind name and `between` where there is one name only. */
  grammar: string;
};

const TOOL_NAME = /^[a-zA-Z0-9_-]{1,64}$/;
const NO_TOOLS: ToolWish = { tools: [], mustCall: [] };

/** What a request says of tools. Throws `bad-request` where it cannot be understood. */
export function readTools({ tools, functions, tool_choice: choice }: Body): ToolWish {
  if (Array.isArray(functions) && functions.length > 0) {
    throw new InfernetError("bad-request", "functions is the old form of tools: send tools");
  }
  if (!Array.isArray(tools) || tools.length === 0 || choice === "none") return NO_TOOLS;
  const known = tools.map(toolOf);
  if (new Set(known.map(({ name }) => name)).size < known.length) {
    throw new InfernetError("bad-request", "two tools have the same name");
  }
  if (choice === undefined || choice === null || choice === "auto") return { tools: known, mustCall: "auto" };
  if (choice === "required") return { tools: known, mustCall: known };
  const { name } = (choice as Tool).function ?? {};
  const named = known.filter((tool) => tool.name === name);
  if (named.length === 1) return { tools: known, mustCall: named };
  throw new InfernetError(
    "bad-request",
    "tool_choice must be none, auto, required, or name one of the tools",
  );
}

function toolOf({ type, function: described }: Tool, index: number): ToolWish["tools"][number] {
  const { name, description, parameters } = described ?? {};
  if (type !== "function" || typeof name !== "string" || !TOOL_NAME.test(name)) {
    throw new InfernetError(
      "bad-request",
      `tools.${index} is not a function with a name of letters, digits, _ or -`,
    );
  }
  return { name, parameters, ...(typeof description === "string" ? { description } : {}) };
}

/** The tools as chat templates are given them. */
export function documentedFunctions({ tools }: ToolWish): ChatModelFunctions {
  return Object.fromEntries(
    tools.map(({ name, description, parameters }) => [
      name,
      { ...(description === undefined ? {} : { description }), params: parameters as never },
    ]),
  );
}

/**
 * Has a template that knows nothing of tools tell of them in few words: llama.cpp's own preface would cost a short
 * request more than its text. Templates with a form of their own keep it.
 */
export function shortenPreface(
  wrapper: ChatWrapper,
  base: typeof ChatWrapper,
  { LlamaText }: LlamaTexts,
): void {
  const method = "generateAvailableFunctionsSystemText";
  if (wrapper[method] !== base.prototype[method]) return;
  wrapper[method] = (functions) => {
    const lines = Object.entries(functions).map(([name, { description, params }]) =>
      JSON.stringify({ name, description, parameters: params }),
    );
    const example = wrapper.generateFunctionCall("name", { key: "value" });
    return LlamaText.joinValues("\n", ["Tools:", ...lines, LlamaText(["Call one like this: ", example])]);
  };
}

/** How one of these tools is called in the model's own words. */
export function callForm(
  wrapper: ChatWrapper,
  callable: readonly Callable[],
  { LlamaText }: LlamaTexts,
): CallForm {
  const { call, parallelism } = wrapper.settings.functions;
  const between = LlamaText(call.paramsPrefix).toString();
  const [only, ...others] = callable;
  const grammar = others.length === 0 ? grammarOfArguments(only!) : grammarOfCall(callable, between);
  return {
    lead: LlamaText([parallelism?.call.sectionPrefix ?? "", call.prefix]),
    names: callable.map(({ name }) => name),
    between,
    grammar,
  };
}

/** Texts that begin a call, longest first: where a model that may call writes one, it is held to a call from there. */
export function callTriggers(wrapper: ChatWrapper, { LlamaText }: LlamaTexts): string[] {
  const { call, parallelism } = wrapper.settings.functions;
  const leads = [
    ...[parallelism?.call.sectionPrefix, ...(parallelism?.call.sectionPrefixAlternateMatches ?? [])],
    ...[call.prefix, ...(call.prefixAlternateMatches ?? [])],
  ];
  const texts = leads.map((lead) =>
    LlamaText(lead ?? "")
      .toString()
      .trim(),
  );
  return [...new Set(texts)]
    .filter((text) => text !== "")
    .toSorted((one, other) => other.length - one.length);
}
