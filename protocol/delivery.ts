// Owns the delivery: the node's signed word on what one request received, what it counted, and the job's charge.
import { z } from "zod";
import type { Hex } from "./bytes.ts";
import { hexSchema, uintSchema } from "./schema.ts";
import { type Domain, type StructType, typedDataDigest } from "./typed-data.ts";

/**
 * `cost` is this request's exact cost in millionths of a base unit; `jobCharge` the job's whole charge so far in
 * USDC base units. `estimated` says that the upstream ended without counting.
 */
export type Delivery = {
  jobId: Hex;
  requestId: Hex;
  transcript: Hex;
  modelDigest: Hex;
  promptTokens: number;
  completionTokens: number;
  estimated: boolean;
  cost: bigint;
  jobCharge: bigint;
};

/** `signature` is the node's, r || s || v, 65 bytes. */
export type SignedDelivery = Delivery & { signature: Hex };

export const DELIVERY_TYPE: StructType = {
  name: "Delivery",
  fields: [
    ["jobId", "bytes32"],
    ["requestId", "bytes32"],
    ["transcript", "bytes32"],
    ["modelDigest", "bytes32"],
    ["promptTokens", "uint64"],
    ["completionTokens", "uint64"],
    ["estimated", "bool"],
    ["cost", "uint256"],
    ["jobCharge", "uint96"],
  ],
};

/** Reads a signed delivery as JSON carries it: bigints as decimal strings. */
export const signedDeliverySchema = z.object({
  jobId: hexSchema(32),
  requestId: hexSchema(32),
  transcript: hexSchema(32),
  modelDigest: hexSchema(32),
  promptTokens: z.int().nonnegative(),
  completionTokens: z.int().nonnegative(),
  estimated: z.boolean(),
  cost: uintSchema(256),
  jobCharge: uintSchema(96),
  signature: hexSchema(65),
});

/** What the node signs. */
export function deliveryDigest(domain: Domain, delivery: Delivery): Hex {
  return typedDataDigest(domain, DELIVERY_TYPE, delivery);
}
