// Owns following the contracts' events: from a cursor, in order, through reorganisations, restarts and RPC failures.
import type { Address, Hex } from "../protocol/bytes.ts";
import { InfernetError } from "../protocol/errors.ts";
import { backoffMs } from "./backoff.ts";
import { type Block, type Chain, findBlock } from "./chain.ts";
import { allEvents, type ChainEvent, createLogReader, type OpenedEvent } from "./event-log.ts";
import { RpcError } from "./rpc.ts";

export type { ChainEvent, OpenedEvent };

/** A block whose events, and all before them, were handled. */
export type Cursor = { block: number; hash: Hex };

/**
 * What happened up to `cursor`, in the chain's order. `undone` is set when a reorganisation undid all that came after
 * that cursor: roll back to it in the same transaction that records this batch. `head` is the newest block.
 */
export type EventBatch = { events: ChainEvent[]; cursor: Cursor; head: Block; undone: Cursor | null };

export type FollowOptions = {
  /** Where the last run stopped; null starts at the deployment. */
  from: Cursor | null;
  /** The cursors that are kept, newest first: where the follower looks for the fork after a reorganisation. */
  recentCursors(): Cursor[];
  /** An event passes when any of the three matches, every event when none is given. */
  node?: Address;
  payee?: Address;
  requester?: Address;
  pollMs: number;
  /** A batch that throws is reported to `onError` and comes again. */
  onBatch(batch: EventBatch): Promise<void> | void;
  onError(error: unknown): void;
  /** Called after each round that reached the head, with new blocks or without. */
  onCaughtUp?(): void;
  signal: AbortSignal;
};

export type Follower = {
  /** Polls now; resolves when the head of this moment is handled, rejects when that fails. */
  poke(): Promise<void>;
  /** Resolves when the signal has ended the follower and no batch is being handled. */
  done: Promise<void>;
};

const LONGEST_BACKOFF_MS = 30_000;
/** Rounds in a row in which the cursor's block may be missing before that counts as a reorganisation. */
const TOLERATED_MISSING_ROUNDS = 3;

/** Follows both contracts' events until the signal aborts. Each new block is a batch, with events or without. */
export function followEvents(chain: Chain, options: FollowOptions): Follower {
  const { signal, pollMs, onError } = options;
  const poll = createPoll(chain, options);
  let waiters: PromiseWithResolvers<void>[] = [];
  let wake = () => {};

  async function run(): Promise<void> {
    for (let failures = 0; !signal.aborted; ) {
      const served = waiters;
      waiters = [];
      try {
        await poll();
        failures = 0;
        if (!signal.aborted) options.onCaughtUp?.();
        for (const waiter of served) waiter.resolve();
      } catch (error) {
        if (!signal.aborted) onError(error);
        for (const waiter of served) waiter.reject(error);
        failures++;
      }
      if (waiters.length === 0)
        await pause(backoffMs(failures, pollMs, Math.max(pollMs, LONGEST_BACKOFF_MS)));
    }
    for (const waiter of waiters) waiter.reject(stopped());
  }

  function pause(ms: number): Promise<void> {
    if (signal.aborted) return Promise.resolve();
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, ms);
    wake = () => resolve();
    signal.addEventListener("abort", wake, { once: true });
    return promise.finally(() => {
      clearTimeout(timer);
      signal.removeEventListener("abort", wake);
    });
  }

  return {
    done: run(),
    poke() {
      if (signal.aborted) return Promise.reject(stopped());
      const waiter = Promise.withResolvers<void>();
      waiters.push(waiter);
      wake();
      return waiter.promise;
    },
  };
}

function stopped(): InfernetError {
  return new InfernetError("interrupted", "the event follower has stopped");
}

/** One round: everything between the cursor and the head of now, in pages. */
function createPoll(chain: Chain, options: FollowOptions): () => Promise<void> {
  const { rpc, deployment } = chain;
  const filter = allEvents(deployment);
  const reader = createLogReader(rpc);
  let cursor = options.from;
  let undone: Cursor | null = null;
  let missingRounds = 0;

  async function deliver(events: ChainEvent[], next: Cursor, head: Block): Promise<void> {
    await options.onBatch({ events, cursor: next, head, undone });
    cursor = next;
    undone = null;
  }

  async function deliverPage(after: Cursor, head: Block): Promise<void> {
    const last = Math.min(head.number, after.block + reader.pageBlocks());
    const end = last === head.number ? head : await chain.getBlock(last);
    const events = await reader.readPage(filter, after.block + 1, last, end.hash);
    if (!events) return; // Too much at once: the next page is smaller.
    // The same block before and after the reading proves that the logs are of its fork.
    if ((await findBlock(rpc, last))?.hash !== end.hash) {
      throw new RpcError("eth_getLogs", "the chain was reorganised meanwhile");
    }
    const passing = events.filter((event) => passes(event, options));
    await deliver(passing, { block: end.number, hash: end.hash }, head);
  }

  return async () => {
    let goal: number | undefined;
    while (!options.signal.aborted) {
      const head = await chain.getBlock("latest");
      goal ??= head.number;
      cursor ??= await findOrigin(chain);
      const found = cursor.block >= head.number ? head : await findBlock(rpc, cursor.block);
      if (found?.number !== cursor.block) {
        // No such block yet: most likely another server of the same RPC, which lags behind. Wait before believing it.
        if (++missingRounds < TOLERATED_MISSING_ROUNDS) return;
      }
      missingRounds = 0;
      if (found?.hash !== cursor.hash) {
        undone = await findFork(chain, options.recentCursors());
        cursor = undone;
      } else if (!undone && (cursor.block >= goal || cursor.block === head.number)) {
        return;
      } else if (cursor.block === head.number) {
        await deliver([], cursor, head);
      } else {
        await deliverPage(cursor, head);
      }
    }
  };
}

/** The block before the deployment: nothing of ours happened up to it. */
async function findOrigin(chain: Chain): Promise<Cursor> {
  const { number, hash } = await chain.getBlock(Math.max(0, chain.deployment.fromBlock - 1));
  return { block: number, hash };
}

/** The newest cursor that is still on the chain; the block before the deployment when none is. */
async function findFork(chain: Chain, cursors: readonly Cursor[]): Promise<Cursor> {
  for (const cursor of cursors) {
    if ((await findBlock(chain.rpc, cursor.block))?.hash === cursor.hash) return cursor;
  }
  return await findOrigin(chain);
}

/**
 * Settlements and refunds carry no node, so a follower without a requester gets all of them and knows its jobs.
 */
function passes(event: ChainEvent, { node, payee, requester }: FollowOptions): boolean {
  if (!node && !payee && !requester) return true;
  switch (event.kind) {
    case "opened":
      return event.job.node === node || event.job.requester === requester || event.job.payee === payee;
    case "claimed":
      return event.payee === payee || node !== undefined;
    case "paidOut":
      return event.payee === payee;
    case "settled":
    case "refunded":
      return event.requester === requester || node !== undefined || payee !== undefined;
    case "deposited":
    case "withdrawn":
      return event.owner === requester;
    case "nodeChanged":
      return event.node === node;
  }
}
