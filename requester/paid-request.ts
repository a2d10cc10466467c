// Owns one job's request once the job is open: its answer is read and judged, its end is kept, its rest is called back.
import type { Chain } from "../chain/chain.ts";
import type { Hex } from "../protocol/bytes.ts";
import type { SignedDelivery } from "../protocol/delivery.ts";
import { InfernetError } from "../protocol/errors.ts";
import { singleRequestId } from "../protocol/job.ts";
import { decodeOffer, type Offer, type OfferedModel, offeredModel } from "../protocol/offer.ts";
import { costMillionths, formatUsdc } from "../protocol/price.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Log } from "../runtime/logger.ts";
import { followBlockTime, isDeepEnough } from "./block-time.ts";
import { type ReceiptDesk, SECONDS_PER_DAY } from "./budget.ts";
import { findDeliveryFault } from "./delivery-check.ts";
import type { RequesterLedger } from "./ledger.ts";
import type { LedgerJob } from "./ledger-rows.ts";
import { completionLimit, type ModelRequest } from "./model-request.ts";
import type { NodeClient } from "./node-client.ts";
import { type PaidAnswer, readPaidAnswer } from "./paid-answer.ts";
import { createPayment } from "./payment.ts";
import { clientOf, type Settlement } from "./settlement.ts";
import { firstReceiptAmount } from "./sizing.ts";
import type { Bill, SubmitEvent } from "./submission.ts";

export type PaidRequestDeps = {
  chain: Chain;
  ledger: RequesterLedger;
  desk: ReceiptDesk;
  settlement: Settlement;
  seed: Hex;
  log: Log;
  clock: Clock;
  /** How long to try to reach a node that went away, in milliseconds. */
  patienceMs: number;
};

/** What a caller wants of it; `settlementTimeoutMs` 0 does not wait for the chain. */
type Wish = { signal: AbortSignal; settlementTimeoutMs: number; emit(event: SubmitEvent): void };

type Paid = {
  job: LedgerJob;
  request: ModelRequest;
  requestId: Hex;
  offer: Offer;
  model: OfferedModel;
  /** The most completion tokens. */
  limit: number;
  client: NodeClient;
};

/**
 * Sends an open job's request and returns its bill. Whatever goes wrong, the job has ended in the ledger and its node
 * was asked to close it; throws the node's error, `node-misbehaved`, `over-budget` or `interrupted`.
 */
export async function payRequest(
  deps: PaidRequestDeps,
  job: LedgerJob,
  request: ModelRequest,
  wish: Wish,
): Promise<Bill> {
  const { offer } = decodeOffer(job.terms!.offerBytes);
  const paid: Paid = {
    job,
    request,
    requestId: singleRequestId(job.jobId, request.requestHash),
    offer,
    model: offeredModel(offer, request.model),
    limit: completionLimit(request, offer),
    client: clientOf(job, deps.seed),
  };
  try {
    startInLedger(deps, paid);
    const { answer, delivery } = await readJudged(deps, paid, wish);
    deps.ledger.transact(() => {
      deps.ledger.noteEnded(job.jobId, delivery);
      deps.ledger.requests.end(paid.requestId, delivery, deps.clock.nowSeconds());
    });
    wish.emit({ type: "delivered", delivery });
    await closeQuietly(deps, paid);
    if (answer.problem) throw partialAnswer(answer.problem, job.jobId, delivery);
    const settled = await awaitSettled(deps, job.jobId, wish);
    return billOf(deps.ledger.findJob(job.jobId)!, paid, answer, delivery, settled);
  } finally {
    await paid.client.close();
  }
}

