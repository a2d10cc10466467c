// Owns one open session: its requests in parallel, what becomes of each, and its end at its node.
import { setTimeout as delay } from "node:timers/promises";
import type { Hex } from "../../protocol/bytes.ts";
import type { SignedDelivery } from "../../protocol/delivery.ts";
import { type ErrorCode, InfernetError } from "../../protocol/errors.ts";
import { marginSeconds } from "../../protocol/funding.ts";
import { sessionRequestId } from "../../protocol/job.ts";
import { decodeOffer, type Offer, type OfferedModel, offeredModel } from "../../protocol/offer.ts";
import { estimatePromptTokens } from "../../protocol/price.ts";
import { SECONDS_PER_DAY } from "../budget.ts";
import type { LedgerJob } from "../ledger-rows.ts";
import { completionLimit } from "../model-request.ts";
import { createReceiptPost, type ReceiptPost } from "../receipt-post.ts";
import type { LedgerRequest } from "../request-ledger.ts";
import { clientOf } from "../settlement.ts";
import type { AnswerEvent } from "../submission.ts";
import { learnLostRequest } from "./lost-requests.ts";
import { SessionAccount, type StreamTerms } from "./session-account.ts";
import {
  billOf,
  findSessionFault,
  type Order,
  type PlacedOrder,
  partialAnswer,
  readSessionAnswer,
  replayAnswer,
  type SessionDeps,
  type SessionScene,
  type Size,
  sizeOf,
} from "./session-answer.ts";
import type { SessionBill } from "./session-request.ts";

/** Waits between looks for what became of a lost request, in milliseconds: its node gives it up after a minute. */
const LOST_LOOKS_MS = [500, 2_000, 8_000, 30_000, 65_000, 180_000, 600_000];
/** Errors after which it is not known whether the request runs. */
const UNKNOWN_ENDS: readonly ErrorCode[] = [
  "node-unreachable",
  "node-misbehaved",
  "interrupted",
  "upstream-timeout",
  "request-in-progress",
];
/** A node's refusals that are about the session: it serves nothing more. */
const SESSION_ENDS: readonly ErrorCode[] = ["job-closed", "job-expired", "job-not-funded", "job-not-found"];
/** Another session may serve a request that was refused so before it began. */
const SERVED_ELSEWHERE: readonly ErrorCode[] = [...SESSION_ENDS, "receipt-too-small"];
const MILLION = 1_000_000n;

export class Session {
  /** No new request is to be put on it. */
  isRetired = false;
  readonly #scene: SessionScene;
  readonly #onBroken: (session: Session) => void;
  readonly #post: ReceiptPost;
  readonly #account: SessionAccount;
  readonly #running = new Map<Hex, Promise<unknown>>();
  readonly #looks = new Set<Promise<void>>();
  readonly #broken = new AbortController();
  readonly #left = new AbortController();
  /** A request that a limit of its caller's may stop; it runs alone. */
  #bound: Hex | undefined;
  /** Its node wants more than we know of: it still counts for requests whose end was not seen. */
  #isCrowded = false;

