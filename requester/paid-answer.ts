// Owns one paid answer: asking the node, reading what comes, signing as it comes, and going on after a broken line.
import { setTimeout as delay } from "node:timers/promises";
import type { Hex } from "../protocol/bytes.ts";
import { ZERO_WORD } from "../protocol/bytes.ts";
import type { SignedDelivery } from "../protocol/delivery.ts";
import { InfernetError } from "../protocol/errors.ts";
import type { Receipt } from "../protocol/receipt.ts";
import { parseJsonWith } from "../protocol/schema.ts";
import { INFERNET_EVENT, infernetEventSchema } from "../protocol/wire.ts";
import type { SseEvent } from "../runtime/sse.ts";
import { type Arrived, createAnswerReader } from "./answer-reader.ts";
import type { Exposure, ReceiptDesk } from "./budget.ts";
import type { ModelRequest } from "./model-request.ts";
import { errorOfEvent, type NodeAnswer, type NodeClient } from "./node-client.ts";
import { createReceiptPost } from "./receipt-post.ts";
import type { AnswerEvent } from "./submission.ts";

export type PaidAnswer = {
  arrived: Arrived;
  delivery: SignedDelivery | undefined;
  /** Why the answer is not whole: the node's word, or the requester's own limit. */
  problem: InfernetError | undefined;
  firstTokenMs: number;
};

export type AnswerTerms = {
  jobId: Hex;
  requestId: Hex;
  request: ModelRequest;
  /** All but what arrived. */
  exposure: Omit<Exposure, "arrivedTokens">;
  /** The receipt that the request starts with. */
  firstNeed: bigint;
  /** Completion tokens ahead that a node may insist on before it starts: two chunks, as the law has it. */
  admissionTokens: number;
};

type AnswerDeps = {
  client: NodeClient;
  desk: ReceiptDesk;
  terms: AnswerTerms;
  /** Block time now, in Unix seconds. */
  now(): number;
  /** Whether the chain as seen from here is far enough for the node to serve the job. */
  isConfirmed(): Promise<boolean>;
  /** How long to try again without anything new coming. */
  patienceMs: number;
  signal: AbortSignal;
  /** From the first answer of the node to the end. */
  longestMs: number;
  emit(event: AnswerEvent): void;
  warn(message: string, error: unknown): void;
};

/** Refusals of a first receipt as too small that are answered by a higher one. */
const MOST_SHORT_RECEIPTS = 2;
/** How OpenAI's form ends a stream. */
const DONE_PAYLOAD = "[DONE]";
const FIRST_DELAY_MS = 200;
const LONGEST_DELAY_MS = 5_000;
/** How long a node may lag behind the chain as seen from here, and how long that may take to confirm a job. */
const FOLLOW_GRACE_MS = 30_000;
const CONFIRMATION_LIMIT_MS = 1_800_000;

/**
 * Reads the whole answer of a request, once for all connections it takes. Throws the node's error, `node-misbehaved`,
 * or the signal's reason.
 */
export async function readPaidAnswer(deps: AnswerDeps): Promise<PaidAnswer> {
  const late = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  const onAnswer = () => {
    timer ??= setTimeout(() => late.abort(tooLate(deps.longestMs)), deps.longestMs);
  };
  try {
    return await readToEnd({ ...deps, signal: AbortSignal.any([deps.signal, late.signal]) }, onAnswer);
  } finally {
    clearTimeout(timer);
  }
}

function tooLate(longestMs: number): InfernetError {
  return new InfernetError("upstream-timeout", `the answer did not end within ${longestMs / 1000} s`, {
    hint: "The node's offer allows no longer requests: ask for fewer tokens, or choose another node.",
  });
}

async function readToEnd(deps: AnswerDeps, onAnswer: () => void): Promise<PaidAnswer> {
  const { client, terms, signal, emit } = deps;
  const reader = createAnswerReader(terms.requestId);
  const pay = createPayment(deps, () => reader.snapshot());
  const startedAt = performance.now();
  let firstTokenMs = 0;
  let isWhole = false;
  let problem: InfernetError | undefined;

  const takePayload = (id: string | undefined, payload: string) => {
    const { text, finishReason } = reader.accept(id, payload);
    isWhole ||= finishReason !== undefined || payload === DONE_PAYLOAD;
    emit({ type: "payload", payload });
    if (text === "") return;
    firstTokenMs ||= performance.now() - startedAt;
    emit({ type: "text", text });
  };
  /** Takes one event of a stream; returns the delivery that ends it. */
  const takeEvent = ({ id, event, data }: SseEvent): SignedDelivery | undefined => {
    if (event !== INFERNET_EVENT) takePayload(id, data);
    else {
      const told = parseJsonWith(infernetEventSchema, data, "node-misbehaved", "an event of the node");
      if (told.type === "delivery") return told.delivery;
      if (told.type === "error") problem = errorOfEvent(told.problem);
      else pay.ask(told.need);
    }
    pay.raise();
  };
  const takeAnswer = async (answer: NodeAnswer): Promise<SignedDelivery | undefined> => {
    if (answer.kind === "whole") {
      takePayload("1", answer.payload);
      return answer.delivery;
    }
    for await (const event of answer.events) {
      const delivery = takeEvent(event);
      if (!delivery) continue;
      // A node that was cut off signs for what it had released, and no longer knows the words for it.
      if (!isWhole) problem ??= cutOff();
      return delivery;
    }
    throw new InfernetError("node-unreachable", "the node's answer broke off before its end");
  };

  const patience = createPatience(deps, () => reader.snapshot().lastEventId);
  for (;;) {
    try {
      const { lastEventId } = reader.snapshot();
      const answer = await client.ask(terms.request, { receipt: pay.current(), lastEventId, signal });
      onAnswer();
      const delivery = await takeAnswer(answer);
      await pay.settled();
      return { arrived: reader.snapshot(), delivery, problem: pay.limit() ?? problem, firstTokenMs };
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      if (!(error instanceof InfernetError)) throw error;
      if (!pay.answerShortReceipt(error)) await patience.wait(error);
    }
  }
}

