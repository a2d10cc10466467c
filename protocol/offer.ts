// Owns the offer: a node's price list and terms, the exact bytes that are hashed and signed, and its checks.
import { z } from "zod";
import { type Hex, keccak256, utf8 } from "./bytes.ts";
import { InfernetError } from "./errors.ts";
import type { Prices } from "./price.ts";
import { addressSchema, hexSchema, parseJsonWith, toJson, uintSchema } from "./schema.ts";
import { type Domain, type StructType, typedDataDigest } from "./typed-data.ts";

const offeredModelSchema = z.object({
  name: z.string().min(1).max(128),
  /** SHA-256 of the weights or the upstream's digest; zero when the upstream tells none. */
  digest: hexSchema(32),
  inputPrice: uintSchema(64),
  outputPrice: uintSchema(64),
  /** Tokens of prompt and completion together. */
  contextLength: z.int().positive(),
  /** All that it does, as `MODEL_FEATURES` of features.ts names it; a word that nobody knows promises nothing. */
  features: z.array(z.string().min(1).max(32)).max(32),
});

export const offerSchema = z.object({
  protocol: z.literal("infernet/1"),
  node: addressSchema,
  payee: addressSchema,
  chainId: z.int().positive(),
  registry: addressSchema,
  escrow: addressSchema,
  usdc: addressSchema,
  endpoint: z.url({ protocol: /^https?$/ }).max(256),
  /** SHA-256 of the DER SubjectPublicKeyInfo of the node's TLS key; null where the endpoint is plain HTTP. */
  tlsKeyHash: hexSchema(32).nullable(),
  issuedAt: z.int().nonnegative(),
  expires: z.int().nonnegative(),
  /** None while nothing that runs them is up. */
  models: z.array(offeredModelSchema).max(256),
  chunkTokens: z.int().min(1).max(4096),
  receiptTimeoutSeconds: z.int().min(1).max(600),
  /** Completion tokens of a request that names no limit, and the most that one may name. */
  maxCompletionTokens: z.int().min(1).max(1_000_000),
  longestRequestSeconds: z.int().min(1).max(86_400),
  minDeposit: uintSchema(96),
  /** Part of the charge of a job that this node's own transaction opened. */
  openingFee: uintSchema(96),
  /** The least fee of a withdrawal that the node is to broadcast. */
  relayFee: uintSchema(96),
  /** Requests that run at the same time, over all that runs its models and is up. */
  capacity: z.int().min(0).max(10_000),
});

export type OfferedModel = z.infer<typeof offeredModelSchema>;
export type Offer = z.infer<typeof offerSchema>;

/** An offer as it is served: `bytes` are exactly what was hashed and signed; `signature` is r || s || v. */
export type SignedOffer = { offer: Offer; bytes: Uint8Array; offerHash: Hex; signature: Hex };

export const OFFER_TYPE: StructType = {
  name: "Offer",
  fields: [
    ["offerHash", "bytes32"],
    ["node", "address"],
    ["issuedAt", "uint40"],
    ["expires", "uint40"],
  ],
};

const servedOfferSchema = z.object({
  offer: z
    .string()
    .max(1 << 20)
    .regex(/^[A-Za-z0-9_-]+$/, "expected base64url"),
  signature: hexSchema(65),
});

/** The bytes of an offer: its JSON, once and for all. */
export function encodeOffer(offer: Offer): Uint8Array {
  return utf8(toJson(offer));
}

/** What the node signs. */
export function offerDigest(domain: Domain, offer: Offer, offerHash: Hex): Hex {
  const { node, issuedAt, expires } = offer;
  return typedDataDigest(domain, OFFER_TYPE, { offerHash, node, issuedAt, expires });
}

/** The body that `GET /.well-known/infernet` answers with. */
export function formatServedOffer(signed: SignedOffer): string {
  return toJson({ offer: Buffer.from(signed.bytes).toString("base64url"), signature: signed.signature });
}

/** Reads a served offer. Throws `offer-invalid`; the signature is still to be checked against the node's address. */
export function parseServedOffer(body: string): SignedOffer {
  const served = parseJsonWith(servedOfferSchema, body, "offer-invalid", "the offer");
  return {
    ...decodeOffer(new Uint8Array(Buffer.from(served.offer, "base64url"))),
    signature: served.signature,
  };
}

/** Reads an offer's bytes. Throws `offer-invalid`. */
export function decodeOffer(bytes: Uint8Array): Omit<SignedOffer, "signature"> {
  const text = Buffer.from(bytes).toString("utf8");
  const offer = parseJsonWith(offerSchema, text, "offer-invalid", "the offer");
  return { offer, bytes, offerHash: keccak256(bytes) };
}

/** The model of this name in an offer. Throws `model-not-offered` with the names that are. */
export function offeredModel(offer: Offer, name: string): OfferedModel {
  const model = offer.models.find((candidate) => candidate.name === name);
  if (model) return model;
  const names = offer.models.map((candidate) => candidate.name);
  throw new InfernetError("model-not-offered", `the node does not offer the model "${name}"`, {
    hint: `It offers: ${names.join(", ")}.`,
  });
}

/** A model's ceiling in the Registry. */
export type ListedModel = Prices & { name: string; digest: Hex };

/** Throws `offer-invalid` when an offer is dearer than the Registry's ceiling, or offers what is not listed there. */
export function checkPriceCeiling(model: OfferedModel, listed: readonly ListedModel[]): void {
  const ceiling = listed.find((candidate) => candidate.name === model.name);
  if (!ceiling)
    throw new InfernetError("offer-invalid", `the Registry does not list the model "${model.name}"`);
  if (model.inputPrice > ceiling.inputPrice || model.outputPrice > ceiling.outputPrice) {
    throw new InfernetError(
      "offer-invalid",
      `the offer is dearer than the Registry allows for "${model.name}"`,
      {
        hint: "Choose another node: this one asks more than it listed.",
      },
    );
  }
}
