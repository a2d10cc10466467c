// Owns the way of a paid request to its model: known or new, funded, signed for, admitted, and never run twice.
import { timingSafeEqual } from "node:crypto";
import { type Hex, isHex } from "../protocol/bytes.ts";
import { InfernetError } from "../protocol/errors.ts";
import { checkFeatures, featuresOf } from "../protocol/features.ts";
import { checkTerms } from "../protocol/funding.ts";
import {
  type JobTerms,
  jobHashOf,
  requestHashOf,
  SESSION_REQUEST_HASH,
  sessionRequestId,
  singleRequestId,
} from "../protocol/job.ts";
import { type Offer, offeredModel } from "../protocol/offer.ts";
import { type GenerationRequest, readGenerationRequest } from "../protocol/openai-request.ts";
import { roundCharge } from "../protocol/price.ts";
import { promptTokenBound } from "../protocol/prompt.ts";
import { HEADERS, type ModelPath, readJobHeaders, readTermsHeaders } from "../protocol/wire.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Log } from "../runtime/logger.ts";
import type { Admission, Seat } from "./admission.ts";
import type { Dispatcher, Lease } from "./dispatch.ts";
import type { JobLedger } from "./job-ledger.ts";
import type { LedgerJob, LedgerRequest } from "./ledger-rows.ts";
import { firstCover, type MeterTerms } from "./metering.ts";
import type { Offers } from "./offers.ts";
import { PaidStream } from "./paid-stream.ts";
import type { ReceiptDesk } from "./receipts.ts";

export type RequestHeaders = Readonly<Record<string, string | string[] | undefined>>;

export type PaidRequestDependencies = {
  ledger: JobLedger;
  ensureFunded(jobId: Hex, terms: JobTerms, offer: Offer): Promise<LedgerJob>;
  /** The job as the chain shows it now; undefined while it shows none. */
  findOpened(jobId: Hex): Promise<LedgerJob | undefined>;
  offers: Pick<Offers, "byHash">;
  receipts: ReceiptDesk;
  admission: Admission;
  dispatcher: Pick<Dispatcher, "acquire">;
  clock: Clock;
  log: Log;
  /** Milliseconds that a request outlives its last listener. */
  patienceMs: number;
};

/** A request that runs, or one that has ended and is replayed from the ledger. */
export type FoundRequest = { requestId: Hex; stream: boolean; running: PaidStream | undefined };

type Incoming = {
  path: ModelPath;
  jobId: Hex;
  requestId: Hex;
  terms: JobTerms;
  bytesHash: Hex;
  request: GenerationRequest;
  receipt: string | undefined;
};

/** A request on its way to its model; `abandon` gives it up when nobody waits for its start any more. */
type Start = { stream: Promise<PaidStream>; waiting: number; abandon: AbortController };

/** A listener's broken connection may be noticed a little after the request that follows it on another one. */
const LEAVING_MS = 500;
const IDEMPOTENCY_KEY = /^[A-Za-z0-9_-]{1,64}$/;

export class PaidRequests {
  readonly #deps: PaidRequestDependencies;
  /** Requests that start or run: a second copy waits for the first instead of running. */
  readonly #running = new Map<Hex, Start>();

  constructor(deps: PaidRequestDependencies) {
    this.#deps = deps;
  }

