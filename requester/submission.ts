// Owns the words of a submission: what a caller asks for, what it hears meanwhile, and the bill at the end.
import type { Address, Hex } from "../protocol/bytes.ts";
import type { SignedDelivery } from "../protocol/delivery.ts";
import type { Offer } from "../protocol/offer.ts";
import type { ModelPath } from "../protocol/wire.ts";
import type { GasChoice } from "./gas.ts";

export type SubmitInput = {
  path: ModelPath;
  /** The exact bytes of the request; its `model` says what is wanted. */
  body: Uint8Array;
  /** Only this node will do. */
  node?: Address | undefined;
  /** The most that this request may cost, in USDC base units; the budget's limits hold besides. */
  maxCharge?: bigint | undefined;
  /** The wished time from opening to deadline: an hour unless told otherwise, longer where the offer wants it. */
  deadlineSeconds?: number | undefined;
  /** Who pays the gas of the opening; `auto` unless told otherwise. */
  gas?: GasChoice | undefined;
  /** How long to wait until the chain has closed the job, in milliseconds; not at all unless told so. */
  settlementTimeoutMs?: number | undefined;
  signal?: AbortSignal | undefined;
  onEvent?(event: SubmitEvent): void;
};

/** What arrives while an answer is read. */
export type AnswerEvent =
  /** Text of the answer for a person. */
  | { type: "text"; text: string }
  /** The node's event as it came: the JSON text of an OpenAI chunk, a whole unstreamed body, or [DONE]. */
  | { type: "payload"; payload: string }
  | { type: "receipt"; amount: bigint };

/** Amounts in USDC base units. */
export type SubmitEvent =
  | {
      type: "chosen";
      node: Address;
      endpoint: string;
      offer: Offer;
      estimatedCost: bigint;
      latencyMs: number;
    }
  | { type: "opening"; jobId: Hex; deposit: bigint }
  | { type: "opened"; jobId: Hex; deposit: bigint; tx: Hex; gasUsed: bigint | null }
  /** A job that an earlier run left behind pays for the same request: it is read again, at no new charge. */
  | { type: "resumed"; jobId: Hex; signed: bigint }
  | AnswerEvent
  | { type: "delivered"; delivery: SignedDelivery }
  | { type: "settled"; charge: bigint; returned: bigint };

/** What a request came to. `charge` is the node's signed word; `settled` is the chain's, null until it is known. */
export type Bill = {
  jobId: Hex;
  node: Address;
  model: string;
  promptTokens: number;
  completionTokens: number;
  estimated: boolean;
  charge: bigint;
  deposit: bigint;
  /** The highest receipt: the most that the node can claim. */
  signed: bigint;
  openTx: Hex | null;
  openGas: bigint | null;
  settled: { charge: bigint; returned: bigint } | null;
  text: string;
  finishReason: string;
  firstTokenMs: number;
};
