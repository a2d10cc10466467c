// Owns one request of a session on its way: the answer read and paid for, its delivery judged, its bill.
import type { Chain } from "../../chain/chain.ts";
import type { Hex } from "../../protocol/bytes.ts";
import type { SignedDelivery } from "../../protocol/delivery.ts";
import { InfernetError } from "../../protocol/errors.ts";
import { type Offer, type OfferedModel, offeredModel } from "../../protocol/offer.ts";
import { costMillionths, formatUsdc, roundCharge } from "../../protocol/price.ts";
import type { Clock } from "../../runtime/clock.ts";
import type { Log } from "../../runtime/logger.ts";
import type { Arrived } from "../answer-reader.ts";
import { isDeepEnough } from "../block-time.ts";
import type { ReceiptDesk } from "../budget.ts";
import { findDeliveryFault } from "../delivery-check.ts";
import type { RequesterLedger } from "../ledger.ts";
import type { LedgerJob } from "../ledger-rows.ts";
import { completionLimit, type ModelRequest } from "../model-request.ts";
import type { NodeClient } from "../node-client.ts";
import { type PaidAnswer, readPaidAnswer } from "../paid-answer.ts";
import type { Payment } from "../payment.ts";
import type { LedgerRequest } from "../request-ledger.ts";
import { readReplay } from "../result.ts";
import type { AnswerEvent } from "../submission.ts";
import type { SessionBill } from "./session-request.ts";

export type SessionDeps = {
  chain: Chain;
  ledger: RequesterLedger;
  desk: ReceiptDesk;
  seed: Hex;
  log: Log;
  clock: Clock;
  /** How long to try to reach a node that went away, in milliseconds. */
  patienceMs: number;
  /** Block time now, in Unix seconds. */
  now(): number;
};

/** An open session and the way to its node. */
export type SessionScene = SessionDeps & {
  job: LedgerJob;
  offer: Offer;
  client: NodeClient;
  /** The chain's latest block when the session was seen open. */
  openBlock: number;
};

/** A request as a session takes it. */
export type Order = {
  request: ModelRequest;
  idempotencyKey: string;
  /** The most that it may cost by its caller's limits, in base units. */
  most: bigint;
  /** Millionths that a run before signed for it. */
  resumed?: bigint;
  patienceMs?: number | undefined;
  signal: AbortSignal;
  emit(event: AnswerEvent): void;
};

/** A request that has its place in the session's account. */
export type PlacedOrder = {
  order: Order;
  requestId: Hex;
  model: OfferedModel;
  payment(arrived: () => Arrived): Payment;
};

/**
 * What a request may cost to its end in millionths, what is kept free for that in base units, and whether a limit of its
 * caller's is below it.
 */
export type Size = { canCost: bigint; reserve: bigint; isBound: boolean };

/** The size of a request under an offer. Throws `bad-request` above the offer's limit. */
export function sizeOf(request: ModelRequest, model: OfferedModel, offer: Offer, most: bigint): Size {
  const completionTokens = completionLimit(request, offer);
  const canCost = costMillionths({ promptTokens: request.promptTokenBound, completionTokens }, model);
  const whole = roundCharge(canCost);
  return { canCost, reserve: whole < most ? whole : most, isBound: whole > most };
}

/** Reads a request's answer and its delivery. Throws the node's error, `node-misbehaved`, or the signal's reason. */
export async function readSessionAnswer(
  scene: SessionScene,
  { order, requestId, payment }: PlacedOrder,
  signal: AbortSignal,
): Promise<{ answer: PaidAnswer; delivery: SignedDelivery }> {
  const { client, chain, job, offer, openBlock } = scene;
  const { request, idempotencyKey, emit, patienceMs = scene.patienceMs } = order;
  const answer = await readPaidAnswer({
    ...{ requestId, request, payment, patienceMs, signal, emit },
    client: { ask: (asked, paid) => client.ask(asked, { ...paid, idempotencyKey }) },
    isConfirmed: () => isDeepEnough(chain, job.deposit, openBlock),
    longestMs: (offer.longestRequestSeconds + 2 * offer.receiptTimeoutSeconds) * 1000,
  });
  if (answer.delivery) return { answer, delivery: answer.delivery };
  const { requests } = await client.getJob(requestId);
  const delivery = requests.find((told) => told.requestId === requestId)?.delivery;
  if (delivery) return { answer, delivery };
  throw new InfernetError("node-misbehaved", "the node signs no delivery for its answer");
}

