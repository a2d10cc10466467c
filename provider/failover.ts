// Owns a generation that may change its upstream: until the first token it can start again elsewhere, after it never.
import { InfernetError } from "../protocol/errors.ts";
import type { UpstreamWatch } from "./dispatch-health.ts";
import type { Generation, Upstream, UpstreamEvent } from "./upstreams/upstream.ts";

/** An upstream and who keeps book on how it does. */
export type Runner = {
  upstream: Upstream;
  watch: Pick<UpstreamWatch, "noteProgress" | "noteSuccess" | "noteFailure">;
};

/** What another upstream may do better. One that is only busy is not counted as failing. */
const FAULTS = [
  ...["upstream-unreachable", "upstream-failed", "upstream-timeout", "model-not-found"],
  "node-busy",
];

/**
 * The events of one upstream that came to an answer. What comes before the first token is held back, so that nothing of
 * a first attempt is left when `moveOn` finds another upstream; the error stands when it finds none.
 */
export async function* generateWithFailover(
  first: Runner,
  input: Generation,
  moveOn: (error: unknown, signal: AbortSignal) => Promise<Runner | undefined>,
): AsyncGenerator<UpstreamEvent> {
  for (let runner: Runner | undefined = first; runner; ) {
    const held: UpstreamEvent[] = [];
    let hasBegun = false;
    try {
      for await (const event of runner.upstream.generate(input)) {
        runner.watch.noteProgress();
        hasBegun ||= carriesTokens(event);
        if (hasBegun && held.length === 0) yield event;
        else held.push(event);
        if (hasBegun) yield* held.splice(0);
      }
      runner.watch.noteSuccess();
      yield* held;
      return;
    } catch (error) {
      if (input.signal.aborted || !isFault(error)) throw error;
      runner.watch.noteFailure(error);
      if (hasBegun) throw error;
      runner = await moveOn(error, input.signal);
      input.signal.throwIfAborted();
      if (runner === undefined) throw error;
    }
  }
}

function carriesTokens(event: UpstreamEvent): boolean {
  return event.type === "chunk" ? event.tokens > 0 : event.completionTokens > 0 || event.final;
}

/** Whether the upstream is to blame; anything but our own errors is a bug in how it was asked or in what it answered. */
function isFault(error: unknown): boolean {
  return !(error instanceof InfernetError) || FAULTS.includes(error.code);
}
