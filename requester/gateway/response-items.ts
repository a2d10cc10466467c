// Owns the items that a Responses answer is made of, and the events of each one's life.
import { randomBytes } from "node:crypto";

export type ItemEvent = { type: string } & Record<string, unknown>;
type Status = "in_progress" | "completed" | "incomplete";
export type ItemEnd = Exclude<Status, "in_progress">;
/** Text that an item carries: what is said, what is refused, what is thought. */
export type TextKind = "output_text" | "refusal" | "reasoning_text";

export type OutputItem = {
  kind: TextKind | "function_call";
  open(): ItemEvent[];
  grow(text: string): ItemEvent[];
  close(end: ItemEnd): ItemEvent[];
  object(): object;
};

/** An item of text at this place of the output: a message, or a thought. */
export function createTextItem(kind: TextKind, place: number): OutputItem {
  const isThought = kind === "reasoning_text";
  const id = newId(isThought ? "rs" : "msg");
  const where = { item_id: id, output_index: place, content_index: 0 };
  const logprobs = kind === "output_text" ? { logprobs: [] } : {};
  const member = kind === "refusal" ? "refusal" : "text";
  let text = "";
  let status: Status = "in_progress";
  const part = () => ({
    ...{ type: kind, [member]: text },
    ...(kind === "output_text" ? { annotations: [], logprobs: [] } : {}),
  });
  const object = () => ({
    ...(isThought
      ? { id, type: "reasoning", status, summary: [] }
      : { id, type: "message", status, role: "assistant" }),
    content: status === "in_progress" ? [] : [part()],
  });
  return {
    kind,
    object,
    open: () => [added(place, object()), { type: "response.content_part.added", ...where, part: part() }],
    grow(delta) {
      text += delta;
      return [{ type: `response.${kind}.delta`, ...where, delta, ...logprobs }];
    },
    close(end) {
      status = end;
      return [
        { type: `response.${kind}.done`, ...where, [member]: text, ...logprobs },
        { type: "response.content_part.done", ...where, part: part() },
        done(place, object()),
      ];
    },
  };
}

/** The call of a function, at this place of the output. */
export function createCallItem(
  place: number,
  { callId, name }: { callId: string; name: string },
): OutputItem {
  const id = newId("fc");
  const where = { item_id: id, output_index: place };
  let text = "";
  let status: Status = "in_progress";
  const object = () => ({ id, type: "function_call", status, call_id: callId, name, arguments: text });
  return {
    kind: "function_call",
    object,
    open: () => [added(place, object())],
    grow(delta) {
      text += delta;
      return [{ type: "response.function_call_arguments.delta", ...where, delta }];
    },
    close(end) {
      status = end;
      return [
        { type: "response.function_call_arguments.done", ...where, name, arguments: text },
        done(place, object()),
      ];
    },
  };
}

function added(place: number, item: object): ItemEvent {
  return { type: "response.output_item.added", output_index: place, item };
}

function done(place: number, item: object): ItemEvent {
  return { type: "response.output_item.done", output_index: place, item };
}

function newId(prefix: string): string {
  return `${prefix}_${randomBytes(24).toString("hex")}`;
}
