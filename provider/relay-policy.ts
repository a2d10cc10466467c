// Owns what a relayed opening must show before it costs the node anything: pure checks, from cheap to dear.
import type { NodeListing } from "../chain/chain.ts";
import { type Address, type Hex, ZERO_WORD } from "../protocol/bytes.ts";
import { InfernetError } from "../protocol/errors.ts";
import { checkFunded, checkTerms } from "../protocol/funding.ts";
import type { Offer } from "../protocol/offer.ts";
import { parseReceipt } from "../protocol/receipt.ts";
import type { RelayedOpening } from "../protocol/relay.ts";
import type { Domain } from "../protocol/typed-data.ts";
import { checkReceipt } from "./receipts.ts";
import type { OpeningTerms } from "./relay-ledger.ts";

/** Seconds that a transaction may take until it is mined: what is signed must stay valid so long. */
export const MINING_SECONDS = 60;

/** Whose opening it would be, and under which offer; `now` is block time, or local time when that is later. */
export type OpeningScene = { domain: Domain; node: Address; offer: Offer; now: number };

/**
 * What the requester gave beside its consent, once it is good. Throws `request-mismatch`, `bad-receipt`,
 * `receipt-too-small` with the `need`, or `relay-refused`.
 */
export function checkOpening(jobId: Hex, opening: RelayedOpening, scene: OpeningScene): OpeningTerms {
  const { job, amount, terms, by } = opening;
  const { domain, node, offer, now } = scene;
  if (job.node !== node) throw refusal("the job names another node");
  checkTerms(job, terms);
  const receipt = parseReceipt(jobId, opening.receipt);
  checkReceipt(domain, receipt, { signer: job.signer, deposit: amount });
  if (receipt.transcript !== ZERO_WORD)
    throw new InfernetError("bad-receipt", "the first receipt's transcript must be 32 zero bytes");
  const { openingFee } = offer;
  if (receipt.amount < openingFee) {
    throw new InfernetError(
      "receipt-too-small",
      `the opening costs ${openingFee}, ${receipt.amount} is signed`,
      {
        hint: "Sign a first receipt of at least `need` base units, or open the job by your own transaction.",
        data: { need: openingFee.toString() },
      },
    );
  }
  if (by.validBefore < now + MINING_SECONDS) throw refusal("the signature is about to expire");
  return { terms, receipt, openingFee };
}

/** Throws what `checkFunded` throws unless the job, mined about now, would pay this node. */
export function checkWouldPay(
  jobId: Hex,
  { job, amount }: RelayedOpening,
  { offer, now }: OpeningScene,
  listing: NodeListing | undefined,
): void {
  if (!listing?.active) throw refusal("the node is switched off in the Registry");
  const opened = {
    jobId,
    job,
    deposit: amount,
    openedAt: now + MINING_SECONDS,
    registeredPayee: listing.payee,
  };
  checkFunded(opened, { status: "open", deposit: amount, claimed: 0n }, offer, now);
}

/** A refusal of the node's own choice: the same can be done without it. */
export function refusal(
  message: string,
  data: Record<string, string | number> = {},
  cause?: unknown,
): InfernetError {
  return new InfernetError("relay-refused", message, {
    hint: "Send a transaction of your own, which needs the chain's own coin for gas, or choose another node.",
    data,
    cause,
  });
}
