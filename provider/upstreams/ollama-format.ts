// Owns the translation between OpenAI's form and Ollama's own: requests one way, pieces of answers the other.
import type { ChatRequest, ChatResponse, GenerateRequest, GenerateResponse, Message, Options } from "ollama";
import { InfernetError } from "../../protocol/errors.ts";
import type { OpenAiChoice, OpenAiDelta } from "../../protocol/openai-answer.ts";
import type { ModelUse } from "./ollama-models.ts";

type Body = Record<string, unknown>;
type OpenAiMessage = {
  role: string;
  content?: unknown;
  /** What a model thought before it said this, as it was told in an earlier answer. */
  reasoning_content?: unknown;
  tool_calls?: unknown;
  tool_call_id?: string;
  name?: string;
};
type OpenAiToolCall = { id?: string; function?: { name?: string; arguments?: string } };

/** Ollama's members that its library does not declare: a prompt that does not fit is an error, never cut. */
const KEEP_WHOLE = { truncate: false, shift: false } as const;
const OPTION_NAMES = [
  "temperature",
  "top_p",
  "top_k",
  "min_p",
  "seed",
  "presence_penalty",
  "frequency_penalty",
  "repeat_penalty",
] as const satisfies (keyof Options)[];

export function toChatRequest(body: Body, use: ModelUse): ChatRequest & { stream: true } {
  refuseUnsupported(body);
  const messages = body.messages as OpenAiMessage[];
  return {
    model: body.model as string,
    messages: messages.map((message) => toMessage(message, messages)),
    stream: true,
    ...toolsOf(body),
    ...sharedMembers(body, use),
  };
}

/** A completion continues its prompt as it is: without the chat template, but for filling in before a suffix. */
export function toGenerateRequest(body: Body, use: ModelUse): GenerateRequest & { stream: true } {
  refuseUnsupported(body);
  const [prompt = ""] = [body.prompt].flat() as string[];
  const suffix =
    typeof body.suffix === "string" && body.suffix !== "" ? { suffix: body.suffix } : { raw: true };
  return {
    model: body.model as string,
    prompt,
    stream: true,
    ...suffix,
    ...sharedMembers(body, use),
  };
}

/** Ollama leaves it to the model whether it calls a tool: a call cannot be forced, and is not sold as if it were. */
function toolsOf({ tools, tool_choice: choice }: Body): Pick<ChatRequest, "tools"> {
  if (!Array.isArray(tools) || tools.length === 0 || choice === "none") return {};
  if (choice === undefined || choice === null || choice === "auto") return { tools };
  throw new InfernetError("bad-request", "this node's models cannot be made to call a tool", {
    hint: 'Leave tool_choice out or at "auto", or ask another node.',
  });
}

function sharedMembers(body: Body, { keep_alive, options, thinksInLevels }: ModelUse) {
  const think = thinkOf(body.reasoning_effort, thinksInLevels);
  const format = formatOf(body.response_format);
  return {
    ...KEEP_WHOLE,
    keep_alive,
    options: { ...optionsOf(body), ...options },
    ...(think === undefined ? {} : { think }),
    ...(format === undefined ? {} : { format }),
  };
}

/** OpenAI's words for how long a model thinks, in Ollama's; left alone, a model that can think does. */
function thinkOf(effort: unknown, inLevels: boolean): boolean | "low" | "medium" | "high" | undefined {
  if (effort === undefined || effort === null) return undefined;
  const levels = { minimal: "low", low: "low", medium: "medium", high: "high", xhigh: "high" } as const;
  if (effort === "none") return false;
  if (typeof effort !== "string" || !Object.hasOwn(levels, effort)) {
    throw new InfernetError(
      "bad-request",
      "reasoning_effort must be none, minimal, low, medium, high or xhigh",
    );
  }
  return inLevels ? levels[effort as keyof typeof levels] : true;
}

function optionsOf(body: Body): Partial<Options> {
  const numbers = OPTION_NAMES.filter((name) => typeof body[name] === "number").map((name) => [
    name,
    body[name],
  ]);
  const limit = body.max_completion_tokens ?? body.max_tokens;
  const stop = [body.stop ?? []].flat() as string[];
  return {
    ...Object.fromEntries(numbers),
    ...(typeof limit === "number" ? { num_predict: limit } : {}),
    ...(stop.length > 0 ? { stop } : {}),
  };
}

