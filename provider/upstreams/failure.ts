// Owns which error a model server's failure is: what it answered, or that it did not answer.
import { InfernetError } from "../../protocol/errors.ts";

const UNREACHABLE_CODES = [
  "ECONNREFUSED",
  "ENOTFOUND",
  "EAI_AGAIN",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "ETIMEDOUT",
  "UND_ERR_CONNECT_TIMEOUT",
];
const TIMEOUT_CODES = ["UND_ERR_HEADERS_TIMEOUT", "UND_ERR_BODY_TIMEOUT"];
const REFUSALS = [400, 413, 415, 422];

/** Where a server names no time after which to come again. */
const BUSY_SECONDS = 2;
const LONGEST_BUSY_SECONDS = 3600;

/**
 * The error of an answer that is not 2xx. `detail` is shown: it must hold no prompt and no key. A server that has no
 * room now is `node-busy`, with its own word on when to come again.
 */
export function errorOfStatus(
  server: string,
  status: number,
  detail: string,
  retryAfter?: string | string[] | null,
): InfernetError {
  const what = detail === "" ? `HTTP ${status}` : `HTTP ${status}: ${detail}`;
  if (status === 404) {
    return new InfernetError("model-not-found", `${server} does not have the model or the route (${what})`);
  }
  if (REFUSALS.includes(status)) {
    return new InfernetError("bad-request", `${server} refused the request (${what})`);
  }
  if (status === 401 || status === 403) {
    return new InfernetError(
      "upstream-failed",
      `${server} does not accept the node's API key (HTTP ${status})`,
    );
  }
  if (status === 429 || status === 503) {
    return new InfernetError("node-busy", `${server} takes no more requests now (${what})`, {
      hint: "Come again when Retry-After says, or ask another node.",
      data: { retryAfterSeconds: secondsOf([retryAfter].flat()[0]) },
    });
  }
  if (status === 408 || status === 504) {
    return new InfernetError("upstream-timeout", `${server} took too long (${what})`);
  }
  return new InfernetError("upstream-failed", `${server} failed (${what})`);
}

/** Retry-After is a count of seconds or a date. */
function secondsOf(retryAfter: string | null | undefined): number {
  if (!retryAfter) return BUSY_SECONDS;
  const seconds = /^\d+$/.test(retryAfter)
    ? Number(retryAfter)
    : (Date.parse(retryAfter) - Date.now()) / 1000;
  if (Number.isNaN(seconds)) return BUSY_SECONDS;
  return Math.min(Math.max(1, Math.ceil(seconds)), LONGEST_BUSY_SECONDS);
}

/** What to throw for an exception met while talking to a server: the signal's reason when it was aborted. */
export function explainFailure(error: unknown, server: string, signal?: AbortSignal): unknown {
  if (signal?.aborted) return signal.reason;
  if (error instanceof InfernetError) return error;
  const code = codeOf(error);
  if (TIMEOUT_CODES.includes(code)) {
    return new InfernetError("upstream-timeout", `${server} went silent (${code})`, { cause: error });
  }
  if (UNREACHABLE_CODES.includes(code)) {
    return new InfernetError("upstream-unreachable", `${server} cannot be reached (${code})`, {
      cause: error,
      hint: "Start the model server, or check the URL that the node was given for it.",
    });
  }
  return new InfernetError("upstream-failed", `${server} broke off its answer${code && ` (${code})`}`, {
    cause: error,
  });
}

/** The system's code of an error or of what caused it, however deep; empty when there is none. */
function codeOf(error: unknown): string {
  for (let inner = error; inner instanceof Error; inner = inner.cause) {
    const { code } = inner as { code?: unknown };
    if (typeof code === "string") return code;
  }
  return "";
}