  /**
   * Finds or starts the request of these headers and bytes. Throws every refusal of DESIGN section 3; none is charged.
   * The signal says that who asked is gone: a request that waits for its model then gives up its place.
   */
  async open(
    path: ModelPath,
    headers: RequestHeaders,
    body: Uint8Array,
    signal?: AbortSignal,
  ): Promise<FoundRequest> {
    const incoming = readIncoming(path, headers, body);
    const { requestId, request } = incoming;
    const { stream } = request;
    for (let start = this.#running.get(requestId); start; start = this.#running.get(requestId)) {
      const running = await untilStarted(start, signal).catch((error: unknown) => {
        // Everybody else gave it up before it began: this one starts it anew.
        if (start?.abandon.signal.aborted && !signal?.aborted) return undefined;
        throw error;
      });
      if (!running) continue;
      this.#checkSame(incoming, this.#deps.ledger.findRequest(requestId));
      await this.#acceptReceipt(incoming);
      return { requestId, stream, running };
    }
    const known = this.#deps.ledger.findRequest(requestId);
    if (known) {
      this.#checkSame(incoming, known);
      if (known.status === "ended") return { requestId, stream, running: undefined };
      throw new InfernetError("request-in-progress", "this request is about to be ended after a restart", {
        hint: "Send it again in a moment.",
      });
    }
    return { requestId, stream, running: await untilStarted(this.#startOnce(incoming), signal) };
  }

  /** The job that this salt opens. Throws `job-not-found` for an unknown job, and for a wrong salt just the same. */
  jobOf(jobId: unknown, salt: unknown): LedgerJob {
    const job = typeof jobId === "string" ? this.#deps.ledger.findJob(jobId as Hex) : undefined;
    if (job?.salt && isSameSecret(job.salt, salt)) return job;
    throw noSuchJob();
  }

  /**
   * The job that may be closed by who sends these headers: its salt or, before its first request, the terms that open
   * its hash, which are remembered. Throws `job-not-found`.
   */
  async jobToClose(jobId: unknown, headers: RequestHeaders): Promise<LedgerJob> {
    const salt = headers[HEADERS.salt];
    const terms = readTermsHeaders(headers);
    if (!terms || !isHex(jobId, 32)) return this.jobOf(jobId, salt);
    const job = this.#deps.ledger.findJob(jobId) ?? (await this.#deps.findOpened(jobId));
    if (!job || job.salt || jobHashOf(terms) !== job.job.jobHash) return this.jobOf(jobId, salt);
    this.#deps.ledger.bindTerms(jobId, terms);
    return this.jobOf(jobId, salt);
  }

  /** Ends the running requests of a job that nobody listens to any more, without waiting for their requester's return. */
  async endDeserted(jobId: Hex): Promise<void> {
    const running = this.#deps.ledger.latestRequests(jobId, 0);
    const starts = running.flatMap(({ requestId }) => this.#running.get(requestId)?.stream ?? []);
    const reason = new InfernetError("interrupted", "the requester closed the job");
    const streams = await Promise.all(starts);
    await Promise.all(
      streams.map(async (stream) => {
        if (await stream.isDeserted(LEAVING_MS)) await endAll([stream], reason);
      }),
    );
  }

  /** Ends every running request for this reason, charging what was released; resolves when all have ended. */
  async stop(reason: InfernetError): Promise<void> {
    const starts = await Promise.allSettled([...this.#running.values()].map(({ stream }) => stream));
    const streams = starts.flatMap((start) => (start.status === "fulfilled" ? [start.value] : []));
    await endAll(streams, reason);
  }

  #startOnce(incoming: Incoming): Start {
    const { requestId } = incoming;
    const abandon = new AbortController();
    const start: Start = { stream: this.#start(incoming, abandon.signal), waiting: 0, abandon };
    this.#running.set(requestId, start);
    const forget = () => this.#running.delete(requestId);
    start.stream.then((stream) => stream.ended.then(forget), forget);
    return start;
  }

  async #start(incoming: Incoming, signal: AbortSignal): Promise<PaidStream> {
    const { ledger, admission } = this.#deps;
    const { jobId, terms, request, path } = incoming;
    const offer = this.#offerOf(terms.offerHash);
    const model = offeredModel(offer, request.model);
    checkFeatures(model, featuresOf(path, request.body));
    const meterTerms = meterTermsOf(incoming, offer);
    this.#checkSalt(incoming);
    const { job } = await this.#deps.ensureFunded(jobId, terms, offer);
    ledger.bindTerms(jobId, terms);
    await this.#acceptReceipt(incoming);
    // Only who has signed for it waits for a place; the ledger knows nothing of it until its model may run.
    const seat = admission.admit(ledger.findJob(jobId)!, firstCover(meterTerms, request.stream));
    let lease: Lease | undefined;
    try {
      const { name, digest } = model;
      lease = await this.#deps.dispatcher.acquire({ requester: job.requester, model: name, digest, signal });
      // The job may have been closed, or have come near its deadline, while the request waited.
      await this.#deps.ensureFunded(jobId, terms, offer);
      return await this.#run(incoming, offer, meterTerms, seat, lease);
    } catch (error) {
      lease?.release();
      seat.leave();
      throw error;
    }
  }

  async #run(
    incoming: Incoming,
    offer: Offer,
    terms: MeterTerms,
    seat: Seat,
    lease: Lease,
  ): Promise<PaidStream> {
    const { ledger, log, clock, patienceMs } = this.#deps;
    const { jobId, requestId, request, path } = incoming;
    const { name, digest } = offeredModel(offer, request.model);
    await ledger.startRequest({
      requestId,
      jobId,
      requestHash: incoming.bytesHash,
      model: name,
      modelDigest: digest,
      path,
      prices: terms.prices,
      promptTextBytes: request.promptTextBytes,
      reserved: roundCharge(seat.covered()),
    });
    const { receiptTimeoutSeconds, longestRequestSeconds } = offer;
    const meta = { path, id: answerId(path, requestId), created: clock.nowSeconds(), model: name };
    const stream = new PaidStream(
      { requestId, request, terms, meta, receiptTimeoutSeconds, longestRequestSeconds, patienceMs },
      { upstream: lease.upstream, ledger, seat, log },
    );
    void stream.ended.then(lease.release);
    return stream;
  }

  #offerOf(offerHash: Hex): Offer {
    const signed = this.#deps.offers.byHash(offerHash);
    if (signed) return signed.offer;
    throw new InfernetError(
      "job-not-funded",
      "this node does not know the offer that the job was opened under",
      {
        hint: "The deposit can be refunded: infernet job refund.",
      },
    );
  }

  /** A job whose salt is known exists only for those who bring it. */
  #checkSalt({ jobId, terms }: Incoming): LedgerJob | undefined {
    const job = this.#deps.ledger.findJob(jobId);
    if (job?.salt && !isSameSecret(job.salt, terms.salt)) throw noSuchJob();
    return job;
  }

  /** Throws unless this is the known request again, by somebody who has the job's salt. */
  #checkSame(incoming: Incoming, known: LedgerRequest | undefined): void {
    const job = this.#checkSalt(incoming);
    if (job) checkTerms(job.job, incoming.terms);
    if (!known || known.requestHash === incoming.bytesHash) return;
    throw new InfernetError("request-mismatch", "another request of this job has the same Idempotency-Key", {
      hint: "Send the same bytes again, or a new key.",
    });
  }

