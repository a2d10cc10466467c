// Owns what becomes true at finality, and only then: what was claimed of a job, and that a job is closed.
import type { Block, Chain } from "../chain/chain.ts";
import type { Hex } from "../protocol/bytes.ts";
import { least } from "../protocol/price.ts";
import type { Clock } from "../runtime/clock.ts";
import { findTaggedBlock } from "./block-depth.ts";
import type { EventHub } from "./events.ts";
import type { PendingTransaction, SettlementLedger } from "./settlement-ledger.ts";

/** A job whose transaction the chain refused, or that it did nothing for, is left alone this long. */
export const RETRY_SECONDS = 60;
const NEVER: Block = { number: -1, hash: "0x", timestamp: 0 };

export type FinalityDependencies = {
  chain: Chain;
  settlements: SettlementLedger;
  clock: Clock;
  events: EventHub;
};

/** Records what final blocks say of the jobs that transactions of ours, or of others, changed. */
export async function recordFinal(deps: FinalityDependencies): Promise<void> {
  const { chain, settlements } = deps;
  const mined = settlements.pending().filter(({ state }) => state === "mined");
  if (mined.length === 0 && !settlements.hasClosings()) return;
  const final = (await findTaggedBlock(chain, "finalized")) ?? NEVER;
  for (const pending of mined) {
    if (pending.block === null || pending.block > final.number) continue;
    for (const item of pending.items) {
      if (pending.kind === "claim") await recordClaim(deps, pending, item, final);
      else await closeIfFinal(deps, item.jobId, final, pending);
    }
    settlements.recordFinal(pending.tx.hash);
  }
  // Others close jobs too: the payee, and after the deadline anyone.
  for (const jobId of settlements.closingsUpTo(final.number)) await closeIfFinal(deps, jobId, final, null);
}

async function recordClaim(
  { chain, settlements, clock, events }: FinalityDependencies,
  { tx: { hash: tx }, gasUsed, items }: PendingTransaction,
  { jobId, amount }: PendingTransaction["items"][number],
  final: Block,
): Promise<void> {
  const state = await chain.getJobState(jobId, final.number);
  const claimed = least(amount, state.claimed);
  const gained = settlements.recordClaimed(tx, jobId, claimed);
  if (gained > 0n) events.emit({ type: "claimed", jobId, tx, gasUsed, jobs: items.length, gained, claimed });
  // A batch skips an item that the Escrow refuses: to send it again at once would only cost gas.
  else if (state.claimed < amount) settlements.postpone(jobId, clock.nowSeconds() + RETRY_SECONDS);
}

async function closeIfFinal(
  { chain, settlements, events }: FinalityDependencies,
  jobId: Hex,
  final: Block,
  by: PendingTransaction | null,
): Promise<void> {
  const { status, deposit, claimed } = await chain.getJobState(jobId, final.number);
  const tx = by?.tx.hash ?? null;
  if (status !== "closed" || !settlements.closeJob(jobId, claimed, tx)) return;
  events.emit({
    type: "settled",
    jobId,
    tx,
    gasUsed: by?.gasUsed ?? 0n,
    jobs: by?.items.length ?? 1,
    claimed,
    returned: deposit - claimed,
  });
}