function formatOf(format: unknown): string | object | undefined {
  const { type, json_schema } = (format ?? {}) as { type?: string; json_schema?: { schema?: object } };
  if (type === "json_object") return "json";
  return type === "json_schema" ? json_schema?.schema : undefined;
}

function refuseUnsupported(body: Body): void {
  const member = ["logprobs", "logit_bias", "echo"].find((name) => body[name]);
  if (member === undefined) return;
  throw new InfernetError("bad-request", `this node's models cannot honour ${member}: leave it out`);
}

function toMessage(
  { role, content, reasoning_content: thinking, tool_calls, tool_call_id, name }: OpenAiMessage,
  all: OpenAiMessage[],
): Message {
  const calls = (tool_calls ?? []) as OpenAiToolCall[];
  const toolName = role === "tool" ? (name ?? nameOfCall(tool_call_id, all)) : undefined;
  return {
    role: role === "developer" ? "system" : role,
    ...contentOf(content),
    ...(typeof thinking === "string" ? { thinking } : {}),
    ...(calls.length > 0 ? { tool_calls: calls.map(toToolCall) } : {}),
    ...(toolName === undefined ? {} : { tool_name: toolName }),
  };
}

function contentOf(content: unknown): Pick<Message, "content" | "images"> {
  if (!Array.isArray(content)) return { content: typeof content === "string" ? content : "" };
  const texts: string[] = [];
  const images: string[] = [];
  for (const { type, text, image_url } of content) {
    if (type === "text") texts.push(String(text));
    else if (type === "image_url") images.push(base64Of(image_url?.url ?? image_url));
    else
      throw new InfernetError("bad-request", `this node's models read no content of type "${String(type)}"`);
  }
  return { content: texts.join(""), ...(images.length > 0 ? { images } : {}) };
}

function base64Of(url: unknown): string {
  const match = /^data:[\w.+-]+\/[\w.+-]+;base64,(.+)$/s.exec(String(url));
  if (match === null) throw new InfernetError("bad-request", "image_url must be a data: URL in base64");
  return match[1]!;
}

function toToolCall({ function: called }: OpenAiToolCall) {
  try {
    return { function: { name: called?.name ?? "", arguments: JSON.parse(called?.arguments || "{}") } };
  } catch {
    throw new InfernetError("bad-request", "the arguments of a tool call are not JSON");
  }
}

function nameOfCall(id: string | undefined, messages: OpenAiMessage[]): string | undefined {
  const calls = messages.flatMap(({ tool_calls }) => (tool_calls ?? []) as OpenAiToolCall[]);
  return calls.find((call) => call.id === id)?.function?.name;
}

/** What a piece of an Ollama answer says, or undefined when it says nothing. `callsBefore` numbers tool calls. */
export function toChoice(
  piece: ChatResponse | GenerateResponse,
  callsBefore: number,
): OpenAiChoice | undefined {
  if (!("message" in piece)) {
    return piece.response ? { index: 0, text: piece.response, finish_reason: null } : undefined;
  }
  const { content, thinking, tool_calls } = piece.message;
  const calls = (tool_calls ?? []).map(({ function: called }, offset) => ({
    index: callsBefore + offset,
    id: `call_${crypto.randomUUID()}`,
    type: "function",
    function: { name: called.name, arguments: JSON.stringify(called.arguments) },
  }));
  const delta: OpenAiDelta = {
    ...(content ? { content } : {}),
    ...(thinking ? { reasoning_content: thinking } : {}),
    ...(calls.length > 0 ? { tool_calls: calls } : {}),
  };
  return Object.keys(delta).length > 0 ? { index: 0, delta, finish_reason: null } : undefined;
}

/** OpenAI's word for why Ollama ended: "length" at a limit, "tool_calls" after a call, else "stop". */
export function finishReasonOf(doneReason: string | undefined, calledTools: boolean): string {
  if (calledTools) return "tool_calls";
  return doneReason === "length" ? "length" : "stop";
}
