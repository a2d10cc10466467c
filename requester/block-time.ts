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
  let time = await readBlockTime(chain, clock);
  let readAt = performance.now();
  let isReading = false;
  const carry = () => time + Math.floor((performance.now() - readAt) / 1000);
  const refresh = async () => {
    isReading = true;
    try {
      const read = await readBlockTime(chain, clock);
      time = Math.max(read, carry());
      readAt = performance.now();
    } catch {
      // The carried time goes on; an RPC that fails now is met again where it matters.
    }
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
