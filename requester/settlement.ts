// Owns how a job comes to its end: what the chain says of it, the node's early close, and the refund after the deadline.
import { setTimeout as delay } from "node:timers/promises";
import type { Chain } from "../chain/chain.ts";
import type { Sender } from "../chain/sender.ts";
import type { Address, Hex } from "../protocol/bytes.ts";
import { InfernetError } from "../protocol/errors.ts";
import type { Job } from "../protocol/job.ts";
import { decodeOffer } from "../protocol/offer.ts";
import { roundCharge } from "../protocol/price.ts";
import type { JobDocument } from "../protocol/wire.ts";
import type { Clock } from "../runtime/clock.ts";
import { jobSalt } from "./budget.ts";
import { type GasChoice, paysOwnGas } from "./gas.ts";
import type { RequesterLedger } from "./ledger.ts";
import { isSession, type JobPhase, type LedgerJob } from "./ledger-rows.ts";
import { type NodeClient, openNodeClient } from "./node-client.ts";
import { relayMove } from "./relays.ts";

export type SettlementDeps = {
  chain: Chain;
  ledger: RequesterLedger;
  sender: Sender;
  wallet: { address: Address };
  seed: Hex;
  clock: Clock;
  allowPrivate?: boolean;
};

export type Settlement = {
  /** Brings the ledger up to what the chain says of a job, and returns it. */
  sync(jobId: Hex): Promise<LedgerJob>;
  /** Asks the job's node to settle now. Throws `job-not-found` for a job whose terms are lost. */
  closeAtNode(jobId: Hex): Promise<JobDocument>;
  /** Resolves with the job when the chain has closed it, or with undefined when that takes too long. */
  awaitClosed(jobId: Hex, wait: { timeoutMs: number; signal?: AbortSignal }): Promise<LedgerJob | undefined>;
  /** Takes an unclaimed deposit back after the deadline. Throws `job-unconfirmed` before it, saying when. */
  refund(jobId: Hex, how?: RefundWish): Promise<Refund | "nothing-to-do">;
};

/** Who pays the gas; `node` is the only one that shall send it. */
export type RefundWish = { gas?: GasChoice | undefined; node?: Address | undefined };

/** `node` is who sent it, null for the wallet itself; only the wallet's own transaction tells its gas. */
export type Refund = { tx: Hex | null; gasUsed: bigint | null; node: Address | null };

const FIRST_POLL_MS = 50;
const LONGEST_POLL_MS = 2_000;
/** Phases of a job that the Escrow may never have seen. */
export const UNOPENED: readonly JobPhase[] = ["planned", "opening"];
/** Phases after which nothing happens to a job any more. */
export const FINISHED: readonly JobPhase[] = ["closed", "refunded", "dropped"];

