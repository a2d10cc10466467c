// Owns the judgement of a node's final word: whether a signed delivery is what the requester saw arrive.
import type { Address, Hex } from "../protocol/bytes.ts";
import { deliveryDigest, type SignedDelivery } from "../protocol/delivery.ts";
import { chargeOf, costMillionths, type Prices } from "../protocol/price.ts";
import type { Domain } from "../protocol/typed-data.ts";
import { recoverSigner } from "../runtime/signers/secp256k1.ts";

export type ExpectedDelivery = {
  domain: Domain;
  node: Address;
  jobId: Hex;
  requestId: Hex;
  modelDigest: Hex;
  prices: Prices;
  /** Due when the node's own transaction opened the job; 0 unless it was asked to. */
  openingFee: bigint;
  promptTokenBound: number;
  /** Null when the requester stopped reading before the end: then it cannot judge what else was released. */
  received: { transcript: Hex; textBytes: number } | null;
  /** The most that the requester has signed for. */
  signed: bigint;
  /**
   * For a request of a session: what all of the session may be charged by now, in base units. A single job's charge is
   * its only request's.
   */
  sessionCharge?: bigint;
};

/** Why a delivery is false, or undefined when nothing speaks against it. */
export function findDeliveryFault(delivery: SignedDelivery, expected: ExpectedDelivery): string | undefined {
  const { received, prices } = expected;
  if (recoverSigner(deliveryDigest(expected.domain, delivery), delivery.signature) !== expected.node)
    return "the delivery is not signed by the node";
  if (delivery.jobId !== expected.jobId || delivery.requestId !== expected.requestId)
    return "the delivery is for another request";
  if (delivery.modelDigest !== expected.modelDigest) return "the delivery names another model than the offer";
  if (received && delivery.transcript !== received.transcript)
    return "the delivery's transcript is not what arrived";
  if (received && delivery.completionTokens > received.textBytes)
    return `the delivery counts ${delivery.completionTokens} completion tokens, more than the text that arrived can hold`;
  if (delivery.promptTokens > expected.promptTokenBound)
    return `the delivery counts ${delivery.promptTokens} prompt tokens, more than the prompt can hold`;
  if (delivery.cost !== costMillionths(delivery, prices))
    return "the delivery's cost is not its counts at the offer's prices";
  const fault = faultOfCharge(delivery, expected);
  if (fault !== undefined) return fault;
  if (delivery.jobCharge > expected.signed) return "the delivery charges more than was signed for";
  return undefined;
}

function faultOfCharge(
  delivery: SignedDelivery,
  { prices, openingFee, sessionCharge }: ExpectedDelivery,
): string | undefined {
  const { jobCharge } = delivery;
  if (sessionCharge === undefined) {
    const charges = [0n, openingFee].map((fee) => chargeOf([delivery], prices, fee));
    return charges.includes(jobCharge) ? undefined : "the delivery's charge is not its cost, rounded up";
  }
  if (jobCharge < chargeOf([delivery], prices)) return "the delivery's job charge is below its own cost";
  if (jobCharge > sessionCharge)
    return `the delivery charges ${jobCharge} for the session, more than the ${sessionCharge} that its requests can have cost`;
  return undefined;
}
