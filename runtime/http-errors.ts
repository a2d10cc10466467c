// Owns what an error looks like in an HTTP answer: a problem document, or OpenAI's shape under /v1.
import { type ErrorCode, InfernetError, problemOf } from "../protocol/errors.ts";

export type ErrorBody = { status: number; contentType: string; body: string };

const CODE_OF_STATUS: Readonly<Record<number, ErrorCode>> = {
  404: "not-found",
  413: "body-too-large",
  415: "wrong-content-type",
};

/** Ours as it is, the HTTP layer's own refusals by their status; undefined for a bug. */
export function translateError(error: unknown): InfernetError | undefined {
  if (error instanceof InfernetError) return error;
  const { statusCode, code, message } = (error ?? {}) as Record<string, unknown>;
  const refusedByFastify = typeof code === "string" && code.startsWith("FST_ERR_");
  if (!refusedByFastify || typeof statusCode !== "number" || statusCode >= 500) return undefined;
  return new InfernetError(CODE_OF_STATUS[statusCode] ?? "bad-request", String(message));
}

/** The answer to an error; undefined stands for a bug, of which the answer tells nothing. */
export function errorBody(error: InfernetError | undefined, url: string): ErrorBody {
  const status = error?.status ?? 500;
  if (isOpenAiPath(url)) {
    return {
      status,
      contentType: "application/json; charset=utf-8",
      body: JSON.stringify(openAiErrorOf(error)),
    };
  }
  const problem = error === undefined ? INTERNAL_PROBLEM : problemOf(error);
  return { status, contentType: "application/problem+json; charset=utf-8", body: JSON.stringify(problem) };
}

/** An error in OpenAI's shape; the hint and figures stand beside its standard members. */
export function openAiErrorOf(error: InfernetError | undefined): { error: Record<string, unknown> } {
  if (error === undefined) {
    const { detail, code } = INTERNAL_PROBLEM;
    return { error: { message: detail, type: "server_error", code, param: null } };
  }
  const { message, code, hint, data, status } = error;
  const type = OPENAI_TYPES[status] ?? (status >= 500 ? "server_error" : "invalid_request_error");
  const { param = null, ...figures } = data;
  return { error: { ...figures, message, type, code, param, ...(hint ? { hint } : {}) } };
}

const INTERNAL_PROBLEM = {
  type: "about:blank",
  title: "internal error",
  status: 500,
  code: "internal",
  detail: "something went wrong on this side",
} as const;

const OPENAI_TYPES: Readonly<Record<number, string>> = {
  401: "authentication_error",
  402: "payment_required",
  403: "permission_error",
  429: "rate_limit_error",
};

function isOpenAiPath(url: string): boolean {
  return /^\/v1(?:[/?]|$)/.test(url);
}
