// Owns the conversation with one node about one job: its routes, the job's headers on each, and its errors by name.
import { z } from "zod";
import type { Hex } from "../protocol/bytes.ts";
import { type SignedDelivery, signedDeliverySchema } from "../protocol/delivery.ts";
import { errorOfProblem, InfernetError } from "../protocol/errors.ts";
import { SESSION_REQUEST_HASH } from "../protocol/job.ts";
import { formatReceipt, type Receipt } from "../protocol/receipt.ts";
import { openingAnswerSchema, type RelayedOpening } from "../protocol/relay.ts";
import { parseJsonWith, toJson } from "../protocol/schema.ts";
import {
  HEADERS,
  JOBS_PATH,
  type JobDocument,
  jobDocumentSchema,
  receiptAnswerSchema,
} from "../protocol/wire.ts";
import { createHttpClient, type HttpAnswer, type HttpClient } from "../runtime/http-client.ts";
import { readSse, type SseEvent } from "../runtime/sse.ts";
import type { ModelRequest } from "./model-request.ts";

export type JobAddress = {
  endpoint: string;
  tlsKeyHash: Hex | null;
  jobId: Hex;
  salt: Hex;
  offerHash: Hex;
  /** Of a single job; it lets a job be closed that nothing was ever asked of. */
  requestHash?: Hex;
};

/** What a node answers a paid request with: events as they come, or one body with its delivery beside it. */
export type NodeAnswer =
  | { kind: "stream"; events: AsyncGenerator<SseEvent> }
  | { kind: "whole"; payload: string; delivery: SignedDelivery | undefined };

export type NodeClient = {
  /**
   * Sends the request, in a session under its key; `lastEventId` above zero resumes its answer. Throws the node's error
   * by its code.
   */
  ask(
    request: ModelRequest,
    paid: { receipt: Receipt; lastEventId: number; signal: AbortSignal; idempotencyKey?: string | undefined },
  ): Promise<NodeAnswer>;
  /** Has the node open the job. Throws its refusal. */
  openJob(opening: RelayedOpening, signal: AbortSignal): Promise<{ tx: Hex }>;
  sendReceipt(receipt: Receipt): Promise<void>;
  /** The events of a request that has ended, from the first on. Throws `not-found` once they are not kept any more. */
  replay(requestId: Hex): Promise<AsyncGenerator<SseEvent>>;
  /** The job as its node sees it, with this request alone: figures of a peer, to be shown and never to be signed by. */
  getJob(requestId: Hex): Promise<JobDocument>;
  /** Asks the node to settle what it has earned now, so that the rest comes back before the deadline. */
  closeJob(): Promise<JobDocument>;
  close(): Promise<void>;
};

const MAX_ANSWER_BYTES = 32 * 1024 * 1024;
const CALL_TIMEOUT_MS = 15_000;
/** A relayed transaction is answered when it is mined. */
export const RELAY_TIMEOUT_MS = 60_000;
const DELIVERY_HEADER = "infernet-delivery";

