// Owns how a request of OpenAI's Responses API becomes a chat request; what a chat cannot say is refused.
import { z } from "zod";
import { InfernetError } from "../../protocol/errors.ts";
import { parseJsonWith } from "../../protocol/schema.ts";
import { translateInput } from "./responses-input.ts";

const text = z.string();
const loose = z.looseObject({ type: text });
const formatSchema = z.union([
  z.looseObject({ type: z.enum(["text", "json_object"]) }),
  z.looseObject({ type: z.literal("json_schema"), name: text, schema: z.looseObject({}) }),
]);
const requestSchema = z.looseObject({
  model: text.min(1).max(128),
  input: z.union([text, z.array(z.looseObject({}))]),
  instructions: text.nullish(),
  max_output_tokens: z.int().positive().nullish(),
  metadata: z.record(text, text).nullish(),
  parallel_tool_calls: z.boolean().nullish(),
  reasoning: z.looseObject({ effort: text.nullish() }).nullish(),
  stream: z.boolean().nullish(),
  temperature: z.number().min(0).nullish(),
  text: z.looseObject({ format: formatSchema.nullish() }).nullish(),
  tool_choice: z.union([text, loose]).nullish(),
  tools: z.array(loose).nullish(),
  top_p: z.number().min(0).max(1).nullish(),
  user: text.nullish(),
});
export type ResponsesRequest = z.infer<typeof requestSchema>;

/** What only a server that keeps conversations, or runs tools of its own, can do; each with the values that ask for nothing. */
const REFUSED: Readonly<Record<string, { harmless: readonly unknown[]; why: string }>> = {
  previous_response_id: { harmless: [], why: "nothing is stored: send the whole conversation as input" },
  conversation: { harmless: [], why: "nothing is stored: send the whole conversation as input" },
  store: { harmless: [false], why: "nothing is stored: leave it out or set it to false" },
  background: { harmless: [false], why: "an answer comes while its request is open" },
  prompt: { harmless: [], why: "there are no stored prompts" },
  truncation: { harmless: ["disabled"], why: "input is never cut: it must fit the model" },
  max_tool_calls: { harmless: [], why: "there are no built-in tools" },
  service_tier: { harmless: ["auto", "default"], why: "nodes have one tier" },
  top_logprobs: { harmless: [0], why: "ask /v1/chat/completions for log probabilities" },
  context_management: { harmless: [], why: "input is never changed" },
  moderation: { harmless: [], why: "nodes do not moderate" },
};
const HARMLESS_INCLUDES = ["reasoning.encrypted_content"];

/** Reads the bytes of a Responses request. Throws `bad-request` that names the member. */
export function readResponsesRequest(bytes: Uint8Array): ResponsesRequest {
  const json = new TextDecoder().decode(bytes);
  const request = parseJsonWith(requestSchema, json, "bad-request", "the request body");
  for (const [member, { harmless, why }] of Object.entries(REFUSED)) {
    const value = request[member];
    if (value !== undefined && value !== null && !harmless.includes(value)) throw refusal(member, why);
  }
  const include = (request.include ?? []) as unknown[];
  if (!include.every((item) => HARMLESS_INCLUDES.includes(String(item))))
    throw refusal("include", `only ${HARMLESS_INCLUDES.join(", ")} may be named`);
  return request;
}

/** The chat request, asked as a stream, that says the same. Throws `bad-request` for what a chat cannot say. */
export function chatRequestOf(request: ResponsesRequest): Record<string, unknown> {
  const { instructions, reasoning } = request;
  const messages = translateInput(request.input);
  const tools = (request.tools ?? []).map(translateTool);
  const chat = {
    model: request.model,
    messages: instructions ? [{ role: "system", content: instructions }, ...messages] : messages,
    stream: true,
    max_tokens: request.max_output_tokens,
    temperature: request.temperature,
    top_p: request.top_p,
    reasoning_effort: reasoning?.effort,
    response_format: translateFormat(request.text?.format),
    ...(tools.length === 0
      ? {}
      : {
          tools,
          tool_choice: translateToolChoice(request.tool_choice),
          parallel_tool_calls: request.parallel_tool_calls,
        }),
  };
  return Object.fromEntries(
    Object.entries(chat).filter(([, value]) => value !== undefined && value !== null),
  );
}

function translateTool(tool: z.infer<typeof loose>): object {
  if (tool.type !== "function") throw refusal("tools", `nodes have no built-in tools, such as ${tool.type}`);
  const { name, description, parameters, strict } = tool;
  if (typeof name !== "string") throw refusal("tools", "a function needs a name");
  return { type: "function", function: withoutEmpty({ name, description, parameters, strict }) };
}

function translateToolChoice(choice: ResponsesRequest["tool_choice"]): unknown {
  if (choice === null || choice === undefined) return undefined;
  if (typeof choice === "string") {
    if (["none", "auto", "required"].includes(choice)) return choice;
  } else if (choice.type === "function" && typeof choice.name === "string") {
    return { type: "function", function: { name: choice.name } };
  }
  throw refusal("tool_choice", "it must be none, auto, required or a function");
}

function translateFormat(format: z.infer<typeof formatSchema> | null | undefined): unknown {
  if (!format || format.type === "text") return undefined;
  if (format.type === "json_object") return { type: "json_object" };
  const { name, schema, strict, description } = format;
  return { type: "json_schema", json_schema: withoutEmpty({ name, description, schema, strict }) };
}

function withoutEmpty(members: Record<string, unknown>): object {
  return Object.fromEntries(
    Object.entries(members).filter(([, value]) => value !== undefined && value !== null),
  );
}

/** `bad-request` for a member that the gateway does not do. */
function refusal(param: string, why: string): InfernetError {
  return new InfernetError("bad-request", `${param} is not supported here: ${why}`, { data: { param } });
}
