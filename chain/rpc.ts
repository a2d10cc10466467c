// Owns JSON-RPC over HTTP: one call, its time limit, its retries, and what its failures are called.
import { setTimeout as delay } from "node:timers/promises";
import { InfernetError } from "../protocol/errors.ts";
import { backoffMs } from "./backoff.ts";

/** An answer of the RPC that says no; what nobody in chain/ can make sense of ends as `chain-unreachable`. */
export class RpcError extends InfernetError {
  /** The RPC's own words. */
  readonly reason: string;
  /** A revert's bytes, when the RPC gives them. */
  readonly payload: unknown;

  constructor(method: string, reason: string, payload?: unknown) {
    super("chain-unreachable", `the RPC refuses ${method}: ${reason}`);
    this.name = "RpcError";
    this.reason = reason;
    this.payload = payload;
  }
}

export type Rpc = {
  /** Throws an RpcError when the RPC says no, `chain-unreachable` when it does not answer. */
  call<Result>(method: string, params: readonly unknown[]): Promise<Result>;
  /** Aborts when the RPC is closed: what waits for the chain waits no longer. */
  readonly closed: AbortSignal;
  close(): void;
};

const ATTEMPTS = 4;
const FIRST_RETRY_MS = 100;
const LAST_RETRY_MS = 2_000;
/** Overload and gateway trouble: another try may pass. */
const RETRIED_STATUSES = new Set([408, 429, 500, 502, 503, 504]);

/**
 * Opens a JSON-RPC endpoint without calling it; throws `bad-config` when the URL is none. Each call gets four tries, which is safe: reading twice changes
 * nothing, and the same signed transaction sent twice is one transaction.
 */
export function openRpc(url: string, timeoutMs: number): Rpc {
  if (!URL.canParse(url)) {
    throw new InfernetError("bad-config", `"${url}" is not the URL of an RPC`, {
      hint: "Write it like http://127.0.0.1:8545.",
    });
  }
  const closing = new AbortController();
  let nextId = 1;

  async function attempt(method: string, params: readonly unknown[]): Promise<RpcAnswer> {
    const response = await fetch(url, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ jsonrpc: "2.0", id: nextId++, method, params }),
      signal: AbortSignal.any([closing.signal, AbortSignal.timeout(timeoutMs)]),
    });
    const text = await response.text();
    const answer = readAnswer(text);
    // Some servers put JSON-RPC errors under an error status, so the body comes first.
    if (RETRIED_STATUSES.has(response.status) && answer?.error?.data === undefined) {
      throw new Error(`HTTP status ${response.status}`);
    }
    if (!answer) throw new Error(`HTTP status ${response.status} without a JSON-RPC answer`);
    return answer;
  }

  return {
    closed: closing.signal,
    close: () => closing.abort(),
    async call<Result>(method: string, params: readonly unknown[]): Promise<Result> {
      for (let failures = 0; ; failures++) {
        try {
          const { result, error } = await attempt(method, params);
          if (error) throw new RpcError(method, error.message, error.data);
          return result as Result;
        } catch (error) {
          if (error instanceof RpcError) throw error;
          if (closing.signal.aborted || failures + 1 >= ATTEMPTS) throw unreachable(url, method, error);
          await delay(backoffMs(failures, FIRST_RETRY_MS, LAST_RETRY_MS));
        }
      }
    },
  };
}

type RpcAnswer = { result?: unknown; error?: { code: number; message: string; data?: unknown } };

function readAnswer(text: string): RpcAnswer | undefined {
  try {
    const answer: unknown = JSON.parse(text);
    const isAnswer =
      typeof answer === "object" && answer !== null && ("result" in answer || "error" in answer);
    return isAnswer ? (answer as RpcAnswer) : undefined;
  } catch {
    return undefined;
  }
}

/** Names the RPC by its host only: its path often carries a key. */
function unreachable(url: string, method: string, cause: unknown): InfernetError {
  return new InfernetError("chain-unreachable", `the RPC at ${new URL(url).host} does not answer ${method}`, {
    hint: "Start a local chain with `npx hardhat node`, or name a reachable RPC.",
    cause,
  });
}

/** A number as JSON-RPC writes it. */
export function toQuantity(value: bigint | number): string {
  return `0x${value.toString(16)}`;
}
