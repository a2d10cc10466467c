// Owns how an OpenAI request becomes the tokens that an embedded model reads and the way that it samples.
import { randomInt } from "node:crypto";
import type { ChatWrapper, LlamaModel, LlamaText, SequenceEvaluateOptions, Token } from "node-llama-cpp";
import { InfernetError } from "../../protocol/errors.ts";
import { historyOf } from "./embedded-history.ts";
import {
  type CallForm,
  callForm,
  callTriggers,
  documentedFunctions,
  readTools,
  type ToolWish,
} from "./embedded-tools.ts";
import { grammarOfAnyObject, grammarOfSchema } from "./schema-grammar.ts";
import type { Generation } from "./upstream.ts";

type Body = Record<string, unknown>;

/** A model, its chat template, and the package that both come from. */
export type Reader = { model: LlamaModel; wrapper: ChatWrapper; package: typeof import("node-llama-cpp") };

/** What the answer is: free text, in which a call may begin; JSON of a grammar; or a call of a tool. */
export type AnswerForm =
  | { kind: "text"; triggers: readonly string[]; call: CallForm | undefined }
  | { kind: "json"; grammar: string }
  | { kind: "call"; call: CallForm };

export type EmbeddedPrompt = {
  /** Every token that is evaluated before the first one is sampled. */
  tokens: Token[];
  stopTokens: ReadonlySet<Token>;
  stopTexts: readonly string[];
  form: AnswerForm;
};

const FREE_TEXT: AnswerForm = { kind: "text", triggers: [], call: undefined };
/** Tokens of which repetition is penalised. */
const PENALTY_WINDOW = 64;
/** Members that change the answer and that nothing here could honour. */
const UNSUPPORTED: Record<string, (value: unknown) => boolean> = {
  logprobs: (value) => value !== false,
  logit_bias: (value) => Object.keys(value as object).length > 0,
  suffix: (value) => value !== "",
  echo: (value) => value === true,
};

/** The prompt as the model reads it. Throws `bad-request` where the request asks for what no embedded model does. */
export function renderPrompt(reader: Reader, input: Generation): EmbeddedPrompt {
  refuseUnsupported(input);
  const { model } = reader;
  const { body } = input;
  const stopTexts = textsOf(body.stop);
  if (input.path === "/v1/completions") {
    const [prompt = ""] = textsOf(body.prompt);
    const form = formatOf(body.response_format) ?? FREE_TEXT;
    return { tokens: withOneBos(model, model.tokenize(prompt)), stopTokens: new Set(), stopTexts, form };
  }
  const wish = readTools(body);
  const form = formOf(reader, body, wish);
  const { contextText, stopGenerationTriggers } = renderChat(reader, body, wish);
  const text = form.kind === "call" ? callLead(reader, contextText, form.call) : contextText;
  const triggers = stopGenerationTriggers.map((trigger) => ({
    text: trigger.toString(),
    tokens: trigger.tokenize(model.tokenizer),
  }));
  return {
    tokens: withOneBos(model, text.tokenize(model.tokenizer)),
    stopTokens: new Set(triggers.flatMap(({ tokens }) => (tokens.length === 1 ? tokens : []))),
    stopTexts: [...stopTexts, ...triggers.filter(({ tokens }) => tokens.length > 1).map(({ text }) => text)],
    form,
  };
}

/** The text up to where a call is sampled: where there is one tool only, its name is no question any more. */
export function callLead({ package: { LlamaText } }: Reader, before: LlamaText, call: CallForm): LlamaText {
  const { lead, names, between } = call;
  return LlamaText([before, lead, ...(names.length === 1 ? [names[0]!, between] : [])]);
}

/** Sampling as the request asks; llama.cpp's own defaults where it does not. `sampled` grows as tokens come. */
export function readSampling(body: Body, sampled: readonly Token[]): SequenceEvaluateOptions {
  return {
    temperature: numberOf(body.temperature, 0.8),
    topP: numberOf(body.top_p, 0.95),
    topK: numberOf(body.top_k, 40),
    minP: numberOf(body.min_p, 0.05),
    seed: numberOf(body.seed, randomInt(2 ** 32)) >>> 0,
    repeatPenalty: {
      punishTokens: () => sampled.slice(-PENALTY_WINDOW),
      penalty: numberOf(body.repeat_penalty, 1),
      frequencyPenalty: numberOf(body.frequency_penalty, 0),
      presencePenalty: numberOf(body.presence_penalty, 0),
    },
  };
}

/** The most tokens that the request lets the model sample. */
export function readLimit(body: Body): number {
  return numberOf(body.max_completion_tokens ?? body.max_tokens, Number.POSITIVE_INFINITY);
}

function renderChat({ wrapper }: Reader, body: Body, wish: ToolWish) {
  const chatHistory = historyOf(body.messages as unknown[]);
  if (wish.tools.length === 0) return wrapper.generateContextState({ chatHistory });
  try {
    const availableFunctions = documentedFunctions(wish);
    return wrapper.generateContextState({ chatHistory, availableFunctions, documentFunctionParams: true });
  } catch (cause) {
    throw new InfernetError("bad-request", "the model's chat template cannot describe these tools", {
      cause,
    });
  }
}

function formOf({ wrapper, package: llama }: Reader, body: Body, { tools, mustCall }: ToolWish): AnswerForm {
  const format = formatOf(body.response_format);
  if (mustCall !== "auto") {
    if (mustCall.length === 0) return format ?? FREE_TEXT;
    return { kind: "call", call: callForm(wrapper, mustCall, llama) };
  }
  const call = callForm(wrapper, tools, llama);
  if (format === undefined) return { kind: "text", triggers: callTriggers(wrapper, llama), call };
  throw new InfernetError("bad-request", "the embedded model cannot choose between a tool and JSON", {
    hint: 'Set tool_choice to "none", to "required" or to a tool, or leave response_format out.',
  });
}

function formatOf(format: unknown): AnswerForm | undefined {
  const { type, json_schema: described } = (format ?? {}) as {
    type?: unknown;
    json_schema?: { schema?: unknown };
  };
  if (type === undefined || type === "text") return undefined;
  if (type === "json_object") return { kind: "json", grammar: grammarOfAnyObject() };
  if (type === "json_schema" && described?.schema !== undefined) {
    return { kind: "json", grammar: grammarOfSchema(described.schema) };
  }
  throw new InfernetError(
    "bad-request",
    "response_format must be text, json_object, or json_schema with a schema",
  );
}

function refuseUnsupported({ body }: Generation): void {
  for (const [member, asksForIt] of Object.entries(UNSUPPORTED)) {
    const value = body[member];
    if (value === undefined || value === null || !asksForIt(value)) continue;
    throw new InfernetError("bad-request", `the embedded model cannot honour ${member}: leave it out`);
  }
}

/**
 * The tokens with one beginning-of-text token where the model wants one. Some chat templates spell theirs out beside
 * the one that is always added, and small models answer two of them with nonsense.
 */
function withOneBos({ tokens: { bos, shouldPrependBosToken } }: LlamaModel, tokens: Token[]): Token[] {
  if (bos === null) return tokens;
  if (tokens[0] === bos) return tokens[1] === bos ? tokens.slice(1) : tokens;
  return shouldPrependBosToken ? [bos, ...tokens] : tokens;
}

function textsOf(value: unknown): string[] {
  if (typeof value === "string") return [value];
  return Array.isArray(value) ? value.filter((item) => typeof item === "string") : [];
}

function numberOf(value: unknown, otherwise: number): number {
  return typeof value === "number" && Number.isFinite(value) ? value : otherwise;
}
