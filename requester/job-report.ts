// Owns what a job looks like to people and programs: the ledger's facts without secrets.
import type { Address, Hex } from "../protocol/bytes.ts";
import type { SignedDelivery } from "../protocol/delivery.ts";
import { isSession, type JobPhase, type LedgerJob } from "./ledger-rows.ts";

/** Amounts in USDC base units, times in Unix seconds. */
export type JobReport = {
  jobId: Hex;
  phase: JobPhase;
  /** A session pays for many requests; null for a job that was recovered from the chain. */
  kind: "single" | "session" | null;
  node: Address;
  /** Null for a job that was recovered from the chain. */
  model: string | null;
  deposit: bigint;
  /** The most that the node can claim by our receipts. */
  signed: bigint;
  /** What the node earned, and what came back as credit; null until the chain has closed the job. */
  charge: bigint | null;
  returned: bigint | null;
  /** From then on whatever is unclaimed can be refunded. */
  deadline: number;
  createdAt: number;
  openTx: Hex | null;
  delivery: SignedDelivery | null;
  /** What shows that the node lied, as JSON; null when nothing does. */
  evidence: string | null;
};

export function reportJob(ledgerJob: LedgerJob): JobReport {
  const { jobId, phase, job, terms, deposit, signed, claimed, createdAt, openTx } = ledgerJob;
  const { delivery, evidence } = ledgerJob;
  return {
    kind: terms === null ? null : isSession(ledgerJob) ? "session" : "single",
    ...{ jobId, phase, node: job.node, model: terms?.model ?? null },
    ...{ deposit, signed, charge: claimed, returned: claimed === null ? null : deposit - claimed },
    ...{ deadline: job.deadline, createdAt, openTx, delivery, evidence },
  };
}
