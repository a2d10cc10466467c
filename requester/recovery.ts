// Owns the way back to money without a ledger: the wallet's open jobs, found again in the chain's events.

import type { Chain } from "../chain/chain.ts";
import { type ChainEvent, followEvents } from "../chain/events.ts";
import type { Address, Hex } from "../protocol/bytes.ts";
import type { RequesterLedger } from "./ledger.ts";

const POLL_MS = 60_000;

/**
 * Adopts every job of this requester that is still open on the chain and unknown to the ledger, and returns their ids.
 * Without their offers they cannot be closed early: their nodes settle them, or they are refunded after the deadline.
 */
export async function recoverJobs(chain: Chain, ledger: RequesterLedger, requester: Address): Promise<Hex[]> {
  const found: Hex[] = [];
  for (const event of await readEvents(chain, requester)) {
    if (event.kind !== "opened" || ledger.findJob(event.jobId)) continue;
    const { status, deposit } = await chain.getJobState(event.jobId);
    if (status !== "open") continue;
    ledger.adoptJob(event.jobId, event.job, { deposit, openedAt: event.timestamp });
    found.push(event.jobId);
  }
  return found;
}

async function readEvents(chain: Chain, requester: Address): Promise<ChainEvent[]> {
  const events: ChainEvent[] = [];
  const stop = new AbortController();
  const follower = followEvents(chain, {
    from: null,
    recentCursors: () => [],
    requester,
    pollMs: POLL_MS,
    onBatch: (batch) => {
      events.push(...batch.events);
    },
    onError: () => {}, // The poke below rejects with it.
    signal: stop.signal,
  });
  try {
    await follower.poke();
  } finally {
    stop.abort();
    await follower.done;
  }
  return events;
}
