// Owns how OpenAI's messages become the conversation that a chat template of llama.cpp's is given.
import type { ChatHistoryItem, ChatModelFunctionCall, ChatModelResponse } from "node-llama-cpp";
import { InfernetError } from "../../protocol/errors.ts";

type Message = { role: string; content?: unknown; tool_calls?: unknown; tool_call_id?: unknown };
type ToolCall = { id?: unknown; function?: { name?: unknown; arguments?: unknown } };
type OpenCall = { id: unknown; call: ChatModelFunctionCall };

/**
 * The conversation up to the answer that the model is to give: an empty one, or the last message when it is the
 * assistant's, to go on with. No system prompt is made up. Throws `bad-request`.
 */
export function historyOf(messages: readonly unknown[]): ChatHistoryItem[] {
  const history: ChatHistoryItem[] = [];
  let open: OpenCall[] = [];
  for (const [index, message] of (messages as readonly Message[]).entries()) {
    if (message.role === "tool") {
      open = answerCall(open, message, index);
      continue;
    }
    if (open.length > 0) throw refuse("the tool's answer to each call must follow the call", index);
    if (message.role === "assistant") open = addAnswer(history, message, index);
    else history.push(saidOf(message, index));
  }
  if (open.length > 0)
    throw refuse("the tool's answer to each call must follow the call", messages.length - 1);
  if (history.at(-1)?.type !== "model") history.push({ type: "model", response: [] });
  return history;
}

function saidOf({ role, content }: Message, index: number): ChatHistoryItem {
  const text = contentText(content, index);
  if (role === "system" || role === "developer") return { type: "system", text };
  if (role === "user") return { type: "user", text };
  throw refuse(`the embedded model knows no role "${role.slice(0, 32)}"`, index);
}

/** Adds an assistant's message; after a tool's answer it is the same turn that goes on. Returns the calls it makes. */
function addAnswer(history: ChatHistoryItem[], { content, tool_calls }: Message, index: number): OpenCall[] {
  const text = contentText(content, index);
  const calls = (Array.isArray(tool_calls) ? tool_calls : []).map((call: ToolCall) => callOf(call, index));
  const said = [...(text === "" ? [] : [text]), ...calls.map(({ call }) => call)];
  const last = history.at(-1);
  if (last?.type === "model") last.response.push(...said);
  else history.push({ type: "model", response: said } satisfies ChatModelResponse);
  return calls;
}

function callOf({ id, function: called }: ToolCall, index: number): OpenCall {
  const { name, arguments: given } = called ?? {};
  if (typeof name !== "string") throw refuse("a tool call names no function", index);
  return { id, call: { type: "functionCall", name, params: parsed(given, index), result: undefined } };
}

function parsed(given: unknown, index: number): unknown {
  try {
    return JSON.parse(typeof given === "string" && given !== "" ? given : "{}");
  } catch {
    throw refuse("the arguments of a tool call are not JSON", index);
  }
}

/** Puts a tool's answer to its call; returns the calls that still want one. */
function answerCall(
  open: readonly OpenCall[],
  { content, tool_call_id }: Message,
  index: number,
): OpenCall[] {
  const answered = open.find(({ id }) => id === tool_call_id);
  if (answered === undefined) throw refuse("a tool answers a call that is not there", index);
  const text = contentText(content, index);
  try {
    answered.call.result = JSON.parse(text);
  } catch {
    // Plain words are a tool's answer, too.
    answered.call.result = text;
  }
  return open.filter((call) => call !== answered);
}

function contentText(content: unknown, index: number): string {
  if (!Array.isArray(content)) return typeof content === "string" ? content : "";
  return content
    .map((part: { type?: string; text?: unknown }) => {
      if (part.type === "text" && typeof part.text === "string") return part.text;
      throw refuse("the embedded model reads text only", index);
    })
    .join("");
}

function refuse(what: string, index: number): InfernetError {
  return new InfernetError("bad-request", `${what} (messages.${index})`);
}
