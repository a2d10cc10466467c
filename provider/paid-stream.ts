// Owns one paid request while its model runs: nothing is released that is not signed for, nothing leaves undurable.
import type { Hex } from "../protocol/bytes.ts";
import type { SignedDelivery } from "../protocol/delivery.ts";
import { InfernetError, problemOf } from "../protocol/errors.ts";
import {
  type AnswerMeta,
  chunkPayload,
  DONE_PAYLOAD,
  foldChunks,
  type OpenAiChunk,
  usagePayload,
} from "../protocol/openai-answer.ts";
import type { GenerationRequest } from "../protocol/openai-request.ts";
import { chargeablePromptTokens, costMillionths, type TokenCounts } from "../protocol/price.ts";
import type { InfernetEvent } from "../protocol/wire.ts";
import type { Log } from "../runtime/logger.ts";
import type { SseWriter } from "../runtime/sse.ts";
import type { Seat } from "./admission.ts";
import { type Audience, createAudience, sendWord } from "./audience.ts";
import { readBatches } from "./event-batches.ts";
import type { JobLedger } from "./job-ledger.ts";
import {
  believableCounts,
  coveredCounts,
  coverOf,
  greatest,
  type Metered,
  type MeterTerms,
  meterEvent,
  NOTHING_METERED,
  nextCover,
  reservationOf,
} from "./metering.ts";
import type { Upstream, UpstreamEvent } from "./upstreams/upstream.ts";

export type StreamPlan = {
  requestId: Hex;
  request: GenerationRequest;
  terms: MeterTerms;
  meta: AnswerMeta;
  receiptTimeoutSeconds: number;
  longestRequestSeconds: number;
  /** Milliseconds without a listener, or with none that takes anything, after which the request ends. */
  patienceMs: number;
};

export type StreamDependencies = {
  upstream: Pick<Upstream, "generate">;
  ledger: JobLedger;
  seat: Seat;
  log: Log;
};

/** What a request came to: its delivery, or why it was forgotten: nothing was released, nothing is charged. */
export type StreamOutcome = { delivery: SignedDelivery } | { failure: unknown };

/** Runs one request from its durable start to its delivery. */
export class PaidStream {
  /** Resolves at the first word or event for a listener, or at the end. */
  readonly begun: Promise<void>;
  /** Resolves when the request is over; never rejects. */
  readonly ended: Promise<StreamOutcome>;
  readonly #plan: StreamPlan;
  readonly #deps: StreamDependencies;
  readonly #audience: Audience;
  readonly #abort = new AbortController();
  readonly #begun = Promise.withResolvers<void>();
  readonly #chunks: OpenAiChunk[] = [];
  #outgoing: string[] = [];
  #metered: Metered = NOTHING_METERED;
  #lastEventId = 0;
  /** Whether an event stream was opened for it, which must end with a delivery. */
  #isOpened = false;
  #outcome: StreamOutcome | undefined;
  /** The cover that the ledger's reservation was last made from. */
  #reserved: bigint;
  #need: InfernetEvent | undefined;
  /** What it wants to be covered, and whether anybody is there to sign for that. */
  #wanted = 0n;
  #isAttended = true;
  /** The last word, for who joins after it was told. */
  #farewell: InfernetEvent | undefined;