/** A client of the node that serves this job, its TLS key pinned. */
export function openNodeClient(address: JobAddress): NodeClient {
  const { endpoint, tlsKeyHash, jobId, salt, offerHash, requestHash = SESSION_REQUEST_HASH } = address;
  const http = createHttpClient({ endpoint, tlsKeyHash });
  const jobHeaders = { [HEADERS.job]: jobId, [HEADERS.salt]: salt, [HEADERS.offer]: offerHash };
  const jobPath = `${JOBS_PATH}/${jobId}`;

  async function call(method: "GET" | "POST", path: string, headers: Record<string, string> = {}) {
    const signal = AbortSignal.timeout(CALL_TIMEOUT_MS);
    try {
      const answer = await http.request({ method, path, headers: { ...jobHeaders, ...headers }, signal });
      return await textOf(answer);
    } catch (cause) {
      if (cause !== signal.reason) throw cause;
      throw new InfernetError("node-unreachable", "the node did not answer in time", { cause });
    }
  }
  const readJob = (text: string) =>
    parseJsonWith(jobDocumentSchema, text, "node-misbehaved", "the job's document");

  return {
    async ask({ path, body }, { receipt, lastEventId, signal, idempotencyKey }) {
      const answer = await http.request({
        method: "POST",
        path,
        headers: {
          ...jobHeaders,
          [HEADERS.receipt]: formatReceipt(receipt),
          ...(lastEventId > 0 ? { [HEADERS.lastEventId]: String(lastEventId) } : {}),
          ...(idempotencyKey === undefined ? {} : { [HEADERS.idempotencyKey]: idempotencyKey }),
          "content-type": "application/json",
        },
        body,
        signal,
      });
      const isStream = answer.headers["content-type"]?.startsWith("text/event-stream");
      if (answer.status === 200 && isStream) return { kind: "stream", events: readSse(answer.body) };
      const payload = await textOf(answer);
      return { kind: "whole", payload, delivery: deliveryOf(answer) };
    },
    async openJob(opening, signal) {
      const timeout = AbortSignal.timeout(RELAY_TIMEOUT_MS);
      const text = await postJson(http, JOBS_PATH, opening, AbortSignal.any([signal, timeout]));
      const answer = parseJsonWith(openingAnswerSchema, text, "node-misbehaved", "the opening's answer");
      if (answer.jobId === jobId) return answer;
      throw new InfernetError("node-misbehaved", "the node says that it opened another job");
    },
    async sendReceipt(receipt) {
      const text = await call("POST", `${jobPath}/receipts`, { [HEADERS.receipt]: formatReceipt(receipt) });
      const { accepted } = parseJsonWith(
        receiptAnswerSchema,
        text,
        "node-misbehaved",
        "the receipt's answer",
      );
      if (accepted >= receipt.amount) return;
      throw new InfernetError(
        "node-misbehaved",
        `the node holds ${accepted} of a receipt of ${receipt.amount}`,
      );
    },
    async replay(requestId) {
      const path = `${jobPath}/requests/${requestId}`;
      const answer = await http.request({ method: "GET", path, headers: jobHeaders });
      if (answer.status !== 200) throw errorOfAnswer(answer, await answer.text());
      return readSse(answer.body);
    },
    getJob: async (requestId) => readJob(await call("GET", `${jobPath}?request=${requestId}`)),
    closeJob: async () => readJob(await call("POST", `${jobPath}/close`, { [HEADERS.request]: requestHash })),
    close: () => http.close(),
  };
}

/** Sends a JSON body and gives the answer's text. Throws the node's error by its code, and `node-unreachable`. */
export async function postJson(
  http: HttpClient,
  path: string,
  body: object,
  signal: AbortSignal,
): Promise<string> {
  try {
    const headers = { "content-type": "application/json" };
    return await textOf(await http.request({ method: "POST", path, headers, body: toJson(body), signal }));
  } catch (cause) {
    if (cause instanceof InfernetError || cause !== signal.reason) throw cause;
    throw new InfernetError("node-unreachable", "the node did not answer in time", { cause });
  }
}

async function textOf(answer: HttpAnswer): Promise<string> {
  const text = await answer.text(MAX_ANSWER_BYTES);
  if (answer.status >= 200 && answer.status < 300) return text;
  throw errorOfAnswer(answer, text);
}

const openAiErrorSchema = z.object({
  error: z.looseObject({ message: z.string(), code: z.string().nullish(), hint: z.string().optional() }),
});

/** A node's error: a problem document, or OpenAI's shape with the problem's figures beside its own members. */
function errorOfAnswer({ status, headers }: HttpAnswer, text: string): InfernetError {
  const retryAfter = Number(headers["retry-after"]);
  const waited = Number.isFinite(retryAfter) && retryAfter >= 0 ? { retryAfter } : {};
  const body = jsonOf(text);
  const openAi = openAiErrorSchema.safeParse(body).data?.error;
  const { message, code, hint, type: _type, param: _param, ...figures } = openAi ?? { message: "" };
  const told = openAi ? errorOfProblem({ ...figures, detail: message, code, hint }) : errorOfProblem(body);
  if (told) {
    const { hint: toldHint, data } = told;
    return new InfernetError(told.code, told.message, { hint: toldHint, data: { ...data, ...waited } });
  }
  // A server error without a word of the node's own is whatever stands before it.
  const fallback = status === 429 ? "node-busy" : status >= 500 ? "node-unreachable" : "node-misbehaved";
  return new InfernetError(fallback, `the node answered ${status}${message ? `: ${message}` : ""}`, {
    data: waited,
  });
}

function deliveryOf({ headers }: HttpAnswer): SignedDelivery | undefined {
  const header = headers[DELIVERY_HEADER];
  if (header === undefined) return undefined;
  const json = Buffer.from(header, "base64url").toString("utf8");
  return parseJsonWith(signedDeliverySchema, json, "node-misbehaved", "the delivery");
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** The error that a node told in an `error` event of a stream. */
export function errorOfEvent(problem: { code: string; detail: string }): InfernetError {
  return errorOfProblem(problem) ?? new InfernetError("upstream-failed", problem.detail);
}