  /** `onBroken` is told when its node has lied: it gets nothing more. */
  constructor(deps: SessionDeps, job: LedgerJob, openBlock: number, onBroken: (session: Session) => void) {
    this.#onBroken = onBroken;
    const { jobId, deposit, openingFee, terms, settled, lost, signed } = job;
    const { offer } = decodeOffer(terms!.offerBytes);
    const client = clientOf(job, deps.seed);
    const { desk, log, now, ledger } = deps;
    this.#scene = { ...deps, job, offer, client, openBlock };
    this.#post = createReceiptPost(client, (message, error) =>
      log.warn({ job: jobId, error: String(error) }, message),
    );
    this.#account = new SessionAccount(
      { desk, post: this.#post, now, jobId, deposit, openingFee },
      { ended: settled + lost, signed },
    );
    for (const request of ledger.requests.lostOf(jobId)) this.#learnLater(request.requestId);
  }

  get jobId(): Hex {
    return this.#scene.job.jobId;
  }

  get offer(): Offer {
    return this.#scene.offer;
  }

  get deposit(): bigint {
    return this.#scene.job.deposit;
  }

  get active(): number {
    return this.#running.size;
  }

  /** Base units that no request has cost or reserved. */
  room(): bigint {
    return this.#account.room();
  }

  /** Base units that no request has cost yet. */
  left(): bigint {
    return this.#account.left();
  }

  /** Seconds in which a new request can still be begun. */
  secondsLeft(): number {
    const { job, offer, now } = this.#scene;
    const { deadline } = job.job;
    return deadline - marginSeconds(job.openedAt!, deadline) - offer.longestRequestSeconds - now();
  }

  /** Whether its offer has this model, the same and no dearer, at the same endpoint. */
  offers(model: OfferedModel, endpoint: string): boolean {
    const own = this.offer.models.find(({ name }) => name === model.name);
    if (!own || own.digest !== model.digest || this.#scene.job.terms!.endpoint !== endpoint) return false;
    return own.inputPrice <= model.inputPrice && own.outputPrice <= model.outputPrice;
  }

  /** Whether a request of this size, which may cost so much, has room and time here. */
  fits({ isBound, reserve }: Size, most: bigint): boolean {
    if (this.isRetired || this.#broken.signal.aborted || this.#bound !== undefined) return false;
    if (this.secondsLeft() <= 0 || this.room() < reserve) return false;
    if (this.#isCrowded && this.#hasLost()) return false;
    // What a limit may stop runs alone: coverage that others leave over would be added to its limit.
    return !isBound || (this.active === 0 && !this.#hasLost() && this.#account.coverage() <= most);
  }

  /**
   * Sends one request and returns its bill; its room is taken at once. Throws the node's error, `node-misbehaved`,
   * `over-budget` or `interrupted`; `data.charge` is what it was charged all the same.
   */
  ask(order: Order): Promise<SessionBill> {
    const placed = this.#place(order);
    const { requestId } = placed;
    const paying = this.#pay(placed).finally(() => {
      this.#running.delete(requestId);
      if (this.#bound === requestId) this.#bound = undefined;
    });
    this.#running.set(
      requestId,
      paying.catch(() => {}),
    );
    return paying;
  }

  /** Reads an ended request's answer again, at no new charge. Throws `not-found` when its node keeps it no more. */
  replay(kept: LedgerRequest, isStream: boolean, emit: (event: AnswerEvent) => void): Promise<SessionBill> {
    return replayAnswer(this.#scene, kept, isStream, emit);
  }

  /** Resolves when no request runs any more. */
  async idle(): Promise<void> {
    while (this.#running.size > 0) await Promise.all(this.#running.values());
  }

  /**
   * Has the node close the job, and learns what became of lost requests. Throws what stands against it, such as
   * `request-in-progress` or `node-unreachable`: the session can be closed again.
   */
  async close(): Promise<void> {
    const { client, ledger, job } = this.#scene;
    const { jobId } = job;
    this.isRetired = true;
    await this.#post.idle();
    await client.closeJob();
    ledger.noteEnded(jobId, null);
    for (const request of ledger.requests.lostOf(jobId))
      await this.#learn(() => learnLostRequest(this.#scene, request));
  }

  /** Lets go of the node; the job stays as it is. */
  async leave(): Promise<void> {
    this.isRetired = true;
    this.#left.abort(new InfernetError("interrupted", "the requester is stopping"));
    await this.idle();
    await Promise.all(this.#looks);
    await this.#scene.client.close();
  }

  #place(order: Order): PlacedOrder {
    const { ledger, clock, job, offer } = this.#scene;
    const { request, idempotencyKey, most, resumed = 0n, emit } = order;
    const { jobId } = job;
    const { node } = job.job;
    const model = offeredModel(offer, request.model);
    const { canCost, isBound } = sizeOf(request, model, offer, most);
    const limit = completionLimit(request, offer);
    const requestId = sessionRequestId(jobId, idempotencyKey);
    // Unstreamed, there is nothing to see before the end: all that it allows is signed for at its start.
    const tokensAhead = (chunks: number) =>
      request.stream ? Math.min(chunks * offer.chunkTokens, limit) : limit;
    const { path, promptTokenBound: promptBound, requestHash: bodyHash } = request;
    const terms: StreamTerms = {
      ...{ requestId, prices: model, promptBound, maxTokens: limit, canCost, resumed },
      estimatedPrompt: estimatePromptTokens(request.promptTextBytes),
      aheadTokens: tokensAhead(ledger.hasHistory(node) ? 2 : 1),
      admissionTokens: tokensAhead(2),
      stepTokens: Math.ceil(offer.chunkTokens / 2),
      most: most * MILLION,
      begin() {
        const createdAt = clock.nowSeconds();
        ledger.requests.start({
          ...{ requestId, jobId, idempotencyKey, bodyHash, node, model: model.name, path },
          ...{ day: Math.floor(createdAt / SECONDS_PER_DAY), createdAt },
          ...{ promptBound, tokenLimit: limit, canCost },
        });
      },
    };
    const payment = this.#account.place(terms, (amount) => emit({ type: "receipt", amount }));
    if (isBound) this.#bound = requestId;
    return { order, requestId, model, payment };
  }

  async #pay(placed: PlacedOrder): Promise<SessionBill> {
    const { order, requestId, model } = placed;
    const { ledger, clock, job } = this.#scene;
    const signal = AbortSignal.any([order.signal, this.#broken.signal, this.#left.signal]);
    let payload: string | undefined;
    const emit = (event: AnswerEvent) => {
      if (event.type === "payload") payload = event.payload;
      order.emit(event);
    };
    try {
      signal.throwIfAborted();
      const { answer, delivery } = await readSessionAnswer(
        this.#scene,
        { ...placed, order: { ...order, emit } },
        signal,
      );
      this.#judge(placed, delivery, answer.arrived);
      ledger.requests.end(requestId, delivery, clock.nowSeconds());
      if (answer.problem) throw partialAnswer(answer.problem, job.jobId, delivery);
      const told = { node: job.job.node, model: model.name, isStream: order.request.stream, payload };
      return billOf(told, answer, delivery);
    } catch (error) {
      this.#noteFailure(requestId, error);
      throw signal.aborted && error === signal.reason ? this.#interruption(signal.reason, requestId) : error;
    } finally {
      this.#account.leave(requestId, this.#endedSum());
    }
  }

  #judge(
    { order, requestId, model }: PlacedOrder,
    delivery: SignedDelivery,
    arrived: { transcript: Hex; textBytes: number },
  ): void {
    const asked = { requestId, model: model.name, promptBound: order.request.promptTokenBound };
    const fault = findSessionFault(this.#scene, asked, delivery, arrived);
    if (fault === undefined) return;
    const { transcript, textBytes } = arrived;
    const evidence = { reason: fault, delivery, arrived: { transcript, textBytes } };
    this.#scene.ledger.requests.noteEvidence(requestId, evidence);
    throw new InfernetError("node-misbehaved", fault, {
      hint: "Nothing more is signed for its session; the evidence is kept in the ledger. Choose another node.",
      data: { jobId: this.jobId },
    });
  }

  /** What a request's failure means for what is reserved for it, and for the session. */
  #noteFailure(requestId: Hex, error: unknown): void {
    const { ledger, clock } = this.#scene;
    const progress = this.#account.progressOf(requestId);
    const code = error instanceof InfernetError ? error.code : undefined;
    if (code === "node-misbehaved" && !this.#broken.signal.aborted) {
      ledger.requests.noteEvidence(requestId, { reason: (error as InfernetError).message });
      this.#breakOff(error as InfernetError);
    }
    if (progress === "placed" || ledger.requests.find(requestId)?.state !== "running") return;
    if (progress === "arriving" || code === undefined || UNKNOWN_ENDS.includes(code)) {
      ledger.requests.lose(requestId, clock.nowSeconds());
      this.#learnLater(requestId);
      return;
    }
    ledger.requests.refuse(requestId, clock.nowSeconds());
    if (SESSION_ENDS.includes(code)) this.isRetired = true;
    this.#isCrowded = code === "receipt-too-small" && this.#hasLost();
  }

  /** Its node lied: nothing more is signed for it, and its other requests end. */
  #breakOff(error: InfernetError): void {
    const { ledger } = this.#scene;
    this.isRetired = true;
    ledger.noteEvidence(this.jobId, { reason: error.message });
    ledger.noteEnded(this.jobId, null);
    this.#broken.abort(error);
    this.#onBroken(this);
  }

  #interruption(reason: unknown, requestId: Hex): InfernetError {
    if (reason instanceof InfernetError) return reason;
    return new InfernetError("interrupted", "the request was interrupted", {
      hint: "Its node charges what it had released.",
      cause: reason,
      data: { jobId: this.jobId, requestId },
    });
  }

  #learnLater(requestId: Hex): void {
    const look = this.#lookForLost(requestId).finally(() => this.#looks.delete(look));
    this.#looks.add(look);
  }

  async #lookForLost(requestId: Hex): Promise<void> {
    const { signal } = this.#left;
    for (const waitMs of LOST_LOOKS_MS) {
      await delay(waitMs, undefined, { signal, ref: false }).catch(() => {});
      const request = this.#scene.ledger.requests.find(requestId);
      if (signal.aborted || request?.state !== "lost") return;
      if (await this.#learn(() => learnLostRequest(this.#scene, request))) return;
    }
  }

  async #learn(learn: () => Promise<boolean>): Promise<boolean> {
    try {
      return await learn();
    } catch (error) {
      if (!(error instanceof InfernetError)) throw error;
      if (error.code === "node-misbehaved" && !this.#broken.signal.aborted) this.#breakOff(error);
      return false;
    } finally {
      this.#account.refresh(this.#endedSum());
    }
  }

  #endedSum(): bigint {
    const { settled, lost } = this.#scene.ledger.findJob(this.jobId)!;
    return settled + lost;
  }

  #hasLost(): boolean {
    return this.#scene.ledger.requests.lostOf(this.jobId).length > 0;
  }
}

/** Whether a node's refusal is about the session, not the request: the request may have another one. */
export function isSessionEnd(error: unknown): boolean {
  return error instanceof InfernetError && SERVED_ELSEWHERE.includes(error.code) && !("charge" in error.data);
}