/** Keeps the request before it leaves; one that has ended is only read again. */
function startInLedger(
  { ledger, clock }: PaidRequestDeps,
  { job, request, requestId, model, limit }: Paid,
): void {
  const { jobId } = job;
  if (ledger.requests.find(requestId)?.state === "ended") return;
  const createdAt = clock.nowSeconds();
  const counts = { promptTokens: request.promptTokenBound, completionTokens: limit };
  ledger.requests.start({
    ...{ requestId, jobId, idempotencyKey: null, bodyHash: request.requestHash, node: job.job.node },
    ...{ model: model.name, path: request.path, day: Math.floor(createdAt / SECONDS_PER_DAY), createdAt },
    ...{ promptBound: request.promptTokenBound, tokenLimit: limit, canCost: costMillionths(counts, model) },
  });
}

async function readJudged(
  deps: PaidRequestDeps,
  paid: Paid,
  wish: Wish,
): Promise<{ answer: PaidAnswer; delivery: SignedDelivery }> {
  try {
    const answer = await readAnswer(deps, paid, wish);
    const delivery = answer.delivery ?? (await fetchDelivery(paid));
    judge(deps, paid, delivery, answer);
    return { answer, delivery };
  } catch (error) {
    await endUnread(deps, paid, error);
    if (wish.signal.aborted) {
      throw new InfernetError("interrupted", "the request was interrupted", {
        hint: "Its node charges what it had released; the rest of the deposit comes back.",
        cause: error,
        data: { jobId: paid.job.jobId },
      });
    }
    throw error;
  }
}

async function readAnswer(deps: PaidRequestDeps, paid: Paid, { signal, emit }: Wish): Promise<PaidAnswer> {
  const { chain, ledger, desk, log, clock } = deps;
  const { job, request, requestId, offer, model, limit, client } = paid;
  const { jobId } = job;
  // Unstreamed, there is nothing to see before the end: all that the request allows is signed for at its start.
  const tokensAhead = (chunks: number) =>
    request.stream ? Math.min(chunks * offer.chunkTokens, limit) : limit;
  const aheadTokens = tokensAhead(ledger.hasHistory(job.job.node) ? 2 : 1);
  const openBlock = await chain.getBlock("latest");
  const now = await followBlockTime(chain, clock);
  return readPaidAnswer({
    client,
    requestId,
    request,
    payment: (arrived) =>
      createPayment({
        ...{ client, desk, arrived, now, emit },
        terms: {
          jobId,
          exposure: {
            prices: model,
            openingFee: job.openingFee,
            promptTokens: request.promptTokenBound,
            aheadTokens,
            maxTokens: limit,
            stepTokens: Math.ceil(offer.chunkTokens / 2),
          },
          firstNeed: firstReceiptAmount(request, model, aheadTokens, job.openingFee),
          admissionTokens: tokensAhead(2),
        },
        warn: (message, error) => log.warn({ job: jobId, error: String(error) }, message),
      }),
    isConfirmed: () => isDeepEnough(chain, job.deposit, openBlock.number),
    patienceMs: deps.patienceMs,
    signal,
    // The node ends its longest request by itself, waiting for a receipt in between at most so long.
    longestMs: (offer.longestRequestSeconds + 2 * offer.receiptTimeoutSeconds) * 1000,
    emit,
  });
}

/** The delivery of an answer that came without one, as the node's job document shows it. */
async function fetchDelivery({ client, requestId }: Paid): Promise<SignedDelivery> {
  const { requests } = await client.getJob(requestId);
  const delivery = requests.find((request) => request.requestId === requestId)?.delivery;
  if (delivery) return delivery;
  throw new InfernetError("node-misbehaved", "the node signs no delivery for its answer");
}

/** Throws `node-misbehaved` for a false delivery, after keeping it as evidence. */
function judge(deps: PaidRequestDeps, paid: Paid, delivery: SignedDelivery, { arrived }: PaidAnswer): void {
  const fault = faultOf(deps, paid, delivery, arrived);
  if (fault === undefined) return;
  const { jobId } = paid.job;
  const evidence = { reason: fault, delivery, arrived: { ...arrived, text: undefined } };
  deps.ledger.noteEvidence(jobId, evidence);
  deps.ledger.requests.noteEvidence(paid.requestId, evidence);
  throw new InfernetError("node-misbehaved", fault, {
    hint: "Nothing more is signed for this job; the evidence is kept in the ledger. Choose another node.",
    data: { jobId },
  });
}

