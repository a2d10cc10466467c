// Owns what makes a receipt good: signed by the job's signer, within its deposit, over a transcript that was reached.
import { type Address, type Hex, ZERO_WORD } from "../protocol/bytes.ts";
import { InfernetError } from "../protocol/errors.ts";
import { SESSION_REQUEST_HASH, singleRequestId } from "../protocol/job.ts";
import { parseReceipt, type Receipt, receiptDigest } from "../protocol/receipt.ts";
import { extendTranscript } from "../protocol/transcript.ts";
import type { Domain } from "../protocol/typed-data.ts";
import { recoverSigner } from "../runtime/signers/secp256k1.ts";
import type { JobLedger } from "./job-ledger.ts";
import type { LedgerJob } from "./ledger-rows.ts";

export type ReceiptDesk = {
  /**
   * Takes the receipt of a header's value and gives the highest amount held. One that is not higher changes nothing.
   * Throws `bad-receipt`.
   */
  accept(job: LedgerJob, header: string): Promise<bigint>;
};

/** A walk over a request's transcripts, continued where it stopped. */
type Walk = { lastEventId: number; transcript: Hex; reached: Set<Hex> };
/** Walks that are remembered; a forgotten one is walked again from the ledger. */
const REMEMBERED_WALKS = 256;

/** `onAccepted` is told of every receipt that raised a job's mark, after it is durable. */
export function createReceiptDesk(
  domain: Domain,
  ledger: JobLedger,
  onAccepted: (jobId: Hex) => void,
): ReceiptDesk {
  const walks = new Map<Hex, Walk>();

  const walkOf = (requestId: Hex): Walk => {
    const walk = walks.get(requestId) ?? {
      lastEventId: 0,
      transcript: requestId,
      reached: new Set([requestId]),
    };
    for (const { id, payload } of ledger.payloadsAfter(requestId, walk.lastEventId)) {
      walk.lastEventId = id;
      walk.transcript = extendTranscript(walk.transcript, payload);
      walk.reached.add(walk.transcript);
    }
    walks.delete(requestId);
    walks.set(requestId, walk);
    for (const oldest of walks.keys()) {
      if (walks.size <= REMEMBERED_WALKS) break;
      walks.delete(oldest);
    }
    return walk;
  };

  const checkTranscript = (job: LedgerJob, transcript: Hex): void => {
    if (transcript === ZERO_WORD) return;
    const { jobId, requestHash } = job;
    const single = requestHash !== null && requestHash !== SESSION_REQUEST_HASH;
    if (single && walkOf(singleRequestId(jobId, requestHash)).reached.has(transcript)) return;
    throw new InfernetError("bad-receipt", "the receipt's transcript is none that this job reached", {
      hint: "Sign the last transcript received, or 32 zero bytes before the first event and in sessions.",
    });
  };

  return {
    async accept(job, header) {
      const receipt = parseReceipt(job.jobId, header);
      checkReceipt(domain, receipt, { signer: job.job.signer, deposit: job.deposit });
      const held = ledger.findJob(job.jobId)?.receipt?.amount ?? 0n;
      if (receipt.amount <= held) return held;
      checkTranscript(job, receipt.transcript);
      const highest = await ledger.acceptReceipt(receipt);
      onAccepted(job.jobId);
      return highest;
    },
  };
}

/** Throws `bad-receipt` unless the job's signer signed the receipt and its deposit covers it. */
export function checkReceipt(
  domain: Domain,
  receipt: Receipt,
  { signer, deposit }: { signer: Address; deposit: bigint },
): void {
  if (recoverSigner(receiptDigest(domain, receipt), receipt.signature) !== signer)
    throw new InfernetError("bad-receipt", "the receipt is not signed by the job's signer");
  if (receipt.amount > deposit)
    throw new InfernetError("bad-receipt", `the receipt is above the job's deposit of ${deposit}`);
}