function cutOff(): InfernetError {
  return new InfernetError("upstream-failed", "the node ended the answer before its end", {
    hint: "What came is all that is charged. Ask again, or choose another node.",
  });
}

/** What is signed for while one answer runs: it follows the node's needs as far as the budget's desk goes along. */
function createPayment({ client, desk, terms, now, emit, warn }: AnswerDeps, arrived: () => Arrived) {
  const { jobId, exposure, firstNeed, admissionTokens } = terms;
  const post = createReceiptPost(client, warn);
  let need = 0n;
  let limit: InfernetError | undefined;
  let receipt: Receipt | undefined;
  let refusals = 0;

  const sign = (wanted: bigint, aheadTokens: number): Receipt => {
    const { tokens, lastEventId, transcript } = arrived();
    return desk.sign(
      jobId,
      wanted,
      { ...exposure, aheadTokens, arrivedTokens: tokens },
      { lastEventId, transcript: lastEventId === 0 ? ZERO_WORD : transcript, now: now() },
    );
  };
  const keep = (signed: Receipt): boolean => {
    const isHigher = receipt === undefined || signed.amount > receipt.amount;
    if (isHigher) {
      receipt = signed;
      emit({ type: "receipt", amount: signed.amount });
    }
    return isHigher;
  };

  return {
    current(): Receipt {
      if (receipt === undefined) keep(sign(firstNeed, exposure.aheadTokens));
      return receipt!;
    },
    ask(wanted: bigint): void {
      if (wanted > need) need = wanted;
    },
    /** Signs for the highest need so far when what arrived allows it; after a limit of the user's nothing more. */
    raise(): void {
      if (limit || need <= (receipt?.amount ?? 0n)) return;
      try {
        if (keep(sign(need, exposure.aheadTokens))) post.send(receipt!);
      } catch (error) {
        if (!(error instanceof InfernetError)) throw error;
        limit = error;
      }
    },
    /** Whether a refusal for too small a receipt is answered by a higher one. */
    answerShortReceipt(error: InfernetError): boolean {
      if (error.code !== "receipt-too-small" || arrived().lastEventId > 0) return false;
      const wanted = String(error.data.need ?? "");
      refusals += 1;
      if (refusals > MOST_SHORT_RECEIPTS) return false;
      return /^\d{1,29}$/.test(wanted) && keep(sign(BigInt(wanted), admissionTokens));
    },
    limit: () => limit,
    settled: () => post.idle(),
  };
}

/** How long to go on asking: codes that pass with time are waited out, a broken line is taken up again. */
function createPatience({ isConfirmed, patienceMs, signal }: AnswerDeps, lastEventId: () => number) {
  const startedAt = performance.now();
  let progressAt = startedAt;
  let reached = 0;
  let vain = 0;
  let confirmedAt: number | undefined;

  /** Until when an error of this kind is waited out; undefined when waiting does not help. */
  const endOf = async ({ code }: InfernetError): Promise<number | undefined> => {
    switch (code) {
      case "job-not-found":
      case "job-unconfirmed":
        confirmedAt ??= (await isConfirmed()) ? performance.now() : undefined;
        return confirmedAt === undefined ? startedAt + CONFIRMATION_LIMIT_MS : confirmedAt + FOLLOW_GRACE_MS;
      case "node-unreachable":
      case "node-busy":
      case "request-in-progress":
        return progressAt + patienceMs;
      default:
        return undefined;
    }
  };

  return {
    /** Waits before the next attempt, or throws the error when there shall be none. */
    async wait(error: InfernetError): Promise<void> {
      if (lastEventId() > reached) {
        reached = lastEventId();
        progressAt = performance.now();
        vain = 0;
      }
      const backOffMs = Math.min(FIRST_DELAY_MS * 2 ** vain, LONGEST_DELAY_MS);
      const toldMs = Number(error.data.retryAfter ?? 0) * 1000;
      const pauseMs = Math.min(Math.max(backOffMs, toldMs), LONGEST_DELAY_MS);
      vain += 1;
      const endsAt = await endOf(error);
      if (endsAt === undefined || performance.now() + pauseMs > endsAt) throw error;
      await delay(pauseMs, undefined, { signal }).catch(() => {
        throw signal.reason;
      });
    },
  };
}