function faultOf(
  { chain, ledger }: PaidRequestDeps,
  { job, requestId, model, request }: Paid,
  delivery: SignedDelivery,
  received: PaidAnswer["arrived"] | null,
): string | undefined {
  const { jobId } = job;
  return findDeliveryFault(delivery, {
    domain: chain.domain,
    node: job.job.node,
    jobId,
    requestId,
    modelDigest: model.digest,
    prices: model,
    openingFee: job.openingFee,
    promptTokenBound: request.promptTokenBound,
    received,
    signed: ledger.findJob(jobId)!.signed,
  });
}

/** Ends a job whose answer was not read to a good end; a delivery of what was released is kept if the node shows one. */
async function endUnread(deps: PaidRequestDeps, paid: Paid, error: unknown): Promise<void> {
  const { ledger } = deps;
  const { jobId } = paid.job;
  const hasLied = error instanceof InfernetError && error.code === "node-misbehaved";
  if (hasLied) ledger.noteEvidence(jobId, { reason: error.message });
  const now = deps.clock.nowSeconds();
  ledger.requests.lose(paid.requestId, now);
  if (!["open", "streaming"].includes(ledger.findJob(jobId)!.phase)) return;
  ledger.noteEnded(jobId, null);
  const document = await closeQuietly(deps, paid);
  const delivery = document?.requests.find(({ requestId }) => requestId === paid.requestId)?.delivery;
  if (!delivery || hasLied || faultOf(deps, paid, delivery, null) !== undefined) return;
  ledger.transact(() => {
    ledger.noteEnded(jobId, delivery);
    ledger.requests.end(paid.requestId, delivery, now);
  });
}

/** Asks the node to close the job; when it cannot be asked, its own settlement or the deadline does it later. */
async function closeQuietly({ log }: PaidRequestDeps, { job, client }: Paid) {
  try {
    return await client.closeJob();
  } catch (error) {
    if (!(error instanceof InfernetError)) throw error;
    log.warn({ job: job.jobId, code: error.code }, `the node did not close the job: ${error.message}`);
  }
}

/** The error of an answer that ended early: what was released of it is delivered and charged. */
function partialAnswer(problem: InfernetError, jobId: Hex, { jobCharge }: SignedDelivery): InfernetError {
  const { code, message, hint, data } = problem;
  return new InfernetError(code, `${message} (the answer so far costs ${formatUsdc(jobCharge)} USDC)`, {
    hint,
    cause: problem,
    data: { ...data, jobId, charge: jobCharge.toString() },
  });
}

async function awaitSettled(
  { settlement }: PaidRequestDeps,
  jobId: Hex,
  { signal, settlementTimeoutMs, emit }: Wish,
): Promise<Bill["settled"]> {
  if (settlementTimeoutMs === 0) return null;
  const closed = await settlement.awaitClosed(jobId, { timeoutMs: settlementTimeoutMs, signal });
  if (!closed) return null;
  const charge = closed.claimed ?? 0n;
  const settled = { charge, returned: closed.deposit - charge };
  emit({ type: "settled", ...settled });
  return settled;
}

function billOf(
  job: LedgerJob,
  { model }: Paid,
  { arrived, firstTokenMs }: PaidAnswer,
  { promptTokens, completionTokens, estimated, jobCharge }: SignedDelivery,
  settled: Bill["settled"],
): Bill {
  const { jobId, deposit, signed, openTx, openGas } = job;
  const { text, finishReason } = arrived;
  return {
    ...{ jobId, node: job.job.node, model: model.name },
    ...{ promptTokens, completionTokens, estimated },
    ...{ charge: jobCharge, deposit, signed },
    ...{ openTx, openGas, settled },
    ...{ text, finishReason, firstTokenMs },
  };
}
