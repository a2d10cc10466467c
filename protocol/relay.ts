// Owns what a node broadcasts for requesters that own no gas: relayed openings of jobs, and moves of their money.
import { z } from "zod";
import { type Hex, isHex } from "./bytes.ts";
import { addressSchema, hexSchema, uintSchema } from "./schema.ts";

/** Where moves go; openings go to `JOBS_PATH`. */
export const RELAY_PATH = "/infernet/relay";

/**
 * Seconds that what is signed for a node to broadcast stays valid. A node that keeps it back can use it until then, so
 * until then the money is not free.
 */
export const RELAY_SECONDS = 600;

const MAX_SIGNATURE_BYTES = 4096;
const MAX_TIME = 2 ** 40 - 1;

const timeSchema = z.int().min(0).max(MAX_TIME);

/** A key's signature is r || s || v; a smart wallet's is whatever its code reads. */
const signatureSchema = z.custom<Hex>(
  (value) => isHex(value) && value.length > 2 && value.length <= 2 + 2 * MAX_SIGNATURE_BYTES,
  "expected 0x and lower-case hex digits",
);

const jobSchema = z.strictObject({
  requester: addressSchema,
  signer: addressSchema,
  node: addressSchema,
  payee: addressSchema,
  jobHash: hexSchema(32),
  deadline: timeSchema,
});

const authorizationSchema = z.strictObject({
  validAfter: timeSchema,
  validBefore: timeSchema,
  signature: signatureSchema,
});

/**
 * The body of `POST /infernet/jobs`. `by` is the requester's consent: an EIP-3009 authorisation whose nonce is the
 * job's id, or its signature over Open from its credit. `receipt` is the first one, written as in its header.
 */
export const relayedOpeningSchema = z.strictObject({
  job: jobSchema,
  amount: uintSchema(96),
  terms: z.strictObject({ salt: hexSchema(32), offerHash: hexSchema(32), requestHash: hexSchema(32) }),
  receipt: z.string().max(256),
  by: z.discriminatedUnion("kind", [
    authorizationSchema.extend({ kind: z.literal("authorization") }),
    z.strictObject({ kind: z.literal("credit"), validBefore: timeSchema, signature: signatureSchema }),
  ]),
});
export type RelayedOpening = z.infer<typeof relayedOpeningSchema>;

/** The requester's consent to an opening by somebody else's transaction. */
export type OpeningConsent = RelayedOpening["by"];

/** The body of `POST /infernet/relay`: one move of money that its owner signed, or a refund, which needs no signature. */
export const relayedMoveSchema = z.discriminatedUnion("kind", [
  z.strictObject({
    kind: z.literal("deposit"),
    owner: addressSchema,
    amount: uintSchema(96),
    salt: hexSchema(32),
    by: authorizationSchema,
  }),
  z.strictObject({
    kind: z.literal("withdraw"),
    owner: addressSchema,
    to: addressSchema,
    amount: uintSchema(96),
    fee: uintSchema(96),
    nonce: hexSchema(32),
    validBefore: timeSchema,
    signature: signatureSchema,
  }),
  z.strictObject({ kind: z.literal("refund"), job: jobSchema }),
]);
export type RelayedMove = z.infer<typeof relayedMoveSchema>;

/** The answer to a relayed opening: `tx` is the transaction that opened the job, whoever sent it. */
export const openingAnswerSchema = z.object({ jobId: hexSchema(32), tx: hexSchema(32) });

/** The answer to a relayed move; `tx` is null when the chain had it done already by an unknown transaction. */
export const moveAnswerSchema = z.object({ tx: hexSchema(32).nullable() });
