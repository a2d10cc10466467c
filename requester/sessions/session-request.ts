// Owns the words of sessions: what a caller asks for, what one request came to, and how a session looks from outside.
import type { Address, Hex } from "../../protocol/bytes.ts";
import type { Choice } from "../choose.ts";
import type { GasChoice } from "../gas.ts";
import type { ModelRequest } from "../model-request.ts";
import type { AnswerEvent } from "../submission.ts";

export type SessionRequest = {
  request: ModelRequest;
  /** The node, and what it offers. */
  choice: Choice;
  /** The most that this request may cost, in USDC base units; the budgets hold besides. */
  maxCharge?: bigint | undefined;
  /** The caller's own name for the request: the same again is the same request. 1 to 64 of [A-Za-z0-9_-]. */
  idempotencyKey?: string | undefined;
  /** How long to try to reach its node while nothing new comes, in milliseconds; as set unless told otherwise. */
  patienceMs?: number | undefined;
  /** Who pays the gas if a session must be opened; `auto` unless told otherwise. */
  gas?: GasChoice | undefined;
  signal?: AbortSignal | undefined;
  onEvent?(event: AnswerEvent): void;
};

/** What a request of a session came to. */
export type SessionBill = {
  jobId: Hex;
  requestId: Hex;
  node: Address;
  model: string;
  promptTokens: number;
  completionTokens: number;
  estimated: boolean;
  /** Of this request alone: exact, in millionths of a USDC base unit, and rounded up, in base units. */
  costMillionths: bigint;
  charge: bigint;
  text: string;
  finishReason: string;
  firstTokenMs: number;
  tokensPerSecond: number;
  /** The body of an unstreamed answer. */
  payload?: string | undefined;
};

/**
 * `opening`: its terms are written. `open`: it pays for requests. `closing`: it pays for nothing more and waits for its
 * node to settle. `closed`: the chain has closed it, or it never opened.
 */
export type SessionState = "opening" | "open" | "closing" | "closed";

/** Amounts in USDC base units, times in Unix seconds. */
export type SessionReport = {
  jobId: Hex;
  state: SessionState;
  node: Address;
  model: string;
  deposit: bigint;
  /** The most that the node can claim by our receipts. */
  signed: bigint;
  /** What its ended requests cost, its opening included; the chain's word once that has closed it. */
  charged: bigint;
  /** Requests so far, and of them under way. */
  requests: number;
  active: number;
  openedAt: number | null;
  /** When a request of its last began or ended. */
  usedAt: number | null;
  deadline: number;
  /** What stands in the Escrow for it, and when what is left of that comes back at the latest: null once it has. */
  locked: bigint;
  returnsAt: number | null;
  /** What shows that the node lied, as JSON. */
  evidence: string | null;
};

export type SessionEvent = {
  type: "opening" | "opened" | "closing" | "closed" | "broken";
  session: SessionReport;
};

/** What a caller wants of a session that it opens ahead of its requests. */
export type SessionWish = {
  node?: Address | undefined;
  model: string;
  /** In USDC base units; as set unless told otherwise. */
  depositUsdc?: bigint | undefined;
  deadlineSeconds?: number | undefined;
  gas?: GasChoice | undefined;
};
