// Owns how tests run one generation of an upstream to its end and look at what came.
import type { ModelPath } from "../../protocol/wire.ts";
import type { Upstream, UpstreamEvent } from "../../provider/upstreams/upstream.ts";

export type Outcome = {
  events: UpstreamEvent[];
  text: string;
  finishReason: string | null;
  /** Sum of the tokens that the chunks carry. */
  chunkTokens: number;
  /** The last usage event. */
  usage: { promptTokens: number; completionTokens: number; final: boolean } | undefined;
};

export const CHAT_PATH: ModelPath = "/v1/chat/completions";
export const COMPLETION_PATH: ModelPath = "/v1/completions";

export function chatBody(model: string, content: string, members: object = {}): Record<string, unknown> {
  return { model, messages: [{ role: "user", content }], ...members };
}

/** Runs a generation to its end; rejects with what it throws. */
export async function generate(
  upstream: Upstream,
  body: Record<string, unknown>,
  options: { path?: ModelPath; signal?: AbortSignal; onEvent?: (event: UpstreamEvent) => void } = {},
): Promise<Outcome> {
  const { path = CHAT_PATH, signal = new AbortController().signal, onEvent } = options;
  const events: UpstreamEvent[] = [];
  for await (const event of upstream.generate({ path, body, signal })) {
    events.push(event);
    onEvent?.(event);
  }
  return summarize(events);
}

function summarize(events: UpstreamEvent[]): Outcome {
  const outcome: Outcome = { events, text: "", finishReason: null, chunkTokens: 0, usage: undefined };
  for (const event of events) {
    if (event.type === "usage") {
      outcome.usage = event;
      continue;
    }
    outcome.chunkTokens += event.tokens;
    const choice = event.chunk.choices?.[0];
    outcome.text += choice?.text ?? choice?.delta?.content ?? "";
    outcome.finishReason = choice?.finish_reason ?? outcome.finishReason;
  }
  return outcome;
}

/** The error that a promise rejects with; fails when it resolves. */
export async function rejectionOf(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => {
      throw new Error("expected a rejection");
    },
    (error: unknown) => error,
  );
}
