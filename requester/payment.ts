// Owns what is signed for while one answer runs: it follows its node's needs as far as the budget's desk goes along.
import { type Hex, ZERO_WORD } from "../protocol/bytes.ts";
import { InfernetError } from "../protocol/errors.ts";
import type { Receipt } from "../protocol/receipt.ts";
import type { Arrived } from "./answer-reader.ts";
import type { Exposure, ReceiptDesk } from "./budget.ts";
import type { NodeClient } from "./node-client.ts";
import { createReceiptPost } from "./receipt-post.ts";
import type { AnswerEvent } from "./submission.ts";

/** One answer's way to its receipts. */
export type Payment = {
  /** The receipt that goes with the request. Throws `over-budget`. */
  current(): Receipt;
  /** The node asks for a receipt of so much. */
  ask(need: bigint): void;
  /** Signs for what was asked as far as what arrived allows it; after a limit of the user's nothing more. */
  raise(): void;
  /**
   * What to do about a refusal of the first receipt as too small: ask again with a higher one, wait for what runs beside
   * it, or give up. Throws `over-budget`.
   */
  answerShortReceipt(error: InfernetError): "ask-again" | "wait" | "give-up";
  /** The limit of the user's that was met. */
  limit(): InfernetError | undefined;
  /** Resolves when nothing of it is on its way. */
  settled(): Promise<void>;
};

/** What a single job's request is paid by. */
export type PaymentTerms = {
  jobId: Hex;
  /** All but what arrived. */
  exposure: Omit<Exposure, "arrivedTokens">;
  /** The receipt that the request starts with. */
  firstNeed: bigint;
  /** Completion tokens ahead that a node may insist on before it starts: two chunks, as the law has it. */
  admissionTokens: number;
};

type PaymentDeps = {
  client: Pick<NodeClient, "sendReceipt">;
  desk: ReceiptDesk;
  terms: PaymentTerms;
  arrived(): Arrived;
  /** Block time now, in Unix seconds. */
  now(): number;
  emit(event: AnswerEvent): void;
  warn(message: string, error: unknown): void;
};

/** Refusals of a first receipt as too small that are answered by a higher one. */
export const MOST_SHORT_RECEIPTS = 2;

/** The payment of a single job's only request. */
export function createPayment({ client, desk, terms, arrived, now, emit, warn }: PaymentDeps): Payment {
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
    current() {
      if (receipt === undefined) keep(sign(firstNeed, exposure.aheadTokens));
      return receipt!;
    },
    ask(wanted) {
      if (wanted > need) need = wanted;
    },
    raise() {
      if (limit || need <= (receipt?.amount ?? 0n)) return;
      try {
        if (keep(sign(need, exposure.aheadTokens))) post.send(receipt!);
      } catch (error) {
        if (!(error instanceof InfernetError)) throw error;
        limit = error;
      }
    },
    answerShortReceipt(error) {
      const wanted = neededBy(error);
      refusals += 1;
      if (wanted === undefined || arrived().lastEventId > 0 || refusals > MOST_SHORT_RECEIPTS)
        return "give-up";
      return keep(sign(wanted, admissionTokens)) ? "ask-again" : "give-up";
    },
    limit: () => limit,
    settled: () => post.idle(),
  };
}

/** What a refusal of a receipt as too small says that is needed; undefined for any other refusal. */
export function neededBy(error: InfernetError): bigint | undefined {
  if (error.code !== "receipt-too-small") return undefined;
  const need = String(error.data.need ?? "");
  return /^\d{1,29}$/.test(need) ? BigInt(need) : undefined;
}
