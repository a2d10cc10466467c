// Owns how large a job is made: its deposit, its deadline and its first receipt, before anything is signed.
// `openingFee` is what the node asks for opening it, where the node is to.
import { earliestDeadline } from "../protocol/funding.ts";
import type { Offer, OfferedModel } from "../protocol/offer.ts";
import { chargeOf, estimatePromptTokens, least, most } from "../protocol/price.ts";
import { completionLimit, type ModelRequest } from "./model-request.ts";

const DEFAULT_LIFE_SECONDS = 3600;
/** Seconds that an opening may take to be mined, so that its deadline is still far enough away then. */
const OPENING_SLACK_SECONDS = 120;

/** What a request is expected to cost at most: prompt as estimated, every completion token that it allows. */
export function estimateCost(
  request: ModelRequest,
  model: OfferedModel,
  offer: Offer,
  openingFee = 0n,
): bigint {
  const promptTokens = estimatePromptTokens(request.promptTextBytes);
  return chargeOf([{ promptTokens, completionTokens: completionLimit(request, offer) }], model, openingFee);
}

/** The deposit of a request's own job: its worst cost within `maxCharge`, but the offer's minimum at least. */
export function depositFor(
  request: ModelRequest,
  model: OfferedModel,
  offer: Offer,
  maxCharge: bigint,
  openingFee = 0n,
): bigint {
  const counts = {
    promptTokens: request.promptTokenBound,
    completionTokens: completionLimit(request, offer),
  };
  return most(least(chargeOf([counts], model, openingFee), maxCharge), offer.minDeposit);
}

/** The deadline, in Unix seconds, of a job opened about now: an hour away, or as near or far as asked and allowed. */
export function deadlineFor(offer: Offer, now: number, lifeSeconds = DEFAULT_LIFE_SECONDS): number {
  return Math.max(now + lifeSeconds, earliestDeadline(offer, now) + OPENING_SLACK_SECONDS);
}

/** The receipt that a request starts with: its estimated prompt and `aheadTokens` of its answer. */
export function firstReceiptAmount(
  request: ModelRequest,
  model: OfferedModel,
  aheadTokens: number,
  openingFee = 0n,
): bigint {
  const promptTokens = estimatePromptTokens(request.promptTextBytes);
  return chargeOf([{ promptTokens, completionTokens: aheadTokens }], model, openingFee);
}
