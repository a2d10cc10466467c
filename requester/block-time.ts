// Owns how the requester knows chain time and depth while an answer runs, without asking the RPC at every receipt.
import type { BlockTag, Chain } from "../chain/chain.ts";
import { InfernetError } from "../protocol/errors.ts";
import type { Clock } from "../runtime/clock.ts";

const REFRESH_MS = 30_000;
const ONE_USDC = 1_000_000n;

/** The time that the next block will have, at least: a chain that mined nothing lately is behind the clock. */
export async function readBlockTime(chain: Chain, clock: Clock): Promise<number> {
  const { timestamp } = await chain.getBlock("latest");
  return Math.max(timestamp, clock.nowSeconds());
}

/** Block time as a function: read once here, carried on by the monotonic clock, refreshed in the background. */
export async function followBlockTime(chain: Chain, clock: Clock): Promise<() => number> {
  return carryBlockTime(chain, clock, await readBlockTime(chain, clock));
}

/** The same from a time that is known now: the clock's unless told otherwise, until the chain is asked at the first use. */
export function carryBlockTime(chain: Chain, clock: Clock, known?: number): () => number {
  let time = known ?? clock.nowSeconds();
  let readAt = known === undefined ? Number.NEGATIVE_INFINITY : performance.now();
  let carriedAt = performance.now();
  let isReading = false;
  const carry = () => time + Math.floor((performance.now() - carriedAt) / 1000);
  const refresh = async () => {
    isReading = true;
    try {
      const read = await readBlockTime(chain, clock);
      time = Math.max(read, carry());
      carriedAt = performance.now();
    } catch {
      // The carried time goes on; an RPC that fails now is met again where it matters.
    }
    readAt = performance.now();
    isReading = false;
  };
  return () => {
    if (!isReading && performance.now() - readAt > REFRESH_MS) void refresh();
    return carry();
  };
}

/** Whether a deposit that was opened in `block` is as deep in the chain as a node wants it before it serves. */
export async function isDeepEnough(chain: Chain, deposit: bigint, block: number): Promise<boolean> {
  const [tag, depth]: [BlockTag, number] =
    deposit <= ONE_USDC ? ["latest", 1] : deposit <= 50n * ONE_USDC ? ["safe", 0] : ["finalized", 0];
  try {
    return (await chain.getBlock(tag)).number >= block + depth;
  } catch (error) {
    if (error instanceof InfernetError) return false;
    throw error;
  }
}