/** Why a delivery is false, or undefined; `received` is null for an answer that was not read to its end. */
export function findSessionFault(
  { ledger, chain, job, offer }: SessionScene,
  { requestId, model, promptBound }: { requestId: Hex; model: string; promptBound: number },
  delivery: SignedDelivery,
  received: Pick<Arrived, "transcript" | "textBytes"> | null,
): string | undefined {
  const { jobId } = job;
  const { signed, settled, openingFee } = ledger.findJob(jobId)!;
  const others = ledger.requests.openCostOf(jobId, requestId);
  const prices = offeredModel(offer, model);
  return findDeliveryFault(delivery, {
    ...{ domain: chain.domain, node: job.job.node, jobId, requestId, modelDigest: prices.digest },
    ...{ prices, openingFee, promptTokenBound: promptBound, received, signed },
    sessionCharge: openingFee + roundCharge(settled + others + delivery.cost),
  });
}

/** An ended request's answer once more, at no new charge. Throws `not-found` when its node keeps it no more. */
export async function replayAnswer(
  { client, offer }: SessionScene,
  { requestId, model, delivery: kept }: LedgerRequest,
  isStream: boolean,
  emit: (event: AnswerEvent) => void,
): Promise<SessionBill> {
  const startedAt = performance.now();
  let firstTokenMs = 0;
  let payload: string | undefined;
  const { arrived, delivery } = await readReplay(client, requestId, (data, text) => {
    payload = data;
    emit({ type: "payload", payload: data });
    if (text === "") return;
    firstTokenMs ||= performance.now() - startedAt;
    emit({ type: "text", text });
  });
  if (arrived.transcript !== (kept ?? delivery).transcript)
    throw new InfernetError("node-misbehaved", "the node's replay is not the answer that it delivered");
  const wholeMs = performance.now() - startedAt;
  const answer = { arrived, firstTokenMs, wholeMs };
  return billOf({ node: offer.node, model, isStream, payload }, answer, kept ?? delivery);
}

export function billOf(
  { node, model, isStream, payload }: Pick<SessionBill, "node" | "model" | "payload"> & { isStream: boolean },
  { arrived, firstTokenMs, wholeMs }: Pick<PaidAnswer, "arrived" | "firstTokenMs" | "wholeMs">,
  { jobId, requestId, promptTokens, completionTokens, estimated, cost }: SignedDelivery,
): SessionBill {
  const { text, finishReason } = arrived;
  const seconds = Math.max(isStream ? wholeMs - firstTokenMs : wholeMs, 1) / 1000;
  return {
    ...{ jobId, requestId, node, model, promptTokens, completionTokens, estimated },
    ...{ costMillionths: cost, charge: roundCharge(cost), text, finishReason },
    ...{ firstTokenMs, tokensPerSecond: completionTokens / seconds },
    ...(isStream ? {} : { payload }),
  };
}

/** The error of an answer that ended early: what was released of it is delivered and charged. */
export function partialAnswer(problem: InfernetError, jobId: Hex, { cost }: SignedDelivery): InfernetError {
  const { code, message, hint, data } = problem;
  const charge = roundCharge(cost);
  return new InfernetError(code, `${message} (the answer so far costs ${formatUsdc(charge)} USDC)`, {
    hint,
    cause: problem,
    data: { ...data, jobId, charge: charge.toString(), costMillionths: cost.toString() },
  });
}
