// Owns how an OpenAI request becomes the tokens that an embedded model reads and the way that it samples.
import { randomInt } from "node:crypto";
import type {
  ChatHistoryItem,
  ChatWrapper,
  LlamaModel,
  SequenceEvaluateOptions,
  Token,
} from "node-llama-cpp";
import { InfernetError } from "../../protocol/errors.ts";
import type { Generation } from "./upstream.ts";

type Body = Record<string, unknown>;
type Message = { role: string; content?: unknown };

export type EmbeddedPrompt = {
  /** Every token that is evaluated before the first one is sampled. */
  tokens: Token[];
  stopTokens: ReadonlySet<Token>;
  stopTexts: readonly string[];
};

/** Tokens of which repetition is penalised. */
const PENALTY_WINDOW = 64;
/** Members that change the answer and that nothing here could honour. */
const UNSUPPORTED: Record<string, (value: unknown) => boolean> = {
  tools: (value) => Array.isArray(value) && value.length > 0,
  functions: (value) => Array.isArray(value) && value.length > 0,
  response_format: (value) => (value as { type?: unknown }).type !== "text",
  logprobs: (value) => value !== false,
  logit_bias: (value) => Object.keys(value as object).length > 0,
  suffix: (value) => value !== "",
  echo: (value) => value === true,
};

/** The prompt as the model reads it. Throws `bad-request` where the request asks for what no embedded model does. */
export function renderPrompt(model: LlamaModel, wrapper: ChatWrapper, input: Generation): EmbeddedPrompt {
  refuseUnsupported(input);
  const stopTexts = textsOf(input.body.stop);
  if (input.path === "/v1/completions") {
    const [prompt = ""] = textsOf(input.body.prompt);
    return { tokens: withOneBos(model, model.tokenize(prompt)), stopTokens: new Set(), stopTexts };
  }
  const chatHistory = historyOf(input.body.messages as Message[]);
  const state = wrapper.generateContextState({ chatHistory });
  const triggers = state.stopGenerationTriggers.map((trigger) => ({
    text: trigger.toString(),
    tokens: trigger.tokenize(model.tokenizer),
  }));
  return {
    tokens: withOneBos(model, state.contextText.tokenize(model.tokenizer)),
    stopTokens: new Set(triggers.flatMap(({ tokens }) => (tokens.length === 1 ? tokens : []))),
    stopTexts: [...stopTexts, ...triggers.filter(({ tokens }) => tokens.length > 1).map(({ text }) => text)],
  };
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

function refuseUnsupported({ path, body }: Generation): void {
  if (path === "/v1/embeddings") {
    throw new InfernetError("bad-request", "the embedded model makes no embeddings", {
      hint: "Ask a node that runs an embedding model behind Ollama or an OpenAI-compatible server.",
    });
  }
  for (const [member, asksForIt] of Object.entries(UNSUPPORTED)) {
    const value = body[member];
    if (value === undefined || value === null || !asksForIt(value)) continue;
    throw new InfernetError("bad-request", `the embedded model cannot honour ${member}: leave it out`);
  }
}

/** The conversation with an empty answer at its end, for the model to fill. No system prompt is made up. */
function historyOf(messages: readonly Message[]): ChatHistoryItem[] {
  return [...messages.map(historyItem), { type: "model", response: [] }];
}

function historyItem({ role, content }: Message, index: number): ChatHistoryItem {
  const text = contentText(content, index);
  if (role === "system" || role === "developer") return { type: "system", text };
  if (role === "user") return { type: "user", text };
  if (role === "assistant") return { type: "model", response: [text] };
  throw new InfernetError(
    "bad-request",
    `the embedded model knows no role "${role.slice(0, 32)}" (messages.${index})`,
  );
}

function contentText(content: unknown, index: number): string {
  if (!Array.isArray(content)) return typeof content === "string" ? content : "";
  return content
    .map((part: { type?: string; text?: unknown }) => {
      if (part.type === "text" && typeof part.text === "string") return part.text;
      throw new InfernetError(
        "bad-request",
        `the embedded model reads text only (messages.${index}.content)`,
      );
    })
    .join("");
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
