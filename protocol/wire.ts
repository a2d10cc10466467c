// Owns what requester and node say to each other over HTTP: header names, `infernet` events and job documents.
import { z } from "zod";
import { type Hex, isHex } from "./bytes.ts";
import { signedDeliverySchema } from "./delivery.ts";
import { InfernetError } from "./errors.ts";
import { type JobTerms, SESSION_REQUEST_HASH } from "./job.ts";
import { hexSchema, uintSchema } from "./schema.ts";

export const HEADERS = {
  job: "infernet-job",
  salt: "infernet-salt",
  offer: "infernet-offer",
  request: "infernet-request",
  receipt: "infernet-receipt",
  idempotencyKey: "idempotency-key",
  lastEventId: "last-event-id",
} as const;

export const OFFER_PATH = "/.well-known/infernet";
export const JOBS_PATH = "/infernet/jobs";
/** The model routes that jobs pay for. */
export const MODEL_PATHS = ["/v1/chat/completions", "/v1/completions", "/v1/embeddings"] as const;
export type ModelPath = (typeof MODEL_PATHS)[number];

/** The name of the SSE events that carry the protocol's own words beside the model's. */
export const INFERNET_EVENT = "infernet";

const problemSchema = z.looseObject({ code: z.string(), detail: z.string() });

/**
 * An `event: infernet`: `need` asks for a receipt of at least this cumulative amount; `delivery` closes a stream with
 * the signed delivery; `error` tells why a stream ended early (a delivery of what was released follows it).
 */
export const infernetEventSchema = z.discriminatedUnion("type", [
  z.object({ type: z.literal("need"), need: uintSchema(96) }),
  z.object({ type: z.literal("delivery"), delivery: signedDeliverySchema }),
  z.object({ type: z.literal("error"), problem: problemSchema }),
]);
export type InfernetEvent = z.infer<typeof infernetEventSchema>;

/** The answer to `POST /infernet/jobs/{id}/receipts`: the highest receipt that the node holds. */
export const receiptAnswerSchema = z.object({ accepted: uintSchema(96) });

/**
 * The answer to `GET /infernet/jobs/{id}` and to `POST …/close`. Amounts in USDC base units. `requests` are those that
 * run and the last that ended, newest first; with `?request=<id>` that one alone.
 */
export const jobDocumentSchema = z.object({
  jobId: hexSchema(32),
  status: z.enum(["open", "settling", "closed"]),
  deposit: uintSchema(96),
  receipt: uintSchema(96),
  charge: uintSchema(96),
  claimed: uintSchema(96),
  deadline: z.int(),
  requests: z.array(
    z.object({
      requestId: hexSchema(32),
      status: z.enum(["running", "ended"]),
      lastEventId: z.int().nonnegative(),
      delivery: signedDeliverySchema.nullable(),
    }),
  ),
});
export type JobDocument = z.infer<typeof jobDocumentSchema>;

/**
 * The terms of a job in a call that closes it: salt and offer as on every call and, of a single job, `Infernet-Request`,
 * the hash of its request. Undefined unless all that are sent are well formed.
 */
export function readTermsHeaders(
  headers: Readonly<Record<string, string | string[] | undefined>>,
): JobTerms | undefined {
  const salt = headers[HEADERS.salt];
  const offerHash = headers[HEADERS.offer];
  const requestHash = headers[HEADERS.request] ?? SESSION_REQUEST_HASH;
  if (!isHex(salt, 32) || !isHex(offerHash, 32) || !isHex(requestHash, 32)) return undefined;
  return { salt, offerHash, requestHash };
}

/** The three words that open a job's door. Throws `payment-required` when none is sent, `bad-request` when one is wrong. */
export function readJobHeaders(headers: Record<string, string | string[] | undefined>): {
  jobId: Hex;
  salt: Hex;
  offerHash: Hex;
} {
  const read = (name: string): Hex => {
    const value = headers[name];
    if (isHex(value, 32)) return value;
    throw new InfernetError("bad-request", `${name} must be 0x and 64 lower-case hex digits`);
  };
  if (headers[HEADERS.job] === undefined) {
    throw new InfernetError("payment-required", "this request names no job that pays for it", {
      hint: "Open a job in the Escrow and send Infernet-Job, Infernet-Salt, Infernet-Offer and Infernet-Receipt.",
    });
  }
  return { jobId: read(HEADERS.job), salt: read(HEADERS.salt), offerHash: read(HEADERS.offer) };
}
