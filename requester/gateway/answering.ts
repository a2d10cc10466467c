// Owns how an answer that is bought reaches its client: as a stream while it comes or whole at the end, with its bill.
import { once } from "node:events";
import { setTimeout as delay } from "node:timers/promises";
import type { FastifyReply } from "fastify";
import { InfernetError } from "../../protocol/errors.ts";
import { formatMillionths } from "../../protocol/price.ts";
import type { Log } from "../../runtime/logger.ts";
import { openSse } from "../../runtime/sse.ts";
import type { Purchase } from "./purchase.ts";
import { chargedOf } from "./purchases.ts";

export type ClientEvent = { event?: string; data: string };

/** How a streaming client reads the payloads of an answer. */
export type StreamForm = {
  take(payload: string): ClientEvent[];
  /** What ends an answer that is whole. */
  finish(): ClientEvent[];
  /** What ends one that is not; undefined stands for a bug. */
  fail(error: InfernetError | undefined): ClientEvent[];
};

/** How other clients read it: as JSON text, or the object, that says the same as all payloads. */
export type WholeForm = { take(payload: string): void; finish(): string | object };

export type Answering = {
  purchase: Purchase;
  reply: FastifyReply;
  log: Log;
  openAfterMs?: number | undefined;
};

export const NODE_HEADER = "x-infernet-node";
export const CHARGE_HEADER = "x-infernet-charge";
/** Without a first token for so long, the stream is opened for its heartbeats: what fails later is told inside it. */
const OPEN_AFTER_MS = 10_000;
const MILLIONTHS = 1_000_000n;

/** Streams the answer. Throws what went wrong before anything came, as long as an HTTP status can say it. */
export async function answerStreamed(
  { purchase, reply, log, openAfterMs = OPEN_AFTER_MS }: Answering,
  form: StreamForm,
): Promise<void> {
  holdUntilClosed(purchase, reply);
  await firstWord(purchase, openAfterMs);
  const early = purchase.end();
  if (early && "error" in early && purchase.heldBytes() === 0) throw early.error;
  const node = purchase.route()?.node;
  const sse = openSse(reply, {
    trailer: `${NODE_HEADER}, ${CHARGE_HEADER}`,
    ...(node === undefined ? {} : { [NODE_HEADER]: node }),
  });
  if (purchase.heldBytes() === 0) sse.heartbeat();
  try {
    for await (const payload of purchase.follow()) {
      for (const event of form.take(payload)) sse.send(event);
      if (reply.raw.writableNeedDrain) await drained(reply);
      if (sse.closed.aborted) return;
    }
    const failure = await failureOf(purchase, log);
    const bill = await billOf(purchase);
    sse.comment(
      Object.entries(bill)
        .map(([name, value]) => `${name}=${value}`)
        .join(" "),
    );
    for (const event of failure ? form.fail(knownError(failure.error, log)) : form.finish()) sse.send(event);
    reply.raw.addTrailers(bill);
  } catch (error) {
    for (const event of form.fail(knownError(error, log))) sse.send(event);
  } finally {
    sse.end();
  }
}

/** Sends the answer when it is whole. Throws what went wrong. */
export async function answerWhole({ purchase, reply, log }: Answering, form: WholeForm): Promise<void> {
  holdUntilClosed(purchase, reply);
  for await (const payload of purchase.follow()) form.take(payload);
  const failure = await failureOf(purchase, log);
  if (failure) throw failure.error;
  reply.headers(await billOf(purchase)).type("application/json; charset=utf-8");
  const answer = form.finish();
  await reply.send(typeof answer === "string" ? answer : JSON.stringify(answer));
}

/** Keeps a purchase going for as long as the client's connection holds. */
function holdUntilClosed(purchase: Purchase, reply: FastifyReply): void {
  const release = purchase.hold();
  if (reply.raw.closed || reply.raw.destroyed) release();
  else reply.raw.once("close", release);
}

async function firstWord({ begun }: Purchase, withinMs: number): Promise<void> {
  const enough = new AbortController();
  const limit = delay(withinMs, undefined, { signal: enough.signal }).catch(() => {});
  await Promise.race([begun, limit]);
  enough.abort();
}

/** Resolves when the client has taken what was sent, or is gone. */
async function drained({ raw }: FastifyReply): Promise<void> {
  if (raw.closed || raw.destroyed) return;
  const either = new AbortController();
  const { signal } = either;
  await Promise.race([once(raw, "drain", { signal }), once(raw, "close", { signal })]).catch(() => {});
  either.abort();
}

/** Why the client did not get what it asked for. A bill that cannot be trusted is ours to pursue: the answer is whole. */
async function failureOf(purchase: Purchase, log: Log): Promise<{ error: unknown } | undefined> {
  const end = await purchase.ended;
  if (!("error" in end)) return undefined;
  if (!purchase.isWhole()) return end;
  log.warn(
    { error: end.error, node: purchase.route()?.node },
    "an answer came whole, but its bill is disputed",
  );
  return undefined;
}

async function billOf(purchase: Purchase): Promise<Record<string, string>> {
  const end = await purchase.ended;
  const node = "bought" in end ? end.bought.node : purchase.route()?.node;
  const millionths = "bought" in end ? end.bought.costMillionths : chargedOf(end.error) * MILLIONTHS;
  return {
    ...(node === undefined ? {} : { [NODE_HEADER]: node }),
    [CHARGE_HEADER]: formatMillionths(millionths),
  };
}

/** Base units as the charge header tells amounts: in USDC, all twelve places. */
export function formatCharge(charge: bigint): string {
  return formatMillionths(charge * MILLIONTHS);
}

function knownError(error: unknown, log: Log): InfernetError | undefined {
  if (error instanceof InfernetError) return error;
  log.error({ error }, "an answer met a bug");
  return undefined;
}
