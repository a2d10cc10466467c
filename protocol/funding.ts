// Owns when a job counts as funded: the checks between an `Opened` event and the first token, and the deadlines.
import type { Address, Hex } from "./bytes.ts";
import { InfernetError } from "./errors.ts";
import { type Job, type JobState, type JobTerms, jobHashOf } from "./job.ts";
import type { Offer } from "./offer.ts";

const SHORTEST_MARGIN_SECONDS = 600;
const LONGEST_LIFE_SECONDS = 30 * 24 * 3600;

/** Seconds before its deadline at which a job stops serving and is settled: 10 minutes, or a tenth of its life. */
export function marginSeconds(openedAt: number, deadline: number): number {
  return Math.max(SHORTEST_MARGIN_SECONDS, Math.floor((deadline - openedAt) / 10));
}

/** The earliest deadline, in Unix seconds, that a node with this offer accepts for a job opened at `openedAt`. */
export function earliestDeadline(offer: Pick<Offer, "longestRequestSeconds">, openedAt: number): number {
  const byShortest = SHORTEST_MARGIN_SECONDS + offer.longestRequestSeconds;
  // With a margin of a tenth of the life L, L >= L/10 + longest means L >= longest * 10 / 9.
  return openedAt + Math.max(byShortest, Math.ceil((offer.longestRequestSeconds * 10) / 9));
}

/** What the chain showed of a job when it opened. Times are block times in Unix seconds. */
export type OpenedJob = {
  jobId: Hex;
  job: Job;
  deposit: bigint;
  openedAt: number;
  /** The payee that the Registry named at the opening block. */
  registeredPayee: Address;
};

/**
 * Throws `job-not-funded`, `job-closed` or `job-expired` unless the job pays this node under this offer now.
 * `state` is re-read at the confirmed block, `now` is its block time.
 */
export function checkFunded(opened: OpenedJob, state: JobState, offer: Offer, now: number): void {
  const { job, openedAt } = opened;
  const refuse = (message: string, hint = "The deposit can be refunded: infernet job refund.") => {
    throw new InfernetError("job-not-funded", message, { hint });
  };
  if (state.status === "closed") throw new InfernetError("job-closed", "the job is closed");
  if (state.status !== "open") refuse("the job is not open at the confirmed block");
  if (job.node !== offer.node) refuse("the job names another node");
  if (job.payee !== opened.registeredPayee) refuse("the job's payee is not the one that the Registry names");
  if (state.deposit < offer.minDeposit)
    refuse(`the deposit is under the offer's minimum of ${offer.minDeposit}`);
  if (openedAt < offer.issuedAt || openedAt > offer.expires)
    refuse("the offer was not valid when the job opened");
  if (job.deadline > openedAt + LONGEST_LIFE_SECONDS) refuse("the deadline is too far away");
  if (job.deadline < earliestDeadline(offer, openedAt)) refuse("the deadline is too near for this offer");
  checkBeforeMargin(opened, now);
}

/** Throws `job-expired` when block time `now` is past the job's deadline margin. */
export function checkBeforeMargin(opened: Pick<OpenedJob, "job" | "openedAt">, now: number): void {
  const { job, openedAt } = opened;
  if (now <= job.deadline - marginSeconds(openedAt, job.deadline)) return;
  throw new InfernetError("job-expired", "the job is too near its deadline to serve", {
    hint: "Open a new job; what this one did not use comes back.",
  });
}

/** Throws `request-mismatch` unless salt, offer and request open the job's hash: the salt is the job's password. */
export function checkTerms(job: Pick<Job, "jobHash">, terms: JobTerms): void {
  if (jobHashOf(terms) === job.jobHash) return;
  throw new InfernetError("request-mismatch", "salt, offer and request do not open the job's hash", {
    hint: "Send the same bytes that the job was opened for, with its salt and offer.",
  });
}