  constructor(plan: StreamPlan, deps: StreamDependencies) {
    this.#plan = plan;
    this.#deps = deps;
    this.#reserved = deps.seat.covered();
    this.begun = this.#begun.promise;
    this.#audience = createAudience(
      plan.patienceMs,
      () => {
        this.stop(new InfernetError("interrupted", "the requester went away"));
      },
      (isPresent) => this.#attend(isPresent),
    );
    this.ended = this.#run();
  }

  /** What the request came to; undefined while it runs. */
  get outcome(): StreamOutcome | undefined {
    return this.#outcome;
  }

  /** Keeps the request alive for somebody who waits for it; the returned function ends that. */
  hold(): () => void {
    return this.#audience.hold();
  }

  /** Sends this listener everything after the event, what comes, and the delivery; then ends its stream. */
  join(writer: SseWriter, afterId: number): void {
    this.#isOpened ||= !writer.closed.aborted;
    const told = this.#need;
    this.#audience.join(writer, afterId, this.#deps.ledger.payloadsAfter(this.#plan.requestId, afterId));
    // Who comes when nobody was there has heard the need: it was asked for again.
    const missed = this.#need === told ? this.#need : undefined;
    const word = this.#farewell ?? missed;
    if (word) sendWord(writer, word);
  }

  /** Resolves to whether nobody waits for it or listens any more, now or within this time. */
  isDeserted(withinMs: number): Promise<boolean> {
    return this.#audience.isDeserted(withinMs);
  }

  /** Ends the generation for this reason; what was released is charged. */
  stop(reason: InfernetError): void {
    this.#abort.abort(reason);
  }

  async #run(): Promise<StreamOutcome> {
    const { longestRequestSeconds } = this.#plan;
    const tooLong = new InfernetError("upstream-timeout", `the request ran ${longestRequestSeconds} s`);
    const timer = setTimeout(() => this.stop(tooLong), longestRequestSeconds * 1000);
    try {
      this.#outcome = await this.#generate().catch((error: unknown) => this.#fail(error));
      return this.#outcome;
    } finally {
      clearTimeout(timer);
      this.#abort.abort();
      this.#deps.seat.leave();
      this.#audience.end();
      this.#begun.resolve();
    }
  }

  async #generate(): Promise<StreamOutcome> {
    const { request, terms, meta } = this.#plan;
    const { signal } = this.#abort;
    const events = this.#deps.upstream.generate({
      path: meta.path,
      body: limitedBody(request, terms),
      signal,
    });
    for await (const batch of readBatches(events, signal, terms.chunkTokens)) {
      for (const event of batch) await this.#take(event);
      if (this.#metered.counted) continue;
      await this.#flush();
      this.#lookAhead();
    }
    signal.throwIfAborted();
    return { delivery: await this.#close() };
  }

  async #take(event: UpstreamEvent): Promise<void> {
    const { request, meta } = this.#plan;
    const next = meterEvent(this.#metered, event);
    // The final usage may cost more than is signed for: that is asked for when the stream closes.
    if (event.type === "usage" && event.final) await this.#flush();
    // An unstreamed request cannot ask while it runs: all that it may cost is signed for at its start.
    else if (request.stream) await this.#cover(next);
    this.#metered = next;
    if (event.type !== "chunk") return;
    if (request.stream) this.#outgoing.push(chunkPayload(event.chunk, meta));
    else this.#chunks.push(event.chunk);
  }

  /** Waits until what is metered next is signed for. Throws `receipt-timeout`. */
  async #cover(next: Metered): Promise<void> {
    const { terms, receiptTimeoutSeconds } = this.#plan;
    const { seat } = this.#deps;
    const cover = coverOf(next, terms);
    if (cover <= seat.covered()) return;
    await this.#flush();
    const ahead = nextCover(next, terms, seat.covered()) ?? cover;
    // An ask on its way that covers the next events is not raised: the requester may be signing it.
    if (await this.#await(seat.asked() >= cover ? cover : greatest(ahead, cover), cover)) return;
    throw new InfernetError("receipt-timeout", `no receipt came within ${receiptTimeoutSeconds} s`, {
      hint: "What was released is charged. Send a receipt of at least `need` sooner.",
    });
  }

  async #await(wanted: bigint, cover: bigint): Promise<boolean> {
    const { signal } = this.#abort;
    this.#ask(wanted);
    const timeoutMs = this.#plan.receiptTimeoutSeconds * 1000;
    const covered = await this.#deps.seat.waitFor(cover, timeoutMs, signal);
    signal.throwIfAborted();
    return covered;
  }

  /** While nobody listens nothing is asked for: what is signed then is for the requests that go on. */
  #attend(isPresent: boolean): void {
    this.#isAttended = isPresent;
    if (!isPresent) this.#deps.seat.withdraw();
    else if (this.#wanted > this.#deps.seat.covered()) this.#ask(this.#wanted);
  }

  #ask(cover: bigint): void {
    this.#wanted = greatest(this.#wanted, cover);
    if (!this.#isAttended) return;
    const need = this.#deps.seat.ask(cover);
    if (need === undefined) return;
    this.#need = { type: "need", need };
    this.#audience.tell(this.#need);
    this.#begun.resolve();
  }

  #lookAhead(): void {
    const { request, terms } = this.#plan;
    if (!request.stream) return;
    const more = nextCover(this.#metered, terms, this.#deps.seat.covered());
    if (more !== undefined) this.#ask(more);
  }

  /** Releases what waits, but nothing before the first token: until then the upstream may fail for free. */
  async #flush(): Promise<void> {
    if (this.#lastEventId === 0 && this.#metered.counts.completionTokens === 0) return;
    if (this.#outgoing.length === 0) return;
    await this.#release(this.#outgoing.splice(0), believableCounts(this.#metered, this.#plan.terms));
  }

  async #release(payloads: readonly string[], counts: TokenCounts): Promise<void> {
    await this.#record(payloads, counts);
    this.#publish(payloads);
    await this.#audience.pace(this.#abort.signal);
  }

  #record(payloads: readonly string[], counts: TokenCounts): Promise<void> {
    const { ledger, seat } = this.#deps;
    const { requestId, terms } = this.#plan;
    const covered = seat.covered();
    const hasChanged = covered !== this.#reserved;
    this.#reserved = covered;
    const reserved = hasChanged ? reservationOf(covered, counts, terms.prices) : undefined;
    return ledger.release(requestId, payloads, counts, reserved);
  }

  #publish(payloads: readonly string[]): void {
    const events = payloads.map((payload, index) => ({ id: this.#lastEventId + 1 + index, payload }));
    this.#lastEventId += payloads.length;
    this.#audience.publish(events);
    this.#begun.resolve();
  }

  async #close(): Promise<SignedDelivery> {
    const { requestId, request, meta } = this.#plan;
    const { counts, estimated } = await this.#finalCounts();
    const payloads = request.stream
      ? [...this.#outgoing, usagePayload(counts, meta), DONE_PAYLOAD]
      : [JSON.stringify(foldChunks(this.#chunks, counts, meta))];
    // Both are in one commit; each may leave only once it is durable.
    const recorded = this.#record(payloads, counts);
    const ended = this.#deps.ledger.endRequest(requestId, { counts, estimated, reason: "done" });
    const [delivery] = await Promise.all([ended, recorded]);
    this.#publish(payloads);
    this.#tellDelivery(delivery);
    return delivery;
  }

  #tellDelivery(delivery: SignedDelivery): void {
    this.#farewell = { type: "delivery", delivery };
    this.#audience.tell(this.#farewell);
  }

  /** What the whole request is charged: the upstream's final counts as far as they are believable and signed for. */
  async #finalCounts(): Promise<{ counts: TokenCounts; estimated: boolean }> {
    const { request, terms } = this.#plan;
    const { counts: told, counted } = this.#metered;
    const counts = believableCounts(this.#metered, this.#plan.terms);
    if (!counted && counts.promptTokens === 0) {
      counts.promptTokens = chargeablePromptTokens(terms.promptTextBytes);
    }
    const cost = costMillionths(counts, terms.prices);
    if (request.stream && cost > this.#deps.seat.covered()) await this.#await(cost, cost);
    const paid = coveredCounts(counts, terms.prices, this.#deps.seat.covered());
    const exact = paid.promptTokens === told.promptTokens && paid.completionTokens === told.completionTokens;
    return { counts: paid, estimated: !counted || !exact };
  }

  async #fail(error: unknown): Promise<StreamOutcome> {
    const { ledger, log } = this.#deps;
    const { requestId } = this.#plan;
    const known = error instanceof InfernetError;
    if (!known) log.error({ request: requestId, error }, "a paid request met a bug");
    const told = known
      ? error
      : new InfernetError("upstream-failed", "something went wrong on the node's side");
    this.#audience.tell({ type: "error", problem: problemOf(told) });
    try {
      if (this.#lastEventId === 0 && !this.#isOpened) {
        ledger.forgetRequest(requestId, told.code);
        return { failure: error };
      }
      const delivery = await ledger.endWithoutUsage(requestId, told.code);
      this.#tellDelivery(delivery);
      return { delivery };
    } catch (failure) {
      // The ledger cannot be written: the request ends at the next start, from what is durable.
      log.error({ request: requestId, error: failure }, "a paid request could not be ended");
      return { failure };
    }
  }
}

/** The request as the upstream gets it: with the limit that its prepayment was sized for. */
function limitedBody({ body, maxTokens }: GenerationRequest, terms: MeterTerms): Record<string, unknown> {
  return maxTokens === undefined && terms.maxTokens > 0 ? { ...body, max_tokens: terms.maxTokens } : body;
}
