// Owns the three choices that an answer is made of where the upstream itself does not speak OpenAI's form.
import type { OpenAiChoice } from "../../protocol/openai-answer.ts";
import type { ModelPath } from "../../protocol/wire.ts";

/** The first of a chat: who speaks. */
export function roleChoice(): OpenAiChoice {
  return { index: 0, delta: { role: "assistant", content: "" }, finish_reason: null };
}

export function textChoice(path: ModelPath, text: string): OpenAiChoice {
  const said = path === "/v1/completions" ? { text } : { delta: { content: text } };
  return { index: 0, ...said, finish_reason: null };
}

/** The last: why the answer ends. */
export function lastChoice(path: ModelPath, finishReason: string): OpenAiChoice {
  const nothing = path === "/v1/completions" ? { text: "" } : { delta: {} };
  return { index: 0, ...nothing, finish_reason: finishReason };
}
