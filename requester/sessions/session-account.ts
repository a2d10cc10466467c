// Owns one session's money while its requests run: what each has reserved, what all may have cost, and the receipts that follow.
import type { Hex } from "../../protocol/bytes.ts";
import { InfernetError } from "../../protocol/errors.ts";
import { chargeOf, costMillionths, least, most, type Prices, roundCharge } from "../../protocol/price.ts";
import type { Receipt } from "../../protocol/receipt.ts";
import type { Arrived } from "../answer-reader.ts";
import { LIMIT_WORDS, type ReceiptDesk } from "../budget.ts";
import { MOST_SHORT_RECEIPTS, neededBy, type Payment } from "../payment.ts";
import type { ReceiptPost } from "../receipt-post.ts";

/** One request's terms; amounts in millionths of a base unit. */
export type StreamTerms = {
  requestId: Hex;
  prices: Prices;
  /** Prompt tokens as a prepayment counts them, and the most that are paid for. */
  estimatedPrompt: number;
  promptBound: number;
  /** Completion tokens that are paid ahead, and that its node may insist on before it starts. */
  aheadTokens: number;
  admissionTokens: number;
  maxTokens: number;
  /** The smallest raise that is worth a receipt. */
  stepTokens: number;
  /** The most that it may cost by its caller's limits; `canCost` is what it can cost at all. */
  most: bigint;
  canCost: bigint;
  /** What was signed for it by a run before. */
  resumed: bigint;
  /** Keeps it in the ledger, before it leaves. */
  begin(): void;
};

type Stream = {
  terms: StreamTerms;
  arrived(): Arrived;
  /** Completion tokens ahead that were signed for at admission. */
  floorTokens: number;
  exposure: bigint;
  need: bigint;
  begun: boolean;
  refusals: number;
  /** The most requests that ran beside it when it was refused. */
  others: number;
  limit: InfernetError | undefined;
  emit(amount: bigint): void;
};

export type AccountDeps = {
  desk: ReceiptDesk;
  post: ReceiptPost;
  /** Block time now, in Unix seconds. */
  now(): number;
  jobId: Hex;
  deposit: bigint;
  openingFee: bigint;
};

export class SessionAccount {
  readonly #deps: AccountDeps;
  readonly #streams = new Map<Hex, Stream>();
  readonly #changed = new Set<Stream>();
  /** What the requests under way may have cost by now. */
  #active = 0n;
  /** What they may cost to their end: kept free of the deposit for them. */
  #reserved = 0n;
  /** What the ledger knows of all others. */
  #ended: bigint;
  #signed: bigint;
  #receipt: Receipt | undefined;

  constructor(deps: AccountDeps, kept: { ended: bigint; signed: bigint }) {
    this.#deps = deps;
    this.#ended = kept.ended;
    this.#signed = kept.signed;
  }

