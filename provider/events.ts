// Owns what a provider tells while it works: the union of its events and the hub that hands them to screens and logs.
import type { Address, Hex } from "../protocol/bytes.ts";
import { type ErrorCode, InfernetError } from "../protocol/errors.ts";
import type { TokenCounts } from "../protocol/price.ts";

/** Amounts in USDC base units. An event is told only after what it tells is durable. */
export type ProviderEvent =
  | { type: "jobFunded"; jobId: Hex; requester: Address; deposit: bigint }
  | { type: "streamStarted"; jobId: Hex; requestId: Hex; model: string }
  | { type: "tokensReleased"; jobId: Hex; requestId: Hex; events: number; completionTokens: number }
  | { type: "receiptAccepted"; jobId: Hex; amount: bigint }
  | {
      type: "streamEnded";
      jobId: Hex;
      requestId: Hex;
      counts: TokenCounts;
      estimated: boolean;
      jobCharge: bigint;
      reason: string;
    }
  /** A job serves no more: it is to be settled or refunded. */
  | { type: "jobOver"; jobId: Hex }
  /** A job closed on the chain, at finality. `gasUsed` is the transaction's, `jobs` how many it closed; `tx` is null when somebody else closed it. */
  | {
      type: "settled";
      jobId: Hex;
      tx: Hex | null;
      gasUsed: bigint;
      jobs: number;
      claimed: bigint;
      returned: bigint;
    }
  /** A job that goes on was claimed of, at finality: `gained` more, `claimed` in all. `jobs` are those of the transaction. */
  | { type: "claimed"; jobId: Hex; tx: Hex; gasUsed: bigint; jobs: number; gained: bigint; claimed: bigint }
  /** A transaction that this node sent for a requester is mined. */
  | { type: "relayed"; kind: "open" | "deposit" | "withdraw" | "refund"; tx: Hex; gasUsed: bigint }
  | { type: "paidOut"; tx: Hex; gasUsed: bigint; amount: bigint }
  /** An upstream came up, went down, or has other models than before; the offer says so already. */
  | {
      type: "upstreamChanged";
      name: string;
      kind: string;
      state: "up" | "down";
      reason: string | null;
      models: string[];
      capacity: number;
    }
  /** So many requests wait for a free upstream now. */
  | { type: "queueChanged"; queued: number }
  /** The node sells from now on, or sells no more, and why. */
  | { type: "lightChanged"; live: boolean; reasons: string[] }
  | { type: "refused"; jobId: Hex; code: ErrorCode; reason: string }
  | { type: "error"; code: string; message: string; jobId: Hex | null };

export type ProviderListener = (event: ProviderEvent) => void;
export type EventHub = { emit: ProviderListener; subscribe(listener: ProviderListener): () => void };

/** A hub whose listeners are called in order of subscription; a listener that throws stops no other. */
export function createEventHub(onListenerError: (error: unknown) => void): EventHub {
  const listeners = new Set<ProviderListener>();
  return {
    emit(event) {
      for (const listener of listeners) {
        try {
          listener(event);
        } catch (error) {
          onListenerError(error);
        }
      }
    },
    subscribe(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
}

/** The event that tells an error; a code of "bug" stands for what no user should meet. */
export function errorEvent(error: unknown, jobId: Hex | null): ProviderEvent & { type: "error" } {
  const code = error instanceof InfernetError ? error.code : "bug";
  const message = error instanceof Error ? error.message : String(error);
  return { type: "error", code, message, jobId };
}
