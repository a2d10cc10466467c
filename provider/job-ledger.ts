// Owns what a job may spend and has spent: its receipts, its requests, what was released to them, and their deliveries.
import type { Hex } from "../protocol/bytes.ts";
import { type Delivery, deliveryDigest, type SignedDelivery } from "../protocol/delivery.ts";
import { InfernetError } from "../protocol/errors.ts";
import { checkTerms } from "../protocol/funding.ts";
import { type JobTerms, SESSION_REQUEST_HASH } from "../protocol/job.ts";
import { costMillionths, roundCharge, type TokenCounts } from "../protocol/price.ts";
import type { Receipt } from "../protocol/receipt.ts";
import { toJson } from "../protocol/schema.ts";
import { extendTranscript } from "../protocol/transcript.ts";
import type { Domain } from "../protocol/typed-data.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Signer } from "../runtime/signers/secp256k1.ts";
import type { Store } from "../runtime/store.ts";
import type { EventHub } from "./events.ts";
import {
  countsWithoutUsage,
  jobOfRow,
  type LedgerJob,
  type LedgerRequest,
  type Row,
  requestOfRow,
} from "./ledger-rows.ts";
import { prepareLedgerStatements } from "./ledger-statements.ts";

/** Output is kept this long after a request ended, for requesters that come back for it. */
const REPLAY_SECONDS = 3600;
/** The largest amount that the store's integers hold; more than all USDC there is. */
const LARGEST_AMOUNT = (1n << 63n) - 1n;

/** `store` is opened with PROVIDER_MIGRATIONS; `signer` is the node's key, which signs deliveries. */
export type LedgerDependencies = {
  store: Store;
  domain: Domain;
  signer: Signer;
  clock: Clock;
  events: EventHub;
};

/** A request before it runs. `reserved` is what its prefill and first chunks may cost, in base units. */
export type NewRequest = Omit<
  LedgerRequest,
  "status" | "counts" | "estimated" | "lastEventId" | "transcript" | "delivery"
>;

type End = { counts: TokenCounts; estimated: boolean };

/** The provider's record of delivered value. Whatever a method promises is durable when it returns or resolves. */
export class JobLedger {
  readonly #deps: LedgerDependencies;
  readonly #sql: ReturnType<typeof prepareLedgerStatements>;

  constructor(deps: LedgerDependencies) {
    this.#deps = deps;
    this.#sql = prepareLedgerStatements(deps.store.db);
  }

  findJob(jobId: Hex): LedgerJob | undefined {
    const row = this.#sql.job.get(jobId) as Row | undefined;
    return row && jobOfRow(row);
  }

  findRequest(requestId: Hex): LedgerRequest | undefined {
    const row = this.#sql.request.get(requestId) as Row | undefined;
    return row && requestOfRow(row);
  }

  /** The job's running requests, and up to `most` of those that ended last, newest first. */
  latestRequests(jobId: Hex, most: number): LedgerRequest[] {
    const rows = [...this.#sql.runningOfJob.all(jobId), ...this.#sql.lastEndedOfJob.all(jobId, most)];
    return (rows as Row[]).map(requestOfRow);
  }

  /** Requests that run; after a crash, those that it cut off. */
  runningRequests(): LedgerRequest[] {
    return (this.#sql.running.all() as Row[]).map(requestOfRow);
  }

  /** What was released after this event, for replays; nothing any more an hour after the request's end. */
  payloadsAfter(requestId: Hex, eventId: number): { id: number; payload: string }[] {
    return this.#sql.payloadsAfter.all(requestId, eventId) as { id: number; payload: string }[];
  }

  /** Remembers the salt and the offer that the first paid request showed. Throws `request-mismatch`. */
  bindTerms(jobId: Hex, terms: JobTerms): void {
    const { job, salt } = this.#needJob(jobId);
    checkTerms(job, terms);
    if (salt !== null) return;
    this.#deps.store.transact(() => {
      this.#sql.bindTerms.run(terms.salt, terms.offerHash, terms.requestHash, jobId);
    });
  }

