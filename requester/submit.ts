// Owns the way from a wish to an open job: a job of an earlier run that still pays for it, or a chosen node's new one.
import { InfernetError } from "../protocol/errors.ts";
import { marginSeconds } from "../protocol/funding.ts";
import { least } from "../protocol/price.ts";
import { readBlockTime } from "./block-time.ts";
import type { BudgetLimits } from "./budget.ts";
import { chooseNode } from "./choose.ts";
import type { LedgerJob } from "./ledger-rows.ts";
import { type ModelRequest, readModelRequest } from "./model-request.ts";
import type { JobOpener } from "./opening.ts";
import { type PaidRequestDeps, payRequest } from "./paid-request.ts";
import type { Bill, SubmitEvent, SubmitInput } from "./submission.ts";
import type { WorkList } from "./work-list.ts";

export type SubmitDeps = PaidRequestDeps & {
  opener: JobOpener;
  limits: BudgetLimits;
  work: WorkList;
  /** Begins to bring the jobs of earlier runs to their end that nobody takes over. */
  tendLeft(): void;
};

type Emit = (event: SubmitEvent) => void;

const MAX_LIFE_SECONDS = 30 * 24 * 3600;

/**
 * Pays for one request and reads its answer. Throws what went wrong by its code; before any token nothing is signed but
 * the first receipt, and the node is asked to close the job at once, so that its deposit returns.
 */
export async function submitRequest(deps: SubmitDeps, input: SubmitInput): Promise<Bill> {
  const { settlementTimeoutMs = 0, signal = new AbortController().signal } = input;
  const emit: Emit = (event) => input.onEvent?.(event);
  const request = readModelRequest(input.path, input.body);
  let job = await claimLeftJob(deps, request, input);
  deps.tendLeft();
  try {
    if (job) emit({ type: "resumed", jobId: job.jobId, signed: job.signed });
    else {
      job = await planJob(deps, request, input, emit);
      stopIfAborted(signal, () => deps.ledger.dropJob(job!.jobId));
      job = await openPlanned(deps, job, emit);
    }
    return await payRequest(deps, job, request, { signal, settlementTimeoutMs, emit });
  } finally {
    if (job) deps.work.leave(job.jobId);
  }
}

/** Takes over an unfinished job of an earlier run that pays for exactly this request and may still be served. */
async function claimLeftJob(
  { chain, ledger, settlement, clock, work }: SubmitDeps,
  request: ModelRequest,
  { node }: SubmitInput,
): Promise<LedgerJob | undefined> {
  for (const { jobId, job } of ledger.jobsOfRequest(request.requestHash)) {
    if (node !== undefined && node !== job.node) continue;
    const { phase, openedAt } = await settlement.sync(jobId);
    if (phase !== "open" && phase !== "streaming") continue;
    const servedUntil = job.deadline - marginSeconds(openedAt!, job.deadline);
    if ((await readBlockTime(chain, clock)) < servedUntil && work.take(jobId)) return ledger.findJob(jobId);
  }
}

async function planJob(
  deps: SubmitDeps,
  request: ModelRequest,
  { deadlineSeconds: lifeSeconds, node, maxCharge: wished }: SubmitInput,
  emit: Emit,
): Promise<LedgerJob> {
  if (lifeSeconds !== undefined && !(lifeSeconds > 0 && lifeSeconds < MAX_LIFE_SECONDS))
    throw new InfernetError("bad-request", "the deadline must be less than 30 days away");
  const maxCharge = affordable(deps, wished);
  const choice = await chooseNode(deps, { request, node, maxCharge });
  const { endpoint, estimatedCost, latencyMs, signedOffer } = choice;
  emit({ type: "chosen", node: choice.node, endpoint, offer: signedOffer.offer, estimatedCost, latencyMs });
  const planned = await deps.opener.plan(request, choice, { maxCharge, lifeSeconds });
  deps.work.take(planned.jobId);
  return planned;
}

async function openPlanned({ opener }: SubmitDeps, planned: LedgerJob, emit: Emit): Promise<LedgerJob> {
  emit({ type: "opening", jobId: planned.jobId, deposit: planned.deposit });
  const job = await opener.open(planned);
  const { jobId, deposit, opening, openGas } = job;
  emit({ type: "opened", jobId, deposit, tx: opening!.hash, gasUsed: openGas });
  return job;
}

/** The most that a new job may cost: what was wished, within the budget for a job and what is left of the day's. */
function affordable({ desk, limits }: SubmitDeps, wished = limits.perJob): bigint {
  const dayLeft = desk.dayLeft();
  if (dayLeft === 0n) {
    throw new InfernetError("over-budget", "today's budget is spent", {
      hint: "Raise the daily budget, or wait until tomorrow (UTC).",
    });
  }
  return least(wished, limits.perJob, dayLeft);
}

function stopIfAborted(signal: AbortSignal, undo: () => void): void {
  if (!signal.aborted) return;
  undo();
  throw new InfernetError("interrupted", "the request was interrupted before anything was paid");
}
