// Owns the way from a wish to an open job: a job of an earlier run that still pays for it, or a chosen node's new one.
import { InfernetError } from "../protocol/errors.ts";
import { marginSeconds } from "../protocol/funding.ts";
import type { Signer } from "../runtime/signers/secp256k1.ts";
import { readBlockTime } from "./block-time.ts";
import { type ChooseDeps, chooseNode } from "./choose.ts";
import { paysOwnGas } from "./gas.ts";
import type { LedgerJob } from "./ledger-rows.ts";
import { type ModelRequest, readModelRequest } from "./model-request.ts";
import type { JobOpener } from "./opening.ts";
import { type PaidRequestDeps, payRequest } from "./paid-request.ts";
import { canStillBeRelayed } from "./relayed-opening.ts";
import { depositFor } from "./sizing.ts";
import type { Bill, SubmitEvent, SubmitInput } from "./submission.ts";
import type { WorkList } from "./work-list.ts";

export type SubmitDeps = PaidRequestDeps &
  Pick<ChooseDeps, "allowPrivate" | "verdictOn"> & {
    opener: JobOpener;
    wallet: Signer;
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
    const isLeft = job !== undefined;
    const isRelayed = isLeft
      ? false
      : !(await paysOwnGas(deps.chain, deps.wallet.address, input.gas ?? "auto"));
    job ??= await planJob(deps, request, input, isRelayed, emit);
    if (isLeft) emit({ type: "resumed", jobId: job.jobId, signed: job.signed });
    else stopIfAborted(signal, () => deps.ledger.dropJob(job!.jobId));
    if (job.openedAt === null) job = await openPlanned(deps, job, { isRelayed, signal }, emit);
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
    const left = await settlement.sync(jobId);
    if (!isUsable(left, await readBlockTime(chain, clock)) || !work.take(jobId)) continue;
    return ledger.findJob(jobId);
  }
}

/** Open and served for some time yet, or handed to its node, which may have opened it or still can. */
function isUsable(left: LedgerJob, now: number): boolean {
  const { phase, openedAt, job } = left;
  if (phase !== "open" && phase !== "streaming") return canStillBeRelayed(left, now);
  return now < job.deadline - marginSeconds(openedAt!, job.deadline);
}

async function planJob(
  deps: SubmitDeps,
  request: ModelRequest,
  { deadlineSeconds: lifeSeconds, node, maxCharge: wished }: SubmitInput,
  isRelayed: boolean,
  emit: Emit,
): Promise<LedgerJob> {
  if (lifeSeconds !== undefined && !(lifeSeconds > 0 && lifeSeconds < MAX_LIFE_SECONDS))
    throw new InfernetError("bad-request", "the deadline must be less than 30 days away");
  const mostWished = deps.desk.affordable(wished);
  const choice = await chooseNode(deps, { request, node, maxCharge: mostWished, isRelayed });
  const maxCharge = deps.desk.affordable(mostWished, choice.node);
  const { endpoint, estimatedCost, latencyMs, signedOffer } = choice;
  emit({ type: "chosen", node: choice.node, endpoint, offer: signedOffer.offer, estimatedCost, latencyMs });
  const { offer } = signedOffer;
  const deposit = depositFor(request, choice.model, offer, maxCharge, isRelayed ? offer.openingFee : 0n);
  const { path, requestHash } = request;
  const planned = await deps.opener.plan(choice, { requestHash, path, deposit, maxCharge, lifeSeconds });
  deps.work.take(planned.jobId);
  return planned;
}

async function openPlanned(
  { opener }: SubmitDeps,
  planned: LedgerJob,
  how: { isRelayed: boolean; signal: AbortSignal },
  emit: Emit,
): Promise<LedgerJob> {
  emit({ type: "opening", jobId: planned.jobId, deposit: planned.deposit });
  const job = await opener.open(planned, how);
  const { jobId, deposit, openTx, openGas } = job;
  emit({ type: "opened", jobId, deposit, tx: openTx!, gasUsed: openGas });
  return job;
}

function stopIfAborted(signal: AbortSignal, undo: () => void): void {
  if (!signal.aborted) return;
  undo();
  throw new InfernetError("interrupted", "the request was interrupted before anything was paid");
}
