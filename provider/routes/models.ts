// Owns the routes that jobs pay for: OpenAI's, answered as an event stream or as one body, live or from the ledger.
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { InfernetError } from "../../protocol/errors.ts";
import { toJson } from "../../protocol/schema.ts";
import { HEADERS, type ModelPath } from "../../protocol/wire.ts";
import { openSse } from "../../runtime/sse.ts";
import type { JobLedger } from "../job-ledger.ts";
import type { Offers } from "../offers.ts";
import type { FoundRequest, PaidRequests } from "../paid-requests.ts";
import type { PaidStream } from "../paid-stream.ts";
import { PAYMENT_REQUIRED_HEADER, paymentRequiredHeader } from "../payment-required.ts";
import { replayOf, sendReplay } from "../replay.ts";

export type ModelRouteDependencies = {
  ledger: JobLedger;
  offers: Pick<Offers, "current">;
  requests: PaidRequests;
};

/** The unstreamed answer's signed delivery: base64url of its JSON. */
const DELIVERY_HEADER = "infernet-delivery";
/** Without a first token for so long, an event stream is opened for its heartbeats. */
const OPEN_AFTER_MS = 15_000;

export function addModelRoute(app: FastifyInstance, path: ModelPath, deps: ModelRouteDependencies): void {
  app.post(path, async (request, reply) => {
    const left = new AbortController();
    reply.raw.once("close", () => left.abort());
    try {
      const lastEventId = readLastEventId(request);
      const body = request.body as Buffer;
      const found = await deps.requests.open(path, request.headers, body, left.signal);
      if (found.stream) await answerStream(found, lastEventId, reply, deps);
      else await answerBody(found, reply, deps);
    } catch (error) {
      if (error instanceof InfernetError) addErrorHeaders(error, path, reply, deps);
      throw error;
    }
    return reply;
  });
}

async function answerStream(
  { requestId, running }: FoundRequest,
  lastEventId: number,
  reply: FastifyReply,
  { ledger }: ModelRouteDependencies,
): Promise<void> {
  if (running) {
    await waitForBegin(running, reply);
    const { outcome } = running;
    if (outcome === undefined) {
      running.join(openSse(reply), lastEventId);
      return;
    }
    if ("failure" in outcome) throw outcome.failure;
  }
  sendReplay(replayOf(ledger, requestId, lastEventId), reply);
}

async function answerBody(
  { requestId, running }: FoundRequest,
  reply: FastifyReply,
  { ledger }: ModelRouteDependencies,
): Promise<void> {
  if (running) {
    const release = holdUntilClosed(running, reply);
    const outcome = await running.ended;
    release();
    if ("failure" in outcome) throw outcome.failure;
  }
  const { events, delivery } = replayOf(ledger, requestId, 0);
  const text = Buffer.from(toJson(delivery)).toString("base64url");
  reply.header(DELIVERY_HEADER, text).type("application/json").send(events[0]?.payload);
}

/** Waits until there is something to send, long enough to need heartbeats, or the client is gone. */
async function waitForBegin(running: PaidStream, reply: FastifyReply): Promise<void> {
  const { promise: late, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, OPEN_AFTER_MS);
  const release = holdUntilClosed(running, reply, resolve);
  await Promise.race([running.begun, late]);
  clearTimeout(timer);
  release();
}

function holdUntilClosed(running: PaidStream, reply: FastifyReply, onClosed?: () => void): () => void {
  const release = running.hold();
  reply.raw.once("close", () => {
    release();
    onClosed?.();
  });
  return release;
}

function readLastEventId(request: FastifyRequest): number {
  const value = request.headers[HEADERS.lastEventId];
  if (value === undefined) return 0;
  if (typeof value === "string" && /^\d{1,9}$/.test(value)) return Number(value);
  throw new InfernetError("bad-request", "Last-Event-ID must be the id of an event of this answer");
}

/** What a refusal says in headers beside its body: how to pay, and when to come again. */
function addErrorHeaders(
  error: InfernetError,
  path: ModelPath,
  reply: FastifyReply,
  { offers }: ModelRouteDependencies,
): void {
  if (error.code === "payment-required") {
    reply.header(PAYMENT_REQUIRED_HEADER, paymentRequiredHeader(offers.current(), path));
  }
  const seconds = error.data.retryAfterSeconds;
  if (seconds !== undefined) reply.header("retry-after", String(seconds));
}