  async #acceptReceipt({ jobId, receipt }: Incoming): Promise<void> {
    if (receipt === undefined) return;
    const job = this.#deps.ledger.findJob(jobId);
    if (job) await this.#deps.receipts.accept(job, receipt);
  }
}

/** The stream of a start, for one of those who wait for it. */
async function untilStarted(start: Start, signal: AbortSignal | undefined): Promise<PaidStream> {
  const leave = () => {
    start.waiting -= 1;
    if (start.waiting === 0) start.abandon.abort(new InfernetError("interrupted", "the requester went away"));
  };
  start.waiting += 1;
  if (signal?.aborted) leave();
  else signal?.addEventListener("abort", leave, { once: true });
  try {
    return await start.stream;
  } finally {
    signal?.removeEventListener("abort", leave);
  }
}

async function endAll(streams: readonly PaidStream[], reason: InfernetError): Promise<void> {
  for (const stream of streams) stream.stop(reason);
  await Promise.all(streams.map((stream) => stream.ended));
}

function readIncoming(path: ModelPath, headers: RequestHeaders, body: Uint8Array): Incoming {
  const { jobId, salt, offerHash } = readJobHeaders(headers);
  const request = readGenerationRequest(path, body);
  const bytesHash = requestHashOf(path, body);
  const key = headers[HEADERS.idempotencyKey];
  const receipt = headers[HEADERS.receipt];
  const common = { path, jobId, bytesHash, request, receipt: receipt?.toString() };
  if (key === undefined) {
    const terms = { salt, offerHash, requestHash: bytesHash };
    return { ...common, terms, requestId: singleRequestId(jobId, bytesHash) };
  }
  if (typeof key !== "string" || !IDEMPOTENCY_KEY.test(key)) {
    throw new InfernetError("bad-request", "Idempotency-Key must be 1 to 64 letters, digits, - or _");
  }
  const terms = { salt, offerHash, requestHash: SESSION_REQUEST_HASH };
  return { ...common, terms, requestId: sessionRequestId(jobId, key) };
}

function meterTermsOf({ path, request }: Incoming, offer: Offer): MeterTerms {
  const { inputPrice, outputPrice } = offeredModel(offer, request.model);
  return {
    prices: { inputPrice, outputPrice },
    chunkTokens: offer.chunkTokens,
    maxTokens: path === "/v1/embeddings" ? 0 : completionLimit(request, offer),
    promptTextBytes: request.promptTextBytes,
    promptTokenBound: promptTokenBound(request.body),
  };
}

function completionLimit({ maxTokens }: GenerationRequest, { maxCompletionTokens }: Offer): number {
  if (maxTokens === undefined || maxTokens <= maxCompletionTokens) return maxTokens ?? maxCompletionTokens;
  throw new InfernetError("bad-request", `max_tokens is above the offer's ${maxCompletionTokens}`);
}

const ID_PREFIXES = {
  "/v1/chat/completions": "chatcmpl-",
  "/v1/completions": "cmpl-",
  "/v1/embeddings": "embd-",
} as const satisfies Record<ModelPath, string>;

function answerId(path: ModelPath, requestId: Hex): string {
  return `${ID_PREFIXES[path]}${requestId.slice(2, 34)}`;
}

function isSameSecret(secret: Hex, shown: unknown): boolean {
  const shownBytes = Buffer.from(typeof shown === "string" ? shown : "");
  const secretBytes = Buffer.from(secret);
  return shownBytes.length === secretBytes.length && timingSafeEqual(secretBytes, shownBytes);
}

function noSuchJob(): InfernetError {
  return new InfernetError("job-not-found", "no such job, or not with this salt", {
    hint: "Send the job's Infernet-Salt; a job is known here once its first request was accepted.",
  });
}
