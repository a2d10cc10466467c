// Owns the making of a Responses answer from a chat's payloads: its object, and the events that tell how it grows.
import { randomBytes } from "node:crypto";
import type { InfernetError } from "../../protocol/errors.ts";
import { type AnswerPiece, DONE_PAYLOAD, readPayload } from "../../protocol/openai-answer.ts";
import { openAiErrorOf } from "../../runtime/http-errors.ts";
import type { ClientEvent } from "./answering.ts";
import {
  createCallItem,
  createTextItem,
  type ItemEnd,
  type ItemEvent,
  type OutputItem,
  type TextKind,
} from "./response-items.ts";
import type { ResponsesRequest } from "./responses-request.ts";

type ResponseObject = Record<string, unknown> & { output: object[] };

type ToolCall = NonNullable<
  NonNullable<NonNullable<AnswerPiece["choices"]>[number]["delta"]>["tool_calls"]
>[number];

/** Where a chat's delta carries which text; thoughts go by two names. */
const TEXT_MEMBERS: readonly [member: string, kind: TextKind][] = [
  ["reasoning", "reasoning_text"],
  ["reasoning_content", "reasoning_text"],
  ["content", "output_text"],
  ["refusal", "refusal"],
];
/** Why an answer that ended is not complete, by the chat's word for it. */
const INCOMPLETE: Readonly<Record<string, string>> = {
  length: "max_output_tokens",
  content_filter: "content_filter",
};

/** Builds one answer; each step returns the events that a streaming client is told. */
export class ResponseBuilder {
  readonly #response: ResponseObject;
  readonly #items: OutputItem[] = [];
  readonly #calls = new Map<number, OutputItem>();
  /** The text or the thought that grows now. */
  #open: OutputItem | undefined;
  #finishReason = "";
  #sequence = 0;
  #begun = false;

  constructor(request: ResponsesRequest, createdAt: number) {
    this.#response = responseObject(request, createdAt);
  }

  take(payload: string): ClientEvent[] {
    if (payload === DONE_PAYLOAD) return [];
    const { model, choices, usage } = readPayload(payload);
    if (model !== "") this.#response.model = model;
    if (usage) this.#response.usage = usageOf(usage.prompt_tokens, usage.completion_tokens);
    const events = this.#begin();
    for (const { delta, finish_reason } of choices ?? []) {
      for (const [member, kind] of TEXT_MEMBERS) events.push(...this.#say(kind, delta?.[member]));
      for (const call of delta?.tool_calls ?? []) events.push(...this.#call(call));
      this.#finishReason = finish_reason ?? this.#finishReason;
    }
    return events;
  }

  finish(completedAt: number): ClientEvent[] {
    const reason = INCOMPLETE[this.#finishReason];
    const events = [...this.#begin(), ...this.#closeAll(reason === undefined ? "completed" : "incomplete")];
    if (reason === undefined)
      Object.assign(this.#response, { status: "completed", completed_at: completedAt });
    else Object.assign(this.#response, { status: "incomplete", incomplete_details: { reason } });
    return [...events, this.#tell(`response.${String(this.#response.status)}`)];
  }

  fail(error: InfernetError | undefined): ClientEvent[] {
    const { message, code } = openAiErrorOf(error).error;
    const events = [...this.#begin(), ...this.#closeAll("incomplete")];
    Object.assign(this.#response, { status: "failed", error: { code: "server_error", message } });
    const failed = this.#tell("response.failed");
    return [...events, failed, this.#event({ type: "error", code, message, param: null })];
  }

  /** The answer as it stands. */
  object(): object {
    return this.#response;
  }

  #begin(): ClientEvent[] {
    if (this.#begun) return [];
    this.#begun = true;
    return [this.#tell("response.created"), this.#tell("response.in_progress")];
  }

  #say(kind: TextKind, text: unknown): ClientEvent[] {
    if (typeof text !== "string" || text === "") return [];
    if (this.#open?.kind === kind) return this.#wrap(this.#open.grow(text));
    const item = createTextItem(kind, this.#items.length);
    const events = this.#closeOpen("completed");
    this.#open = item;
    return [...events, ...this.#add(item, text)];
  }

  #call({ index, id, function: called }: ToolCall): ClientEvent[] {
    const text = called?.arguments ?? "";
    const known = this.#calls.get(index);
    if (known) return text === "" ? [] : this.#wrap(known.grow(text));
    const callId = id ?? `call_${randomBytes(12).toString("hex")}`;
    const item = createCallItem(this.#items.length, { callId, name: called?.name ?? "" });
    this.#calls.set(index, item);
    return [...this.#closeOpen("completed"), ...this.#add(item, text)];
  }

  #add(item: OutputItem, text: string): ClientEvent[] {
    this.#items.push(item);
    return this.#wrap([...item.open(), ...(text === "" ? [] : item.grow(text))]);
  }

  #closeOpen(end: ItemEnd): ClientEvent[] {
    const events = this.#open ? this.#wrap(this.#open.close(end)) : [];
    this.#open = undefined;
    return events;
  }

  /** Calls may grow side by side: they are closed together. */
  #closeAll(end: ItemEnd): ClientEvent[] {
    const events = this.#closeOpen(end);
    for (const call of this.#calls.values()) events.push(...this.#wrap(call.close(end)));
    this.#response.output = this.#items.map((item) => item.object());
    return events;
  }

  #wrap(events: readonly ItemEvent[]): ClientEvent[] {
    return events.map((event) => this.#event(event));
  }

  #tell(type: string): ClientEvent {
    return this.#event({ type, response: this.#response });
  }

  #event(event: Record<string, unknown> & { type: string }): ClientEvent {
    const data = JSON.stringify({ ...event, sequence_number: this.#sequence });
    this.#sequence += 1;
    return { event: event.type, data };
  }
}

function responseObject(request: ResponsesRequest, createdAt: number): ResponseObject {
  const {
    instructions = null,
    metadata,
    parallel_tool_calls,
    temperature,
    tool_choice,
    tools,
    top_p,
  } = request;
  return {
    id: `resp_${randomBytes(24).toString("hex")}`,
    object: "response",
    created_at: createdAt,
    status: "in_progress",
    background: false,
    error: null,
    incomplete_details: null,
    instructions,
    max_output_tokens: request.max_output_tokens ?? null,
    metadata: metadata ?? {},
    model: request.model,
    output: [],
    parallel_tool_calls: parallel_tool_calls ?? true,
    previous_response_id: null,
    reasoning: { effort: request.reasoning?.effort ?? null, summary: null },
    store: false,
    temperature: temperature ?? null,
    text: { format: request.text?.format ?? { type: "text" } },
    tool_choice: tool_choice ?? "auto",
    tools: tools ?? [],
    top_p: top_p ?? null,
    truncation: "disabled",
    usage: null,
    ...(request.user === undefined || request.user === null ? {} : { user: request.user }),
  };
}

function usageOf(inputTokens: number, outputTokens: number): object {
  return {
    input_tokens: inputTokens,
    input_tokens_details: { cached_tokens: 0 },
    output_tokens: outputTokens,
    output_tokens_details: { reasoning_tokens: 0 },
    total_tokens: inputTokens + outputTokens,
  };
}
