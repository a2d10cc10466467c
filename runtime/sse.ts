// Owns server-sent events, both ends: a writer on an HTTP answer and a reader of any byte stream.
import { TextDecoder } from "node:util";
import { createParser, type EventSourceMessage } from "eventsource-parser";
import type { FastifyReply } from "fastify";
import { InfernetError } from "../protocol/errors.ts";

export type SseWriter = {
  /** Queues one event. Nothing happens once the client is gone. */
  send(event: { id?: number; event?: string; data: string }): void;
  /** A comment that keeps proxies and clients from giving up; sent every 15 s by itself. */
  heartbeat(): void;
  /** A comment of one line, which clients skip. */
  comment(text: string): void;
  /** Resolves when all that was sent has left this process, or the client is gone. */
  flushed(): Promise<void>;
  /** Ends the stream after what was sent. Idempotent. */
  end(): void;
  /** Aborts when the client goes away before the end. */
  closed: AbortSignal;
};

export type SseEvent = { id: string | undefined; event: string | undefined; data: string };

const HEARTBEAT_MS = 15_000;
const MAX_EVENT_LENGTH = 1024 * 1024;

/** Takes over a reply and starts an event stream with status 200. Headers set on the reply before are kept. */
export function openSse(reply: FastifyReply, headers: Record<string, string> = {}): SseWriter {
  const response = reply.raw;
  const gone = new AbortController();
  let unsent = 0;
  let waiting: (() => void)[] = [];

  function wake(): void {
    for (const resolve of waiting) resolve();
    waiting = [];
  }

  function write(text: string): void {
    if (gone.signal.aborted || response.writableEnded) return;
    unsent += 1;
    response.write(text, () => {
      unsent -= 1;
      if (unsent === 0) wake();
    });
  }

  function heartbeat(): void {
    // A comment would only queue up behind a client that does not read.
    if (!response.writableNeedDrain) write(":\n\n");
  }

  const timer = setInterval(heartbeat, HEARTBEAT_MS).unref();
  response.on("error", () => {});
  response.once("close", () => {
    clearInterval(timer);
    if (!response.writableFinished) gone.abort();
    wake();
  });
  reply.hijack();
  if (response.destroyed) gone.abort();
  else startStream(reply, headers);

  return {
    heartbeat,
    closed: gone.signal,
    send: (event) => write(formatEvent(event)),
    comment: (text) => write(`: ${text.replaceAll(/[\r\n]/g, " ")}\n\n`),
    flushed() {
      if (unsent === 0 || response.destroyed) return Promise.resolve();
      return new Promise((resolve) => waiting.push(resolve));
    },
    end() {
      clearInterval(timer);
      response.end();
    },
  };
}

function startStream(reply: FastifyReply, headers: Record<string, string>): void {
  for (const [name, value] of Object.entries(reply.getHeaders())) {
    if (value !== undefined) reply.raw.setHeader(name, value);
  }
  reply.raw.writeHead(200, {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "private, no-store",
    "x-accel-buffering": "no",
    ...headers,
  });
  reply.raw.flushHeaders();
}

function formatEvent(event: { id?: number; event?: string; data: string }): string {
  const lines = event.data.split(/\r\n|\r|\n/).map((line) => `data: ${line}\n`);
  const id = event.id === undefined ? "" : `id: ${event.id}\n`;
  const name = event.event === undefined ? "" : `event: ${event.event}\n`;
  return `${id}${name}${lines.join("")}\n`;
}

/**
 * The events of a byte stream, wherever its chunks are cut; an event that is not finished when the stream ends is
 * dropped. `node-misbehaved` when one is longer than `maxEventLength` characters or not UTF-8.
 */
export async function* readSse(
  body: AsyncIterable<Uint8Array>,
  options: { maxEventLength?: number } = {},
): AsyncGenerator<SseEvent> {
  const maxBufferSize = options.maxEventLength ?? MAX_EVENT_LENGTH;
  const decoder = new TextDecoder("utf-8", { fatal: true });
  const ready: EventSourceMessage[] = [];
  let overflow = false;
  const parser = createParser({
    maxBufferSize,
    onEvent: (event) => ready.push(event),
    onError(error) {
      overflow ||= error.type === "max-buffer-size-exceeded";
    },
  });
  for await (const bytes of body) {
    parser.feed(decode(decoder, bytes));
    for (const { id, event, data } of ready.splice(0)) {
      if (data.length > maxBufferSize) throw tooLong(maxBufferSize);
      yield { id, event, data };
    }
    if (overflow) throw tooLong(maxBufferSize);
  }
}

function tooLong(limit: number): InfernetError {
  return new InfernetError("node-misbehaved", `an event is longer than ${limit} characters`);
}

function decode(decoder: TextDecoder, bytes: Uint8Array): string {
  try {
    return decoder.decode(bytes, { stream: true });
  } catch (cause) {
    throw new InfernetError("node-misbehaved", "an event stream is not UTF-8", { cause });
  }
}