  /** Base units of the deposit that no request has cost or reserved. */
  room(): bigint {
    const { deposit, openingFee } = this.#deps;
    return deposit - openingFee - roundCharge(this.#ended + this.#reserved);
  }

  /** The same whatever requests have reserved. */
  left(): bigint {
    const { deposit, openingFee } = this.#deps;
    return deposit - openingFee - roundCharge(this.#ended);
  }

  /** Base units that are signed for and that no request has cost or may cost: what was left over. */
  coverage(): bigint {
    const used = this.#deps.openingFee + roundCharge(this.#ended + this.#active);
    return most(this.#signed - used, 0n);
  }

  /** Reserves room for a request at once, and returns what pays for it. */
  place(terms: StreamTerms, emit: (amount: bigint) => void): (arrived: () => Arrived) => Payment {
    const { requestId } = terms;
    const stream: Stream = {
      ...{
        terms,
        floorTokens: 0,
        exposure: 0n,
        need: 0n,
        begun: false,
        refusals: 0,
        others: 0,
        limit: undefined,
        emit,
      },
      arrived: () => NOTHING,
    };
    this.#streams.set(requestId, stream);
    this.#reserved += least(terms.most, terms.canCost);
    return (arrived) => {
      stream.arrived = arrived;
      return this.#paymentOf(stream);
    };
  }

  /** How far a request has come: `kept` in the ledger means that it may have left. */
  progressOf(requestId: Hex): "placed" | "kept" | "arriving" {
    const stream = this.#streams.get(requestId);
    if (!stream?.begun) return "placed";
    return stream.arrived().lastEventId > 0 ? "arriving" : "kept";
  }

  /** A request is over; `ended` is what the ledger knows now of all requests that are. */
  leave(requestId: Hex, ended: bigint): void {
    const stream = this.#streams.get(requestId);
    if (!stream) return;
    this.#streams.delete(requestId);
    this.#changed.delete(stream);
    this.#active -= stream.exposure;
    this.#reserved -= least(stream.terms.most, stream.terms.canCost);
    this.#ended = ended;
  }

  /** The ledger learned of a request that had been lost. */
  refresh(ended: bigint): void {
    this.#ended = ended;
  }

  #paymentOf(stream: Stream): Payment {
    return {
      current: () => this.#current(stream),
      ask(need) {
        if (need > stream.need) stream.need = need;
      },
      raise: () => this.#raise(stream),
      answerShortReceipt: (error) => this.#answerShortReceipt(stream, error),
      limit: () => stream.limit,
      // The session's receipts are on their way for all of its requests.
      settled: () => Promise.resolve(),
    };
  }

  #current(stream: Stream): Receipt {
    if (!stream.begun) {
      const { terms } = stream;
      const first = costMillionths(
        { promptTokens: terms.estimatedPrompt, completionTokens: terms.aheadTokens },
        terms.prices,
      );
      if (first > terms.most) throw overRequestLimit(terms.most);
      this.#reckon(stream);
      const others = [...this.#streams.values()].filter((other) => other !== stream && other.begun);
      const claimed = others.reduce((sum, other) => sum + claimOf(other), this.#ended + first);
      this.#sign(stream, this.#deps.openingFee + roundCharge(claimed), terms.begin);
      stream.begun = true;
    }
    return this.#receipt!;
  }

  /** Brings a request's reckoning up to what arrived of it. */
  #reckon(stream: Stream): void {
    const exposure = most(exposureOf(stream), stream.exposure);
    if (exposure === stream.exposure) return;
    this.#active += exposure - stream.exposure;
    stream.exposure = exposure;
    this.#changed.add(stream);
  }

  #raise(stream: Stream): void {
    this.#reckon(stream);
    const waiting = [...this.#streams.values()].filter(({ need, limit }) => need > this.#signed && !limit);
    if (waiting.length === 0) return;
    const need = most(0n, ...waiting.map((other) => other.need));
    const allowance = this.#deps.openingFee + roundCharge(this.#ended + this.#active);
    const amount = least(need, allowance);
    if (amount < need && isAtItsLimit(stream)) stream.limit = overRequestLimit(stream.terms.most);
    if (amount <= this.#signed || (amount < need && amount - this.#signed < stepOf(stream))) return;
    try {
      if (this.#sign(stream, need)) this.#deps.post.send(this.#receipt!);
    } catch (error) {
      if (!(error instanceof InfernetError)) throw error;
      for (const other of waiting) other.limit = error;
    }
  }

  #answerShortReceipt(stream: Stream, error: InfernetError): "ask-again" | "wait" | "give-up" {
    const need = neededBy(error);
    if (need === undefined || stream.arrived().lastEventId > 0) return "give-up";
    stream.refusals += 1;
    stream.floorTokens = stream.terms.admissionTokens;
    this.#reckon(stream);
    // Each refusal counts only its own request beside those that run: all that were refused are signed for at once.
    const refused = [...this.#streams.values()].filter((other) => other !== stream && isRefused(other));
    const claimed = refused.reduce((sum, other) => sum + claimOf(other), 0n);
    const isHigher = this.#sign(stream, need + roundCharge(claimed));
    const others = this.#streams.size - 1;
    const isAnswered = this.#signed >= need || (others === 0 && isHigher);
    stream.others = Math.max(stream.others, others);
    const isPatient = stream.refusals <= MOST_SHORT_RECEIPTS + stream.others;
    if (isAnswered && isPatient) return "ask-again";
    // The node may have counted for others what has not arrived of them yet, or has ended since: that passes.
    return others > 0 || isPatient ? "wait" : "give-up";
  }

  /** Has the desk sign for a need; says whether the mark rose. */
  #sign(stream: Stream, need: bigint, begin?: () => void): boolean {
    const { desk, jobId, now } = this.#deps;
    const shares = [...this.#changed].map(({ terms, exposure }) => ({
      requestId: terms.requestId,
      allowed: exposure,
    }));
    const standing = { active: this.#active, step: stepOf(stream), shares, now: now() };
    const held = this.#receipt;
    const signed = desk.signSession(jobId, need, standing, { held, ...(begin ? { begin } : {}) });
    this.#changed.clear();
    this.#receipt = signed.receipt;
    this.#ended = signed.ended;
    const isHigher = signed.receipt.amount > this.#signed;
    this.#signed = signed.receipt.amount;
    if (isHigher) stream.emit(this.#signed);
    return isHigher;
  }
}

const MILLION = 1_000_000n;
const NOTHING: Arrived = {
  ...{ lastEventId: 0, transcript: "0x", tokens: 0, textBytes: 0, text: "", finishReason: "" },
};

function tokensOf({ terms, floorTokens, arrived }: Stream): number {
  return Math.min(Math.max(arrived().tokens + terms.aheadTokens, floorTokens), terms.maxTokens);
}

/** What a request may have cost by now, with what is paid ahead: no `need` of a node raises it. */
function exposureOf(stream: Stream): bigint {
  const { prices, promptBound, resumed } = stream.terms;
  const cost = costMillionths({ promptTokens: promptBound, completionTokens: tokensOf(stream) }, prices);
  return most(least(cost, stream.terms.most), resumed);
}

/** What its node will have reserved for it. */
function claimOf(stream: Stream): bigint {
  const { prices, estimatedPrompt } = stream.terms;
  return costMillionths({ promptTokens: estimatedPrompt, completionTokens: tokensOf(stream) }, prices);
}

/** Whether it was refused for too small a receipt, and nothing shows that it has been let in since. */
function isRefused({ refusals, need, arrived }: Stream): boolean {
  return refusals > 0 && need === 0n && arrived().lastEventId === 0;
}

function isAtItsLimit(stream: Stream): boolean {
  const { prices, promptBound, most: limit } = stream.terms;
  const cost = costMillionths({ promptTokens: promptBound, completionTokens: tokensOf(stream) }, prices);
  return stream.need > 0n && cost > limit;
}

function stepOf({ terms }: Stream): bigint {
  return chargeOf([{ promptTokens: 0, completionTokens: terms.stepTokens }], terms.prices);
}

function overRequestLimit(most: bigint): InfernetError {
  const [name, hint] = LIMIT_WORDS.maxUsdcPerRequest;
  const limit = most / MILLION;
  return new InfernetError("over-budget", `the node needs more than ${limit}: ${name}`, {
    hint,
    data: { limit: "maxUsdcPerRequest", most: limit.toString() },
  });
}
