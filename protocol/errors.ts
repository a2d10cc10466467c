// Owns every error that a user can meet: its code, HTTP status, exit code, and the hint that says what to do next.

/** HTTP status (what a node answers) and process exit code (what a command ends with) of each code. */
export const ERROR_TABLE = {
  // What was asked is wrong: exit 2.
  "bad-request": { status: 400, exit: 2 },
  unsupported: { status: 400, exit: 2 },
  "bad-receipt": { status: 400, exit: 2 },
  "body-too-large": { status: 413, exit: 2 },
  "wrong-content-type": { status: 415, exit: 2 },
  "not-found": { status: 404, exit: 2 },
  unauthorized: { status: 401, exit: 2 },
  forbidden: { status: 403, exit: 2 },
  "bad-config": { status: 500, exit: 2 },
  // Money is missing: exit 3.
  "payment-required": { status: 402, exit: 3 },
  "receipt-too-small": { status: 402, exit: 3 },
  "receipt-timeout": { status: 402, exit: 3 },
  "insufficient-funds": { status: 402, exit: 3 },
  "over-budget": { status: 402, exit: 3 },
  // The job is not, or no longer, what it must be: exit 4.
  "job-not-found": { status: 404, exit: 4 },
  "job-unconfirmed": { status: 409, exit: 4 },
  "job-not-funded": { status: 409, exit: 4 },
  "job-closed": { status: 409, exit: 4 },
  "job-expired": { status: 409, exit: 4 },
  "request-mismatch": { status: 409, exit: 4 },
  "request-in-progress": { status: 409, exit: 4 },
  // No node can serve this: exit 5.
  "no-node": { status: 503, exit: 5 },
  "offer-invalid": { status: 502, exit: 5 },
  "model-not-offered": { status: 404, exit: 5 },
  "node-unreachable": { status: 502, exit: 5 },
  "node-key-mismatch": { status: 502, exit: 5 },
  "node-misbehaved": { status: 502, exit: 5 },
  "node-busy": { status: 429, exit: 5 },
  "relay-refused": { status: 422, exit: 5 },
  "rate-limited": { status: 429, exit: 5 },
  // The model behind a node fails: exit 6.
  "upstream-unreachable": { status: 502, exit: 6 },
  "upstream-failed": { status: 502, exit: 6 },
  "upstream-timeout": { status: 504, exit: 6 },
  "model-not-found": { status: 404, exit: 6 },
  // The chain: exit 7.
  "chain-unreachable": { status: 503, exit: 7 },
  "wrong-chain": { status: 503, exit: 7 },
  "no-deployment": { status: 503, exit: 7 },
  "transaction-failed": { status: 502, exit: 7 },
  "not-registered": { status: 409, exit: 7 },
  // This machine: exit 8.
  "store-locked": { status: 503, exit: 8 },
  "store-unusable": { status: 503, exit: 8 },
  "wallet-missing": { status: 500, exit: 8 },
  "wrong-passphrase": { status: 500, exit: 8 },
  "gateway-unreachable": { status: 503, exit: 8 },
  "port-in-use": { status: 500, exit: 8 },
  "docker-unavailable": { status: 503, exit: 8 },
  "docker-failed": { status: 502, exit: 8 },
  // The user ended it: exit 130, as a shell does.
  interrupted: { status: 499, exit: 130 },
} as const satisfies Record<string, { status: number; exit: number }>;

export type ErrorCode = keyof typeof ERROR_TABLE;

export type ErrorDetails = { hint?: string; cause?: unknown; data?: Record<string, string | number> };

/** An error with a name that users meet. Anything else that is thrown is a bug. */
export class InfernetError extends Error {
  readonly code: ErrorCode;
  /** What to do next, in one sentence; empty when the message says it. */
  readonly hint: string;
  /** Figures that a program can act on, such as `need`; never secrets. */
  readonly data: Readonly<Record<string, string | number>>;

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = "InfernetError";
    this.code = code;
    this.hint = details.hint ?? "";
    this.data = details.data ?? {};
  }

  get status(): number {
    return ERROR_TABLE[this.code].status;
  }

  get exitCode(): number {
    return ERROR_TABLE[this.code].exit;
  }
}

export function isErrorCode(code: unknown): code is ErrorCode {
  return typeof code === "string" && Object.hasOwn(ERROR_TABLE, code);
}

/** RFC 9457 body of `application/problem+json`. */
export type Problem = {
  type: string;
  title: string;
  status: number;
  code: string;
  detail: string;
  hint?: string;
  [figure: string]: string | number | undefined;
};

/** The problem document of an error. `data` figures stand beside the standard members. */
export function problemOf(error: InfernetError): Problem {
  return {
    ...error.data,
    type: `urn:infernet:error:${error.code}`,
    title: error.code.replaceAll("-", " "),
    status: error.status,
    code: error.code,
    detail: error.message,
    ...(error.hint ? { hint: error.hint } : {}),
  };
}

/** The error that a peer's problem document tells, or undefined when it is none of ours. */
export function errorOfProblem(body: unknown): InfernetError | undefined {
  if (typeof body !== "object" || body === null) return undefined;
  const { type, title, status, code, detail, hint, ...data } = body as Problem;
  if (!isErrorCode(code)) return undefined;
  const figures = Object.entries(data).filter(([, value]) => ["string", "number"].includes(typeof value));
  return new InfernetError(code, typeof detail === "string" ? detail : String(title ?? type ?? status), {
    ...(typeof hint === "string" ? { hint } : {}),
    data: Object.fromEntries(figures) as Record<string, string | number>,
  });
}
