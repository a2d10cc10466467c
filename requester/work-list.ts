// Owns who works on a job: one process at a time, so that what is in hand is neither tended nor paid for by another.
import type { Hex } from "../protocol/bytes.ts";
import type { RequesterLedger } from "./ledger.ts";
import type { LedgerJob } from "./ledger-rows.ts";

export type WorkList = {
  /** Takes a job in hand; false when somebody has it, in this process or in another one that is alive. */
  take(jobId: Hex): boolean;
  leave(jobId: Hex): void;
  /** Whether nobody has a job in hand, as far as the ledger showed it. */
  isFree(job: Pick<LedgerJob, "jobId" | "worker">): boolean;
  /** The jobs that this process has in hand. */
  jobs(): Hex[];
};

export function createWorkList(ledger: RequesterLedger): WorkList {
  const inHand = new Set<Hex>();
  // A worker with this process's id is a run before it: its own jobs are in hand.
  const isLeft = (worker: number) => worker === process.pid || !isAlive(worker);
  return {
    take(jobId) {
      if (inHand.has(jobId)) return false;
      if (!ledger.takeJob(jobId, process.pid, isLeft)) return false;
      inHand.add(jobId);
      return true;
    },
    leave(jobId) {
      if (inHand.delete(jobId)) ledger.leaveJob(jobId);
    },
    isFree: ({ jobId, worker }) => !inHand.has(jobId) && (worker === null || isLeft(worker)),
    jobs: () => [...inHand],
  };
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}
