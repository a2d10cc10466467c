// Owns one node's turn at a request: it is asked, measured, and given up when it keeps the first word back too long.
import type { Hex } from "../../protocol/bytes.ts";
import { type ErrorCode, InfernetError } from "../../protocol/errors.ts";
import { chargeOf, least } from "../../protocol/price.ts";
import type { Choice } from "../choose.ts";
import { completionLimit, type ModelRequest } from "../model-request.ts";
import type { SessionBill } from "../sessions/session-request.ts";
import type { Sessions } from "../sessions/sessions.ts";
import type { AnswerEvent } from "../submission.ts";
import type { Measure, Sample } from "./measures.ts";

export type AttemptInput = {
  request: ModelRequest;
  choice: Choice;
  measure: Measure;
  /** In USDC base units. */
  maxCharge: bigint;
  /** Whether another node could serve instead: then nobody waits long for this one. */
  hasOther: boolean;
  signal: AbortSignal;
  onPayload(payload: string): void;
};

export type Outcome =
  | { kind: "served"; bill: SessionBill; sample: Sample & { firstTokenMs: number } }
  /** `charge` is the most that it can have cost. */
  | { kind: "failed"; error: InfernetError; charge: bigint; jobId: Hex | undefined };

/** When a node with others beside it is given up. In milliseconds. */
export type Limits = {
  /** The first word may take so many times the node's own average, but never less or more than these. */
  firstTokenFactor: number;
  leastFirstTokenMs: number;
  mostFirstTokenMs: number;
  /** Between two payloads. */
  stallMs: number;
  /** For a node that is away. */
  patienceMs: number;
};

export const LIMITS: Limits = {
  firstTokenFactor: 4,
  leastFirstTokenMs: 5_000,
  mostFirstTokenMs: 60_000,
  stallMs: 60_000,
  patienceMs: 1_000,
};

/** Errors after which nobody knows what the node did: any other refusal before its first word costs nothing. */
const UNKNOWN_ENDS: readonly ErrorCode[] = [
  "node-unreachable",
  "node-misbehaved",
  "interrupted",
  "upstream-timeout",
];
/** Answers shorter than this say nothing about speed. */
const LEAST_TIMED_TOKENS = 8;

/** Asks one node. Never throws but for bugs; what comes after the node was given up is not passed on. */
export async function tryNode(
  { ask, limits }: { ask: Sessions["ask"]; limits: Limits },
  input: AttemptInput,
): Promise<Outcome> {
  const { request, choice, maxCharge, hasOther, signal } = input;
  const watch = createWatch(
    request.stream && hasOther,
    firstTokenLimit(input.measure, limits),
    limits.stallMs,
  );
  let isOver = false;
  let hasSigned = false;
  let askedAt = performance.now();
  let [firstAt, lastAt, pieces] = [0, 0, 0];

  const onEvent = (event: AnswerEvent) => {
    if (isOver) return;
    if (event.type === "receipt" && !hasSigned) {
      hasSigned = true;
      askedAt = performance.now();
      watch.begin();
    } else if (event.type === "payload") {
      lastAt = performance.now();
      firstAt ||= lastAt;
      pieces += 1;
      watch.progress();
      input.onPayload(event.payload);
    }
  };
  const asking = ask({
    ...{ request, choice, maxCharge, onEvent, signal: AbortSignal.any([signal, watch.signal]) },
    patienceMs: hasOther ? limits.patienceMs : undefined,
  });
  try {
    const bill = await Promise.race([asking, watch.expired]);
    const endedAt = performance.now();
    const timedMs = request.stream ? lastAt - firstAt : endedAt - askedAt;
    const isTimed = bill.completionTokens >= LEAST_TIMED_TOKENS && timedMs > 0;
    const tokensPerSecond = isTimed ? (bill.completionTokens * 1000) / timedMs : null;
    return {
      kind: "served",
      bill,
      sample: { firstTokenMs: (firstAt || endedAt) - askedAt, tokensPerSecond },
    };
  } catch (error) {
    // A node that was given up ends its turn by itself; its session keeps what it is owed.
    asking.catch(() => {});
    if (!(error instanceof InfernetError)) throw error;
    const isUnknown = hasSigned && (pieces > 0 || UNKNOWN_ENDS.includes(error.code));
    const charge = chargedBy(error) ?? (isUnknown ? mostCost(input, pieces) : 0n);
    return { kind: "failed", error, charge: least(charge, maxCharge), jobId: jobOf(error) };
  } finally {
    isOver = true;
    watch.end();
  }
}

/** What a failed request was charged by its node's signed word; undefined when nobody knows yet. */
export function chargedBy({ data }: InfernetError): bigint | undefined {
  const told = String(data.charge ?? "");
  return /^\d{1,29}$/.test(told) ? BigInt(told) : undefined;
}

function jobOf({ data }: InfernetError): Hex | undefined {
  return typeof data.jobId === "string" ? (data.jobId as Hex) : undefined;
}

/** The most that may be signed for what came and what was paid ahead of it. */
function mostCost({ request, choice }: AttemptInput, pieces: number): bigint {
  const { model, signedOffer } = choice;
  const limit = completionLimit(request, signedOffer.offer);
  const aheadTokens = request.stream ? pieces + 2 * signedOffer.offer.chunkTokens : limit;
  const completionTokens = Math.min(aheadTokens, limit);
  return chargeOf([{ promptTokens: request.promptTokenBound, completionTokens }], model);
}

function firstTokenLimit({ firstTokenMs }: Measure, limits: Limits): number {
  const { firstTokenFactor, leastFirstTokenMs, mostFirstTokenMs } = limits;
  if (firstTokenMs === null) return mostFirstTokenMs;
  return Math.min(Math.max(firstTokenMs * firstTokenFactor, leastFirstTokenMs), mostFirstTokenMs);
}

/** The patience with one node: from its first receipt to its first word, then from word to word. */
function createWatch(isOn: boolean, firstTokenMs: number, stallMs: number) {
  const slow = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  const arm = (ms: number, what: string) => {
    clearTimeout(timer);
    if (!isOn) return;
    timer = setTimeout(() => {
      const message = `the node sent no ${what} within ${Math.round(ms)} ms`;
      slow.abort(new InfernetError("upstream-timeout", message));
    }, ms);
  };
  const expired = new Promise<never>((_resolve, reject) => {
    slow.signal.addEventListener("abort", () => reject(slow.signal.reason), { once: true });
  });
  expired.catch(() => {});
  return {
    signal: slow.signal,
    expired,
    begin: () => arm(firstTokenMs, "first token"),
    progress: () => arm(stallMs, "more of its answer"),
    end: () => clearTimeout(timer),
  };
}