  /** Keeps the highest receipt and gives its amount. The caller has checked signature and deposit. Throws `job-closed`. */
  async acceptReceipt({ jobId, amount, transcript, signature }: Receipt): Promise<bigint> {
    if (amount > LARGEST_AMOUNT)
      throw new InfernetError("bad-receipt", "the receipt is larger than any deposit");
    let risen = false;
    await this.#deps.store.commitSoon(() => {
      if (this.#needJob(jobId).state === "closed") throw new InfernetError("job-closed", "the job is closed");
      risen = this.#sql.raiseReceipt.run({ jobId, amount, transcript, signature }).changes > 0;
    });
    if (risen) this.#deps.events.emit({ type: "receiptAccepted", jobId, amount });
    return this.#needJob(jobId).receipt?.amount ?? 0n;
  }

  /** Records a request, so that its model may run. Throws `job-closed` when the job is not funded, or serves no more. */
  async startRequest(request: NewRequest): Promise<void> {
    const { jobId, requestId, model, prices, ...rest } = request;
    await this.#deps.store.commitSoon(() => {
      const { state, undone } = this.#needJob(jobId);
      if (state !== "funded" || undone)
        throw new InfernetError("job-closed", "the job serves no more requests");
      this.#sql.startRequest.run({ jobId, requestId, model, ...prices, ...rest });
    });
    this.#deps.events.emit({ type: "streamStarted", jobId, requestId, model });
  }

  /**
   * Resolves when the payloads may leave, as the events after `lastEventId`. `counts` are what is charged for the
   * request so far; `promptTokens` stays 0 until the upstream has counted the prompt. `reserved`, in base units, is what
   * it may still spend, if that has changed. Throws `interrupted` once ended.
   */
  async release(
    requestId: Hex,
    payloads: readonly string[],
    counts: TokenCounts,
    reserved?: bigint,
  ): Promise<void> {
    const { promptTokens, completionTokens } = counts;
    let jobId: Hex | undefined;
    await this.#deps.store.commitSoon(() => {
      const request = this.#needRequest(requestId);
      jobId = request.jobId;
      if (request.status === "ended") throw new InfernetError("interrupted", "the request has ended");
      if (reserved !== undefined) this.#sql.reserve.run(reserved, requestId);
      payloads.forEach((payload, index) => {
        this.#sql.keepPayload.run(requestId, request.lastEventId + 1 + index, payload);
      });
      const transcript = payloads.reduce(extendTranscript, request.transcript);
      const lastEventId = request.lastEventId + payloads.length;
      this.#sql.release.run(promptTokens, completionTokens, lastEventId, transcript, requestId);
    });
    const events = payloads.length;
    this.#deps.events.emit({ type: "tokensReleased", jobId: jobId!, requestId, events, completionTokens });
  }

  /** Ends a request at these counts, frees its reservation and signs its delivery; once ended, gives that delivery again. */
  endRequest(requestId: Hex, end: End & { reason: string }): Promise<SignedDelivery> {
    return this.#end(requestId, end.reason, () => end);
  }

  /** Ends a request whose upstream told no final usage: what was released is charged, marked `estimated`. */
  endWithoutUsage(requestId: Hex, reason: string): Promise<SignedDelivery> {
    return this.#end(requestId, reason, (request, job) => ({
      counts: countsWithoutUsage(request, this.#coverageOf(request, job)),
      estimated: true,
    }));
  }

  /** Forgets a running request of which nothing was released: nothing is charged, and it may be sent again. */
  forgetRequest(requestId: Hex, reason: string): void {
    const { jobId } = this.#needRequest(requestId);
    const forgotten = this.#deps.store.transact(() => this.#sql.forgetRequest.run(requestId).changes > 0);
    if (!forgotten) return;
    const counts = { promptTokens: 0, completionTokens: 0 };
    const jobCharge = this.#needJob(jobId).charge;
    this.#deps.events.emit({
      ...{ type: "streamEnded", jobId, requestId, counts, estimated: false, jobCharge, reason },
    });
  }

  /**
   * Makes a job serve no more, so that it is settled; `asked` by its requester. Throws `request-in-progress` while a
   * request of it runs.
   */
  finishJob(jobId: Hex, { asked = false } = {}): void {
    const finished = this.#deps.store.transact(() => {
      if (this.#needJob(jobId).running > 0)
        throw new InfernetError("request-in-progress", "a request of the job still runs");
      if (asked) this.#sql.askClose.run(jobId);
      return this.#finish(jobId);
    });
    if (finished) this.#deps.events.emit({ type: "jobOver", jobId });
  }

  /** Lets output go that is kept no longer: also of requests after which no other came. */
  forgetOldOutput(): void {
    const before = this.#deps.clock.nowSeconds() - REPLAY_SECONDS;
    if (this.#sql.oldOutput.get(before)) this.#deps.store.transact(() => this.#forgetOutput(before));
  }

  #forgetOutput(before: number): void {
    this.#sql.forgetPayloads.run(before);
    this.#sql.markForgotten.run(before);
  }

  async #end(
    requestId: Hex,
    reason: string,
    decide: (request: LedgerRequest, job: LedgerJob) => End,
  ): Promise<SignedDelivery> {
    const { store, clock, events } = this.#deps;
    let endedNow = false;
    let jobOver = false;
    await store.commitSoon(() => {
      const request = this.#needRequest(requestId);
      if (request.status === "ended") return;
      const job = this.#needJob(request.jobId);
      const { counts, estimated } = decide(request, job);
      const othersCost = job.endedCost + job.runningCost - costMillionths(request.counts, request.prices);
      const delivery = this.#signDelivery({ ...request, counts, estimated }, job, othersCost);
      const now = clock.nowSeconds();
      this.#sql.endRequest.run({
        ...counts,
        estimated: estimated ? 1 : 0,
        delivery: toJson(delivery),
        reason,
        now,
        requestId,
      });
      this.#forgetOutput(now - REPLAY_SECONDS);
      endedNow = true;
      jobOver = job.requestHash !== SESSION_REQUEST_HASH && this.#finish(job.jobId);
    });
    const { delivery } = this.#needRequest(requestId);
    if (!delivery) throw new Error("a request ended without a delivery");
    const { jobId, jobCharge, promptTokens, completionTokens, estimated } = delivery;
    const counts = { promptTokens, completionTokens };
    if (endedNow)
      events.emit({ type: "streamEnded", jobId, requestId, counts, estimated, jobCharge, reason });
    if (jobOver) events.emit({ type: "jobOver", jobId });
    return delivery;
  }

  #signDelivery(request: LedgerRequest, { openingFee }: LedgerJob, othersCost: bigint): SignedDelivery {
    const { jobId, requestId, transcript, modelDigest, counts, prices, estimated } = request;
    const cost = costMillionths(counts, prices);
    const delivery: Delivery = {
      jobId,
      requestId,
      transcript,
      modelDigest,
      promptTokens: counts.promptTokens,
      completionTokens: counts.completionTokens,
      estimated,
      cost,
      jobCharge: openingFee + roundCharge(othersCost + cost),
    };
    const digest = deliveryDigest(this.#deps.domain, delivery);
    return { ...delivery, signature: this.#deps.signer.signDigest(digest) };
  }

  /** Millionths of a base unit of the job's receipt that its other requests neither cost nor reserve. */
  #coverageOf({ counts, prices, reserved }: LedgerRequest, job: LedgerJob): bigint {
    const othersCost = job.endedCost + job.runningCost - costMillionths(counts, prices);
    const free = (job.receipt?.amount ?? 0n) - job.openingFee - (job.reserved - reserved);
    return free * 1_000_000n - othersCost;
  }

  #finish(jobId: Hex): boolean {
    return this.#sql.finishJob.run(this.#deps.clock.nowSeconds(), jobId).changes > 0;
  }

  #needJob(jobId: Hex): LedgerJob {
    const job = this.findJob(jobId);
    if (!job) throw new InfernetError("job-not-found", "no such job");
    return job;
  }

  #needRequest(requestId: Hex): LedgerRequest {
    const request = this.findRequest(requestId);
    if (!request) throw new InfernetError("not-found", "no such request");
    return request;
  }
}
