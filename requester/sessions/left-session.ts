// Owns the end of a session that no process has in hand any more: closed by its node, with what its last requests came to.
import type { LedgerJob } from "../ledger-rows.ts";
import { Session } from "./session.ts";
import type { SessionDeps } from "./session-answer.ts";

/** Whether a session that nobody has in hand is kept for the next process: it was used lately, by a node that never lied. */
export function isKept(
  { openedAt, usedAt, createdAt, evidence }: LedgerJob,
  idleSeconds: number,
  now: number,
): boolean {
  return evidence === null && now < Math.max(openedAt ?? 0, usedAt ?? 0, createdAt) + idleSeconds;
}

/** Has its node close a session that is in this process's hand. Throws what its node says against it. */
export async function closeLeftSession(deps: SessionDeps, job: LedgerJob): Promise<void> {
  deps.ledger.requests.loseRunning(job.jobId, deps.clock.nowSeconds());
  const session = new Session(deps, deps.ledger.findJob(job.jobId)!, 0, () => {});
  try {
    await session.close();
  } finally {
    await session.leave();
  }
}
