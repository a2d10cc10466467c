// Owns the care for jobs that nobody works on: what a crash or a silent node left open is brought to its end.
import type { Chain } from "../chain/chain.ts";
import type { Hex } from "../protocol/bytes.ts";
import { InfernetError } from "../protocol/errors.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Log } from "../runtime/logger.ts";
import { readBlockTime } from "./block-time.ts";
import type { RequesterLedger } from "./ledger.ts";
import { isSession, type LedgerJob } from "./ledger-rows.ts";
import { isKept } from "./sessions/left-session.ts";
import { FINISHED, type Settlement, UNOPENED } from "./settlement.ts";
import type { WorkList } from "./work-list.ts";

type TendingDeps = {
  chain: Chain;
  ledger: RequesterLedger;
  settlement: Settlement;
  work: WorkList;
  log: Log;
  clock: Clock;
  /** A session that nobody has in hand waits so long for the next process. */
  idleSeconds: number;
  /** Has its node close a session that is in hand here. */
  closeSession(job: LedgerJob): Promise<void>;
};

/** Jobs that ended and that a look at what was left also asks the chain about: those that wait the longest. */
const MOST_ENDED_LOOKED_AT = 20;

/**
 * Brings unfinished jobs that nobody works on further: synced, closed by their nodes, or refunded. Returns them. `left`
 * are those that a crash left or whose deadline is over; of others, whose nodes know that they ended, some are synced.
 */
export async function tendJobs(deps: TendingDeps, which: "all" | "left"): Promise<LedgerJob[]> {
  const { ledger, work, log } = deps;
  const tended: LedgerJob[] = [];
  const now = await readBlockTime(deps.chain, deps.clock);
  for (const { jobId } of which === "all" ? ledger.unfinishedJobs() : await leftJobs(deps)) {
    const before = ledger.findJob(jobId)!;
    if (isWaiting(before, deps.idleSeconds, now) || !work.take(jobId)) continue;
    try {
      await tendJob(deps, jobId, which);
    } catch (error) {
      if (!(error instanceof InfernetError)) throw error;
      log.warn({ job: jobId, code: error.code }, `the job stays unfinished: ${error.message}`);
    } finally {
      work.leave(jobId);
    }
    tended.push(ledger.findJob(jobId)!);
  }
  return tended;
}

async function leftJobs({ chain, clock, ledger }: TendingDeps): Promise<LedgerJob[]> {
  const unfinished = ledger.unfinishedJobs();
  if (unfinished.length === 0) return [];
  const now = await readBlockTime(chain, clock);
  const waits = ({ phase, job }: LedgerJob) => phase === "ended" && now < job.deadline;
  const waiting = unfinished.filter(waits).slice(-MOST_ENDED_LOOKED_AT);
  return [...unfinished.filter((job) => !waits(job)), ...waiting];
}

/** An open session that was used lately waits for the next process that has requests for it. */
function isWaiting(job: LedgerJob, idleSeconds: number, now: number): boolean {
  if (!isSession(job) || (job.phase !== "open" && job.phase !== "streaming")) return false;
  return now < job.job.deadline && isKept(job, idleSeconds, now);
}

async function tendJob(deps: TendingDeps, jobId: Hex, which: "all" | "left"): Promise<void> {
  const { chain, ledger, settlement } = deps;
  // The time is read before the state: a state of this block or a later one shows what was opened up to it.
  const { timestamp } = await chain.getBlock("latest");
  const synced = await settlement.sync(jobId);
  const { phase, terms, job, consent, openTx } = synced;
  if (FINISHED.includes(phase)) return;
  const isOver = timestamp >= job.deadline;
  if (UNOPENED.includes(phase)) {
    // Nothing of a job that was only planned ever left. A consent that expired opens nothing; no job opens past its deadline.
    const isExpired = consent !== null && openTx === null && timestamp >= consent.validBefore;
    if (phase === "planned" || isExpired || isOver) ledger.dropJob(jobId);
    return;
  }
  if (which === "left" && phase === "ended" && !isOver) return;
  if (isSession(synced) && phase !== "ended" && !isOver) {
    await deps.closeSession(synced);
    await settlement.sync(jobId);
    return;
  }
  ledger.noteEnded(jobId, null);
  if (isOver) await settlement.refund(jobId);
  else if (terms) await settlement.closeAtNode(jobId);
  await settlement.sync(jobId);
}
