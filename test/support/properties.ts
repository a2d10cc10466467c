// Owns how property tests run: the same cases each time, or others by TEST_SEED and TEST_RUNS.
import fc from "fast-check";
import type { Hex } from "../../protocol/bytes.ts";

const seed = Number(process.env.TEST_SEED ?? 20261130);
const numRuns = Number(process.env.TEST_RUNS ?? 200);

/** Asserts a synchronous property; a failure prints the seed and the smallest case. */
export function holds<Ts extends [unknown, ...unknown[]]>(property: fc.IProperty<Ts>, runs = numRuns): void {
  fc.assert(property, { seed, numRuns: runs });
}

/** The same for a property that awaits. */
export async function holdsAsync<Ts extends [unknown, ...unknown[]]>(
  property: fc.IAsyncProperty<Ts>,
  runs = numRuns,
): Promise<void> {
  await fc.assert(property, { seed, numRuns: runs });
}

/** Random bytes of one length as lower-case hex. */
export function hexOf(byteLength: number): fc.Arbitrary<Hex> {
  return fc
    .uint8Array({ minLength: byteLength, maxLength: byteLength })
    .map((bytes) => `0x${Buffer.from(bytes).toString("hex")}` as Hex);
}
