// Owns who listens to one running request: sends them its events, keeps pace with them, and notices that all are gone.
import { toJson } from "../protocol/schema.ts";
import { INFERNET_EVENT, type InfernetEvent } from "../protocol/wire.ts";
import type { SseWriter } from "../runtime/sse.ts";

/** A model event as it leaves: its id and what stands after `data: `. */
export type ReleasedEvent = { id: number; payload: string };

export type Audience = {
  /** Resolves to whether nobody waits or listens any more, now or within this time. */
  isDeserted(withinMs: number): Promise<boolean>;
  /** Counts somebody who waits for the request without a stream yet; the returned function ends that. */
  hold(): () => void;
  /** Sends a listener what it missed, and from then on all that is published; never an event twice. */
  join(writer: SseWriter, afterId: number, missed: readonly ReleasedEvent[]): void;
  publish(events: readonly ReleasedEvent[]): void;
  tell(word: InfernetEvent): void;
  /**
   * Resolves when one listener has taken all that was sent, none is left, or the signal aborts. Listeners that take
   * nothing for `patienceMs` are dropped.
   */
  pace(signal: AbortSignal): Promise<void>;
  end(): void;
};

type Listener = { writer: SseWriter; lastEventId: number };

/**
 * `onDeserted` is called once nobody has held, listened or taken anything for `patienceMs`; `onPresence` whenever the
 * last one has left (false) or somebody has come again (true).
 */
export function createAudience(
  patienceMs: number,
  onDeserted: () => void,
  onPresence: (isPresent: boolean) => void = () => {},
): Audience {
  const listeners = new Set<Listener>();
  const whenEmpty: (() => void)[] = [];
  let holds = 0;
  let timer: NodeJS.Timeout | undefined;
  let ended = false;
  let wasEmpty = true;

  const isEmpty = () => holds === 0 && listeners.size === 0;
  const watchPresence = () => {
    clearTimeout(timer);
    if (isEmpty() !== wasEmpty) {
      wasEmpty = isEmpty();
      onPresence(!wasEmpty);
    }
    if (!isEmpty()) return;
    for (const tell of whenEmpty.splice(0)) tell();
    if (!ended) timer = setTimeout(onDeserted, patienceMs);
  };
  const drop = (listener: Listener) => {
    if (listeners.delete(listener)) watchPresence();
  };
  const send = (listener: Listener, events: readonly ReleasedEvent[]) => {
    for (const { id, payload } of events) {
      if (id <= listener.lastEventId) continue;
      listener.lastEventId = id;
      listener.writer.send({ id, data: payload });
    }
  };

  return {
    isDeserted(withinMs) {
      if (isEmpty()) return Promise.resolve(true);
      return within(new Promise((resolve) => whenEmpty.push(resolve)), withinMs);
    },
    hold() {
      holds += 1;
      watchPresence();
      let held = true;
      return () => {
        if (!held) return;
        held = false;
        holds -= 1;
        watchPresence();
      };
    },
    join(writer, afterId, missed) {
      const listener: Listener = { writer, lastEventId: afterId };
      send(listener, missed);
      if (writer.closed.aborted) return;
      listeners.add(listener);
      watchPresence();
      writer.closed.addEventListener("abort", () => drop(listener), { once: true });
    },
    publish(events) {
      for (const listener of listeners) send(listener, events);
    },
    tell(word) {
      for (const { writer } of listeners) sendWord(writer, word);
    },
    async pace(signal) {
      if (listeners.size === 0) return;
      const taken = Promise.race([...listeners].map(({ writer }) => writer.flushed()));
      if ((await within(taken, patienceMs, signal)) || signal.aborted) return;
      for (const listener of listeners) {
        listener.writer.end();
        drop(listener);
      }
      if (holds === 0) onDeserted();
    },
    end() {
      ended = true;
      clearTimeout(timer);
      for (const { writer } of listeners) writer.end();
      listeners.clear();
    },
  };
}

/** Sends one of the protocol's own words, which stand outside the transcript. */
export function sendWord(writer: SseWriter, word: InfernetEvent): void {
  writer.send({ event: INFERNET_EVENT, data: toJson(word) });
}

/** Whether the work is done within this time, and before the signal aborts. */
function within(work: Promise<void>, timeoutMs: number, signal?: AbortSignal): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const giveUp = () => resolve(false);
  const timer = setTimeout(giveUp, timeoutMs);
  signal?.addEventListener("abort", giveUp, { once: true });
  if (signal?.aborted) giveUp();
  work.then(() => resolve(true));
  return promise.finally(() => {
    clearTimeout(timer);
    signal?.removeEventListener("abort", giveUp);
  });
}