export function createSettlement(deps: SettlementDeps): Settlement {
  const { chain, ledger, sender } = deps;

  const mustFind = (jobId: Hex): LedgerJob => {
    const job = ledger.findJob(jobId);
    if (job) return job;
    throw new InfernetError("job-not-found", `the ledger holds no job ${jobId}`, {
      hint: "See `infernet job list`; `infernet job recover` finds jobs of a lost ledger on the chain.",
    });
  };

  async function sync(jobId: Hex): Promise<LedgerJob> {
    const kept = mustFind(jobId);
    if (FINISHED.includes(kept.phase)) return kept;
    const { status, claimed } = await chain.getJobState(jobId);
    if (status === "closed") closeInLedger(ledger, kept, claimed);
    else if (status === "open") await noteLateOpening(chain, ledger, kept);
    return mustFind(jobId);
  }

  async function closeAtNode(jobId: Hex): Promise<JobDocument> {
    const client = clientOf(mustFind(jobId), deps.seed);
    try {
      return await client.closeJob();
    } finally {
      await client.close();
    }
  }

  async function sendRefund(jobId: Hex, job: Job, { gas = "auto", node }: RefundWish): Promise<Refund> {
    if (await paysOwnGas(chain, deps.wallet.address, gas)) {
      const { hash, gasUsed } = await sender.send(chain.calls.refund(job));
      return { tx: hash, gasUsed, node: null };
    }
    const isDone = async () => (await chain.getJobState(jobId)).status === "closed";
    const wish = { node, first: job.node };
    const relayed = await relayMove(deps, wish, async () => ({ kind: "refund", job }), isDone);
    return { ...relayed, gasUsed: null };
  }

  async function refund(jobId: Hex, how: RefundWish = {}): Promise<Refund | "nothing-to-do"> {
    const { phase, job } = await sync(jobId);
    if (FINISHED.includes(phase) || UNOPENED.includes(phase)) return "nothing-to-do";
    const block = await chain.getBlock("latest");
    // The transaction comes into a later block, so the local time counts as far as it is ahead.
    if (Math.max(block.timestamp, deps.clock.nowSeconds()) < job.deadline)
      throw tooEarly(jobId, job.deadline);
    try {
      const sent = await sendRefund(jobId, job, how);
      const { claimed } = await chain.getJobState(jobId);
      ledger.noteClosed(jobId, "refunded", claimed);
      return sent;
    } catch (error) {
      // The node may settle in the same moment.
      if (FINISHED.includes((await sync(jobId)).phase)) return "nothing-to-do";
      throw error;
    }
  }

  return {
    sync,
    closeAtNode,
    refund,
    async awaitClosed(jobId, { timeoutMs, signal }) {
      const endsAt = performance.now() + timeoutMs;
      for (let pollMs = FIRST_POLL_MS; ; pollMs = Math.min(pollMs * 1.5, LONGEST_POLL_MS)) {
        const job = await sync(jobId);
        if (FINISHED.includes(job.phase)) return job;
        if (performance.now() + pollMs > endsAt || signal?.aborted) return undefined;
        await delay(pollMs, undefined, signal ? { signal } : {}).catch(() => {});
      }
    },
  };
}

/** A client of the node that a job was opened with. Throws `job-not-found` when its terms are lost. */
export function clientOf({ jobId, terms }: LedgerJob, seed: Hex): NodeClient {
  if (terms === null) {
    throw new InfernetError("job-not-found", `the terms of job ${jobId} are lost with their ledger`, {
      hint: "Its node settles it by itself; else it can be refunded after its deadline.",
    });
  }
  const { offer, offerHash } = decodeOffer(terms.offerBytes);
  const { endpoint, saltIndex, requestHash } = terms;
  return openNodeClient({
    endpoint,
    tlsKeyHash: offer.tlsKeyHash,
    jobId,
    salt: jobSalt(seed, saltIndex),
    offerHash,
    requestHash,
  });
}

/** Keeps what the chain closed a job with; a node that took more than it signed for has shown that it cheats. */
function closeInLedger(ledger: RequesterLedger, job: LedgerJob, claimed: bigint): void {
  const { jobId, delivery, openingFee, settled } = job;
  const charge = isSession(job)
    ? openingFee + roundCharge(settled + ledger.requests.openCostOf(jobId))
    : delivery?.jobCharge;
  if (charge !== undefined && claimed > charge)
    ledger.noteEvidence(jobId, {
      reason: "the node claimed more than its deliveries charge",
      ...{ claimed, charge, delivery },
    });
  ledger.noteClosed(jobId, "closed", claimed);
}

/** What the latest block shows of an open job's opening; undefined while it shows none. */
export async function readOpening(
  chain: Chain,
  jobId: Hex,
): Promise<{ deposit: bigint; openedAt: number; block: number; tx: Hex } | undefined> {
  const { status, deposit } = await chain.getJobState(jobId);
  const opened = status === "open" ? await chain.getOpened(jobId) : undefined;
  return opened && { deposit, openedAt: opened.timestamp, block: opened.block, tx: opened.tx };
}

/** A crash between an opening's broadcast and its note leaves the job behind the chain. */
async function noteLateOpening(
  chain: Chain,
  ledger: RequesterLedger,
  { jobId, phase }: LedgerJob,
): Promise<void> {
  if (phase !== "opening") return;
  const opened = await readOpening(chain, jobId);
  if (opened) ledger.noteOpened(jobId, { ...opened, gasUsed: null });
}

function tooEarly(jobId: Hex, deadline: number): InfernetError {
  const when = new Date(deadline * 1000).toISOString();
  return new InfernetError("job-unconfirmed", `the job ${jobId} can be refunded from ${when} on`, {
    hint: "Its node can close it earlier: infernet job close.",
    data: { deadline },
  });
}
