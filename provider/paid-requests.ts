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
import type { Admission } from "./admission.ts";
import type { JobLedger } from "./job-ledger.ts";
import type { LedgerJob, LedgerRequest } from "./ledger-rows.ts";
import { firstCover, type MeterTerms } from "./metering.ts";
import type { Offers } from "./offers.ts";
import { PaidStream } from "./paid-stream.ts";
import type { ReceiptDesk } from "./receipts.ts";
import type { Upstream } from "./upstreams/upstream.ts";

export type RequestHeaders = Readonly<Record<string, string | string[] | undefined>>;

export type PaidRequestDependencies = {
  ledger: JobLedger;
  ensureFunded(jobId: Hex, terms: JobTerms, offer: Offer): Promise<LedgerJob>;
  /** The job as the chain shows it now; undefined while it shows none. */
  findOpened(jobId: Hex): Promise<LedgerJob | undefined>;
  offers: Pick<Offers, "byHash">;
  receipts: ReceiptDesk;
  admission: Admission;
  upstream: Upstream;
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

/** A listener's broken connection may be noticed a little after the request that follows it on another one. */
const LEAVING_MS = 500;
const IDEMPOTENCY_KEY = /^[A-Za-z0-9_-]{1,64}$/;

export class PaidRequests {
  readonly #deps: PaidRequestDependencies;
  /** Requests that start or run: a second copy waits for the first instead of running. */
  readonly #running = new Map<Hex, Promise<PaidStream>>();

  constructor(deps: PaidRequestDependencies) {
    this.#deps = deps;
  }

  /** Finds or starts the request of these headers and bytes. Throws every refusal of DESIGN section 3; none is charged. */
  async open(path: ModelPath, headers: RequestHeaders, body: Uint8Array): Promise<FoundRequest> {
    const incoming = readIncoming(path, headers, body);
    const { requestId, request } = incoming;
    const { stream } = request;
    const starting = this.#running.get(requestId);
    if (starting) {
      const running = await starting;
      this.#checkSame(incoming, this.#deps.ledger.findRequest(requestId));
      this.#acceptReceipt(incoming);
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
    return { requestId, stream, running: await this.#startOnce(incoming) };
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
    const starts = running.flatMap(({ requestId }) => this.#running.get(requestId) ?? []);
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
    const starts = await Promise.allSettled(this.#running.values());
    const streams = starts.flatMap((start) => (start.status === "fulfilled" ? [start.value] : []));
    await endAll(streams, reason);
  }

  #startOnce(incoming: Incoming): Promise<PaidStream> {
    const { requestId } = incoming;
    const start = this.#start(incoming);
    this.#running.set(requestId, start);
    const forget = () => this.#running.delete(requestId);
    start.then((stream) => stream.ended.then(forget), forget);
    return start;
  }

  async #start(incoming: Incoming): Promise<PaidStream> {
    const { ledger, admission, upstream, log } = this.#deps;
    const { jobId, requestId, terms, request, path } = incoming;
    const offer = this.#offerOf(terms.offerHash);
    const model = offeredModel(offer, request.model);
    checkFeatures(model, featuresOf(path, request.body));
    const meterTerms = meterTermsOf(incoming, offer);
    this.#checkSalt(incoming);
    await this.#deps.ensureFunded(jobId, terms, offer);
    ledger.bindTerms(jobId, terms);
    this.#acceptReceipt(incoming);
    const cover = firstCover(meterTerms, request.stream);
    const seat = admission.admit(ledger.findJob(jobId)!, cover);
    try {
      ledger.startRequest({
        requestId,
        jobId,
        requestHash: incoming.bytesHash,
        model: model.name,
        modelDigest: model.digest,
        path,
        prices: meterTerms.prices,
        promptTextBytes: request.promptTextBytes,
        reserved: roundCharge(cover),
      });
    } catch (error) {
      seat.leave();
      throw error;
    }
    const { receiptTimeoutSeconds, longestRequestSeconds } = offer;
    const meta = {
      path,
      id: answerId(path, requestId),
      created: this.#deps.clock.nowSeconds(),
      model: model.name,
    };
    return new PaidStream(
      {
        requestId,
        request,
        terms: meterTerms,
        meta,
        receiptTimeoutSeconds,
        longestRequestSeconds,
        patienceMs: this.#deps.patienceMs,
      },
      { upstream, ledger, seat, log },
    );
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

  #acceptReceipt({ jobId, receipt }: Incoming): void {
    if (receipt === undefined) return;
    const job = this.#deps.ledger.findJob(jobId);
    if (job) this.#deps.receipts.accept(job, receipt);
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
