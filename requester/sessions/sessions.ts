// Owns the requester's sessions as a whole: any number of requests in parallel, each paid for by an open job.
import { randomBytes } from "node:crypto";
import { type Hex, toHex } from "../../protocol/bytes.ts";
import { InfernetError } from "../../protocol/errors.ts";
import { chooseNode } from "../choose.ts";
import { readModelRequest } from "../model-request.ts";
import type { LedgerRequest } from "../request-ledger.ts";
import { isSessionEnd, Session } from "./session.ts";
import { type Order, sizeOf } from "./session-answer.ts";
import { SessionPool, type SessionsDeps } from "./session-pool.ts";
import { reportSession } from "./session-report.ts";
import type {
  SessionBill,
  SessionEvent,
  SessionReport,
  SessionRequest,
  SessionWish,
} from "./session-request.ts";
import { type SessionSubmit, submitToSession } from "./session-submit.ts";

export type Sessions = {
  /**
   * Pays for one request out of a session with the chosen node; sessions are opened and rotated as needed. Throws what
   * went wrong by its code; `data.charge` is what was charged all the same.
   */
  ask(request: SessionRequest): Promise<SessionBill>;
  /** The same without a choice: a node whose session is open and free comes first, else the cheapest. */
  submit(input: SessionSubmit): Promise<SessionBill>;
  /** Opens a session ahead of its requests. */
  open(wish: SessionWish): Promise<SessionReport>;
  /** The sessions that the chain has not closed yet, of other processes too, newest first. */
  list(): SessionReport[];
  /**
   * Has one session, or all that no other process has in hand, closed by their nodes; requests under way end first.
   * For one session throws `request-in-progress` while another process has it, and what its node says against it.
   */
  close(jobId?: Hex): Promise<SessionReport[]>;
  /** Interrupts what runs and lets go of all sessions: they stay open for the next process. */
  stop(): Promise<void>;
  subscribe(listener: (event: SessionEvent) => void): () => void;
};

const KEY = /^[A-Za-z0-9_-]{1,64}$/;
const MILLION = 1_000_000n;
/** What a session is opened for when no request is there yet. */
const SMALLEST_REQUEST = { messages: [], max_tokens: 1, stream: true };

export function createSessions(deps: SessionsDeps): Sessions {
  const stopped = new AbortController();
  const pool = new SessionPool(deps, stopped.signal);
  const { ledger, desk } = deps;
  /** Keys whose requests run here. */
  const underWay = new Set<string>();

  async function ask(input: SessionRequest): Promise<SessionBill> {
    const { idempotencyKey } = input;
    if (idempotencyKey === undefined) return await askOnce(input);
    if (!KEY.test(idempotencyKey))
      throw new InfernetError("bad-request", "an idempotency key is 1 to 64 letters, digits, - or _");
    if (underWay.has(idempotencyKey))
      throw new InfernetError("request-in-progress", "a request with this idempotency key runs already");
    underWay.add(idempotencyKey);
    return await askOnce(input).finally(() => underWay.delete(idempotencyKey));
  }

  async function askOnce(input: SessionRequest): Promise<SessionBill> {
    const { request, choice, idempotencyKey, gas, patienceMs, signal } = input;
    const order = {
      request,
      idempotencyKey: idempotencyKey ?? toHex(randomBytes(16)).slice(2),
      patienceMs,
      signal: AbortSignal.any([stopped.signal, ...(signal ? [signal] : [])]),
      emit: (event: Parameters<Order["emit"]>[0]) => input.onEvent?.(event),
    };
    order.signal.throwIfAborted();
    const known = idempotencyKey === undefined ? undefined : ledger.requests.findByKey(idempotencyKey);
    if (known) return await askAgain(known, order);
    for (let attempt = 1; ; attempt += 1) {
      const most = desk.affordable(input.maxCharge, choice.node);
      const size = sizeOf(request, choice.model, choice.signedOffer.offer, most);
      const { paying } = await pool.withRoom({ choice, size, most, gas }, (session) => ({
        paying: session.ask({ ...order, most }).finally(() => pool.release(session, size.reserve)),
      }));
      try {
        return await paying;
      } catch (error) {
        // The node ran nothing and says that the session is over: another one may do.
        if (attempt > 1 || !isSessionEnd(error)) throw error;
      }
    }
  }

  /** The same request again: it runs already, it is replayed, or it goes on where a crash left it. */
  async function askAgain(known: LedgerRequest, order: Omit<Order, "most">): Promise<SessionBill> {
    if (known.bodyHash !== order.request.requestHash)
      throw new InfernetError("request-mismatch", "another request has the same idempotency key", {
        hint: "Send the same bytes again, or a new key.",
      });
    const { jobId, state, allowed, canCost } = known;
    const held = pool.find(jobId);
    if (state === "ended") return await replay(known, order);
    const session = held ?? (await pool.takeOver(jobId));
    // What it may cost was allowed when it first left.
    const most = canCost / MILLION + 1n;
    return await session.ask({ ...order, most, resumed: allowed }).finally(() => pool.release(session));
  }

  async function replay(known: LedgerRequest, { request, emit }: Omit<Order, "most">): Promise<SessionBill> {
    const held = pool.find(known.jobId);
    const session = held ?? new Session(deps, ledger.findJob(known.jobId)!, 0, () => {});
    try {
      return await session.replay(known, request.stream, emit);
    } finally {
      if (!held) await session.leave();
    }
  }

  async function open({
    node,
    model,
    gas,
    depositUsdc,
    deadlineSeconds,
  }: SessionWish): Promise<SessionReport> {
    const body = Buffer.from(JSON.stringify({ model, ...SMALLEST_REQUEST }));
    const request = readModelRequest("/v1/chat/completions", body);
    const maxCharge = desk.affordable(undefined);
    const choice = await chooseNode(deps, { request, node, maxCharge });
    const { reserve } = sizeOf(request, choice.model, choice.signedOffer.offer, maxCharge);
    const { jobId } = await pool.open({ choice, reserve, gas, depositUsdc, deadlineSeconds });
    return pool.report(jobId);
  }

  async function closeOne(jobId: Hex): Promise<SessionReport> {
    await pool.close(pool.find(jobId) ?? (await pool.takeOver(jobId)));
    return pool.report(jobId);
  }

  async function closeAll(): Promise<SessionReport[]> {
    for (const { jobId, phase } of ledger.unfinishedSessions()) {
      if ((phase !== "open" && phase !== "streaming") || pool.find(jobId)) continue;
      await pool.takeOver(jobId).catch((error: unknown) => {
        if (!(error instanceof InfernetError)) throw error;
      });
    }
    const all = pool.inHand();
    await Promise.all(all.map((session) => pool.closeQuietly(session)));
    return all.map(({ jobId }) => pool.report(jobId));
  }

  return {
    ask,
    submit: (input) => submitToSession(deps, input, ask),
    open,
    list: () => ledger.unfinishedSessions().map((job) => reportSession(ledger, job)),
    close: async (jobId) => (jobId === undefined ? await closeAll() : [await closeOne(jobId)]),
    async stop() {
      stopped.abort(new InfernetError("interrupted", "the requester is stopping"));
      await pool.stop();
    },
    subscribe: (listener) => pool.subscribe(listener),
  };
}
