// Owns how the input items of a Responses request become the messages of a chat.
import { InfernetError } from "../../protocol/errors.ts";

type Item = Record<string, unknown>;
type Message = { role: string; content: unknown; tool_calls?: object[]; tool_call_id?: string };

/** A model's templates know these; developers speak as the system there. */
const ROLES: Readonly<Record<string, string>> = {
  user: "user",
  assistant: "assistant",
  system: "system",
  developer: "system",
};

/** Throws `bad-request` that names the item. */
export function translateInput(input: string | readonly Item[]): Message[] {
  if (typeof input === "string") return [{ role: "user", content: input }];
  const messages: Message[] = [];
  for (const [index, item] of input.entries()) addItem(messages, item, `input.${index}`);
  if (messages.length > 0) return messages;
  throw refusal("input", "it holds no message");
}

function addItem(messages: Message[], item: Item, place: string): void {
  const { type = "message" } = item;
  switch (type) {
    case "message":
      messages.push(translateMessage(item, place));
      return;
    case "function_call":
      addCall(messages, item, place);
      return;
    case "function_call_output":
      messages.push({
        role: "tool",
        tool_call_id: textOf(item.call_id, `${place}.call_id`),
        content: plainText(item.output, `${place}.output`),
      });
      return;
    case "reasoning":
      // What a model thought before is not read again.
      return;
    default:
      throw refusal(place, `items of type ${String(type)} cannot be sent to a node`);
  }
}

function translateMessage({ role, content }: Item, place: string): Message {
  const translated = ROLES[String(role)];
  if (translated === undefined) throw refusal(`${place}.role`, `there is no role ${String(role)}`);
  if (translated !== "user") return { role: translated, content: plainText(content, `${place}.content`) };
  if (typeof content === "string") return { role: translated, content };
  const parts = partsOf(content, `${place}.content`).map((part, index) =>
    translatePart(part, `${place}.content.${index}`),
  );
  const [only] = parts;
  const isText = parts.length === 1 && only !== undefined && "text" in only;
  return { role: translated, content: isText ? only.text : parts };
}

/** Calls of one turn belong to one message of the assistant, with what it said before them. */
function addCall(messages: Message[], item: Item, place: string): void {
  const call = {
    id: textOf(item.call_id, `${place}.call_id`),
    type: "function",
    function: {
      name: textOf(item.name, `${place}.name`),
      arguments: textOf(item.arguments, `${place}.arguments`),
    },
  };
  const last = messages.at(-1);
  if (last?.role === "assistant") last.tool_calls = [...(last.tool_calls ?? []), call];
  else messages.push({ role: "assistant", content: null, tool_calls: [call] });
}

function translatePart(part: Item, place: string): { type: string; text: string } | object {
  const text = textPart(part);
  if (text !== undefined) return { type: "text", text };
  if (part.type === "input_image" && typeof part.image_url === "string") {
    const { image_url: url, detail } = part;
    return { type: "image_url", image_url: { url, ...(typeof detail === "string" ? { detail } : {}) } };
  }
  throw refusal(place, `nodes read text and images that travel in the request, no ${String(part.type)}`);
}

/** All text of a content, joined. */
function plainText(content: unknown, place: string): string {
  if (typeof content === "string") return content;
  return partsOf(content, place)
    .map((part, index) => {
      const text = textPart(part);
      if (text !== undefined) return text;
      throw refusal(`${place}.${index}`, `only text can stand here, no ${String(part.type)}`);
    })
    .join("");
}

function textPart({ type, text, refusal: refused }: Item): string | undefined {
  if (type === "refusal" && typeof refused === "string") return refused;
  const isText = type === "input_text" || type === "output_text" || type === "text";
  return isText && typeof text === "string" ? text : undefined;
}

function partsOf(content: unknown, place: string): Item[] {
  const isList = Array.isArray(content) && content.every((part) => typeof part === "object" && part !== null);
  if (isList) return content as Item[];
  throw refusal(place, "expected text, or a list of parts");
}

function textOf(value: unknown, place: string): string {
  if (typeof value === "string") return value;
  throw refusal(place, "expected text");
}

function refusal(param: string, why: string): InfernetError {
  return new InfernetError("bad-request", `${param}: ${why}`, { data: { param } });
}
