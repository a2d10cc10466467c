// Owns going on with an answer that broke off: when another node may, and what it is asked then.
import type { ModelPath } from "../../protocol/wire.ts";
import { changeBody, type Json, readBody } from "./request-body.ts";

/** What has come of an answer that broke off. */
export type Begun = {
  text: string;
  /** Its completion tokens by the requester's own count. */
  tokens: number;
  /** It was text alone: no tool calls, thoughts, log probabilities or anything else. */
  isPlain: boolean;
};

/**
 * Members whose meaning the second half of an answer would change: what may only be said whole, what speaks of a
 * position, and stop texts, which may lie across the break.
 */
const WHOLE_ONLY = [
  ...["tools", "functions", "tool_choice", "response_format", "logprobs", "top_logprobs", "stop", "echo"],
  ...["suffix", "best_of", "audio", "modalities", "prediction", "min_tokens", "grammar"],
];

/** Whether another node with the same weights may go on where an answer of this request broke off. */
export function canContinue(path: ModelPath, body: Uint8Array, { isPlain }: Begun): boolean {
  const read = readBody(body);
  if (!isPlain || read.stream !== true || WHOLE_ONLY.some((name) => isMeant(name, read[name]))) return false;
  if (path === "/v1/completions") return typeof read.prompt === "string";
  if (path !== "/v1/chat/completions" || !Array.isArray(read.messages)) return false;
  const last = read.messages.at(-1) as Json | undefined;
  return last?.role !== "assistant" || typeof last.content === "string";
}

function isMeant(name: string, value: unknown): boolean {
  if (value === undefined || value === null || value === false) return false;
  if (Array.isArray(value)) return value.length > 0;
  if (name === "response_format") return (value as Json).type !== "text";
  return value !== "" && value !== "none";
}

/** The request for the rest of an answer; undefined when nothing of it is left to be said. */
export function continueBody(path: ModelPath, body: Uint8Array, begun: Begun): Uint8Array | undefined {
  const read = readBody(body);
  const limits = ["max_tokens", "max_completion_tokens"].filter((name) => typeof read[name] === "number");
  const left = Object.fromEntries(limits.map((name) => [name, (read[name] as number) - begun.tokens]));
  if (Object.values(left).some((tokens) => tokens <= 0)) return undefined;
  return changeBody(body, () =>
    path === "/v1/completions"
      ? { ...left, prompt: `${read.prompt}${begun.text}` }
      : { ...left, messages: continueMessages(read.messages as Json[], begun.text) },
  );
}

function continueMessages(messages: readonly Json[], text: string): Json[] {
  const last = messages.at(-1);
  if (last?.role !== "assistant") return [...messages, { role: "assistant", content: text }];
  return [...messages.slice(0, -1), { ...last, content: `${last.content}${text}` }];
}
