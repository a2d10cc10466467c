// Owns one paid answer: asking the node, reading what comes, signing as it comes, and going on after a broken line.
import { setTimeout as delay } from "node:timers/promises";
import type { Hex } from "../protocol/bytes.ts";
import type { SignedDelivery } from "../protocol/delivery.ts";
import { InfernetError } from "../protocol/errors.ts";
import { parseJsonWith } from "../protocol/schema.ts";
import { INFERNET_EVENT, infernetEventSchema } from "../protocol/wire.ts";
import type { SseEvent } from "../runtime/sse.ts";
import { type Arrived, createAnswerReader } from "./answer-reader.ts";
import type { ModelRequest } from "./model-request.ts";
import { errorOfEvent, type NodeAnswer, type NodeClient } from "./node-client.ts";
import type { Payment } from "./payment.ts";
import type { AnswerEvent } from "./submission.ts";

export type PaidAnswer = {
  arrived: Arrived;
  delivery: SignedDelivery | undefined;
  /** Why the answer is not whole: the node's word, or the requester's own limit. */
  problem: InfernetError | undefined;
  firstTokenMs: number;
  /** From asking to the end. */
  wholeMs: number;
};

type AnswerDeps = {
  client: Pick<NodeClient, "ask">;
  requestId: Hex;
  request: ModelRequest;
  /** How the answer is paid for, given what has arrived of it. */
  payment(arrived: () => Arrived): Payment;
  /** Whether the chain as seen from here is far enough for the node to serve the job. */
  isConfirmed(): Promise<boolean>;
  /** How long to try again without anything new coming. */
  patienceMs: number;
  signal: AbortSignal;
  /** From the first answer of the node to the end. */
  longestMs: number;
  emit(event: AnswerEvent): void;
};

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
  const { client, requestId, request, signal, emit } = deps;
  const reader = createAnswerReader(requestId);
  const pay = deps.payment(() => reader.snapshot());
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
      const answer = await client.ask(request, { receipt: pay.current(), lastEventId, signal });
      onAnswer();
      const delivery = await takeAnswer(answer);
      await pay.settled();
      // A whole answer is one, whatever would have been signed for more of it.
      const reason = problem && (pay.limit() ?? problem);
      const wholeMs = performance.now() - startedAt;
      return { arrived: reader.snapshot(), delivery, problem: reason, firstTokenMs, wholeMs };
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      if (!(error instanceof InfernetError)) throw error;
      const answer = pay.answerShortReceipt(error);
      if (answer !== "ask-again") await patience.wait(error, answer === "wait");
    }
  }
}

function cutOff(): InfernetError {
  return new InfernetError("upstream-failed", "the node ended the answer before its end", {
    hint: "What came is all that is charged. Ask again, or choose another node.",
  });
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
    /** Waits before the next attempt, or throws the error when there shall be none; `isPassing` knows better. */
    async wait(error: InfernetError, isPassing: boolean): Promise<void> {
      if (lastEventId() > reached) {
        reached = lastEventId();
        progressAt = performance.now();
        vain = 0;
      }
      const backOffMs = Math.min(FIRST_DELAY_MS * 2 ** vain, LONGEST_DELAY_MS);
      const toldMs = Number(error.data.retryAfter ?? 0) * 1000;
      const pauseMs = Math.min(Math.max(backOffMs, toldMs), LONGEST_DELAY_MS);
      vain += 1;
      const endsAt = isPassing ? progressAt + patienceMs : await endOf(error);
      if (endsAt === undefined || performance.now() + pauseMs > endsAt) throw error;
      await delay(pauseMs, undefined, { signal }).catch(() => {
        throw signal.reason;
      });
    },
  };
}
