// Owns how a prompt is measured before its model has counted it: the UTF-8 bytes of all text that the model reads.

type Json = Record<string, unknown>;

/**
 * Bytes of a request's prompt: message texts, names and tool calls, tools and response schemas as JSON, prompt and
 * input strings. Parts that are not text count with their whole JSON. Both sides size prepayments from it.
 */
export function promptTextBytes(body: Json): number {
  const schemas = [body.tools, body.functions, body.response_format];
  return (
    itemsOf(body.messages).reduce<number>((sum, message) => sum + messageBytes(message), 0) +
    textBytes(body.prompt) +
    textBytes(body.input) +
    textBytes(body.suffix) +
    schemas.reduce<number>((sum, schema) => sum + jsonBytes(schema), 0)
  );
}

/**
 * Tokens that a model may add to the text: a chat template's roles and separators around each message, the marks around
 * each text to embed, and a frame around all.
 */
const TEMPLATE_TOKENS_PER_PART = 16;
const TEMPLATE_TOKENS = 32;
/** Words in which a chat template says how tools are called, and in which an answer that must call one begins. */
const TEMPLATE_TOKENS_OF_TOOLS = 256;

/**
 * The most prompt tokens that a node may charge for a request, and that its requester pays for. No token is shorter than
 * a byte of text, so the text's bytes and what a template may add bound every honest count.
 */
export function promptTokenBound(body: Json): number {
  const parts = Math.max(1, itemsOf(body.messages).length, itemsOf(body.input).length);
  const ofTools = itemsOf(body.tools).length > 0 ? TEMPLATE_TOKENS_OF_TOOLS : 0;
  return promptTextBytes(body) + TEMPLATE_TOKENS_PER_PART * parts + TEMPLATE_TOKENS + ofTools;
}

function messageBytes(message: unknown): number {
  if (typeof message !== "object" || message === null) return 0;
  const { content, name, tool_calls } = message as Json;
  return textBytes(content) + textBytes(name) + jsonBytes(tool_calls);
}

/** A string, a list of them, or a list of content parts. */
function textBytes(value: unknown): number {
  if (typeof value === "string") return Buffer.byteLength(value);
  return itemsOf(value).reduce<number>((sum, part) => sum + partBytes(part), 0);
}

function partBytes(part: unknown): number {
  if (typeof part === "string") return Buffer.byteLength(part);
  const text = (part as Json | null)?.text;
  return typeof text === "string" ? Buffer.byteLength(text) : jsonBytes(part);
}

function jsonBytes(value: unknown): number {
  return value === undefined || value === null ? 0 : Buffer.byteLength(JSON.stringify(value));
}

function itemsOf(value: unknown): unknown[] {
  return Array.isArray(value) ? value : [];
}
