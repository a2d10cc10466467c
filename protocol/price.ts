// Owns the arithmetic of money: what counts of tokens cost, and how a prepayment is sized. All in USDC base units.

/** USDC base units per 1,000,000 tokens. */
export type Prices = { inputPrice: bigint; outputPrice: bigint };
export type TokenCounts = { promptTokens: number; completionTokens: number };

const TOKENS_PER_PRICE = 1_000_000n;
/** Bytes of text that a prepayment counts as one token. */
const BYTES_PER_TOKEN = 4;

/** The exact cost of counts in millionths of a base unit: summed before it is rounded. */
export function costMillionths(counts: TokenCounts, prices: Prices): bigint {
  return (
    BigInt(counts.promptTokens) * prices.inputPrice + BigInt(counts.completionTokens) * prices.outputPrice
  );
}

/** Millionths of a base unit as base units, rounded up: how a job's charge is rounded, once. */
export function roundCharge(millionths: bigint): bigint {
  return (millionths + TOKENS_PER_PRICE - 1n) / TOKENS_PER_PRICE;
}

/** A job's charge: openingFee + ceil(sum of costs / 1e6). */
export function chargeOf(requests: readonly TokenCounts[], prices: Prices, openingFee = 0n): bigint {
  return openingFee + roundCharge(requests.reduce((sum, counts) => sum + costMillionths(counts, prices), 0n));
}

/** Tokens that a prompt of this many bytes is taken for before its model has counted it: rounded up. */
export function estimatePromptTokens(textBytes: number): number {
  return Math.ceil(textBytes / BYTES_PER_TOKEN);
}

/** Prompt tokens of a stream that ended without usage: rounded down, so that nobody pays for what is unknown. */
export function chargeablePromptTokens(textBytes: number): number {
  return Math.floor(textBytes / BYTES_PER_TOKEN);
}

/** What a stream reserves when it starts: its prefill and two chunks ahead. */
export function firstReservation(promptTokens: number, chunkTokens: number, prices: Prices): bigint {
  return roundCharge(costMillionths({ promptTokens, completionTokens: 2 * chunkTokens }, prices));
}

/** The smallest of some amounts. */
export function least(first: bigint, ...others: bigint[]): bigint {
  let low = first;
  for (const amount of others) if (amount < low) low = amount;
  return low;
}

/** The largest of some amounts. */
export function most(first: bigint, ...others: bigint[]): bigint {
  let high = first;
  for (const amount of others) if (amount > high) high = amount;
  return high;
}

/** USDC base units as a decimal text of dollars, all six places: 1500000n is "1.500000". */
export function formatUsdc(amount: bigint): string {
  const digits = (amount < 0n ? -amount : amount).toString().padStart(7, "0");
  return `${amount < 0n ? "-" : ""}${digits.slice(0, -6)}.${digits.slice(-6)}`;
}

/** Millionths of a base unit as USDC, exact, all twelve places. */
export function formatMillionths(millionths: bigint): string {
  const rest = (millionths % 1_000_000n).toString().padStart(6, "0");
  return `${formatUsdc(millionths / 1_000_000n)}${rest}`;
}

/** A decimal text of dollars as base units. Throws a RangeError on anything but up to 6 places. */
export function parseUsdc(text: string): bigint {
  const match = /^(\d{1,20})(?:\.(\d{1,6}))?$/.exec(text.trim());
  if (!match) throw new RangeError(`"${text}" is not an amount of USDC: write it like 1.25`);
  return BigInt(match[1]!) * 1_000_000n + BigInt((match[2] ?? "").padEnd(6, "0"));
}
