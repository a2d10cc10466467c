// Owns how people write values on the command line: amounts, durations, addresses, prices, numbers in a range.
import { InvalidArgumentError } from "commander";
import { type Address, type Hex, keccak256, utf8 } from "../protocol/bytes.ts";
import { formatUsdc, type Prices, parseUsdc } from "../protocol/price.ts";

const SECONDS_PER_UNIT: Record<string, number> = { s: 1, m: 60, h: 3600, d: 86_400 };
const MAX_UINT64 = (1n << 64n) - 1n;

/** A UTC day or an ISO 8601 time, as Unix seconds. */
export function parseMoment(text: string): number {
  const ms = /^\d{4}-\d{2}-\d{2}(T\d{2}:\d{2}(:\d{2})?Z)?$/.test(text) ? Date.parse(text) : Number.NaN;
  if (Number.isNaN(ms))
    throw new InvalidArgumentError("Write a UTC day or time, like 2026-11-30 or 2026-11-30T18:00Z.");
  return ms / 1000;
}

/** An amount of USDC such as `1.25`, in base units. */
export function parseAmount(text: string): bigint {
  return orInvalid(() => parseUsdc(text), "Write it in USDC, like 1.25 (at most 6 decimal places).");
}

/** A positive amount of USDC, or `all` (undefined). */
export function parseAmountOrAll(text: string): bigint | "all" {
  if (text === "all") return "all";
  const amount = parseAmount(text);
  if (amount === 0n) throw new InvalidArgumentError("It must be more than 0.");
  return amount;
}

/** A duration such as `90s`, `15m`, `2h` or `1d`, in seconds. */
export function parseDuration(text: string): number {
  const match = /^(\d{1,9})([smhd])$/.exec(text);
  const seconds = match ? Number(match[1]) * SECONDS_PER_UNIT[match[2]!]! : 0;
  if (seconds === 0) throw new InvalidArgumentError("Write it like 90s, 15m, 2h or 1d.");
  return seconds;
}

/** A time as {@link parseDuration} reads it, 0 for not at all, or -1 for "always". Seconds. */
export function parseKeepAlive(text: string): number {
  if (text === "always") return -1;
  return text === "0" ? 0 : parseDuration(text);
}

/** Where to listen, of `HOST:PORT`; an IPv6 address stands in brackets. */
export function parseListen(text: string): { host: string; port: number } {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^\s:[\]]+)):(\d{1,5})$/.exec(text);
  const port = Number(match?.[3]);
  if (!match || port > 65_535)
    throw new InvalidArgumentError("Write it as HOST:PORT, like 127.0.0.1:9464 or [::1]:9464.");
  return { host: (match[1] ?? match[2])!, port };
}

/** An address in lower case. One of mixed case must have the checksum of EIP-55: a typing error would lose money. */
export function parseAddress(text: string): Address {
  if (!/^0x[0-9a-fA-F]{40}$/.test(text))
    throw new InvalidArgumentError("An address is 0x and 40 hex digits.");
  const digits = text.slice(2);
  const isMixed = digits !== digits.toLowerCase() && digits !== digits.toUpperCase();
  if (isMixed && digits !== checksumOf(digits.toLowerCase())) {
    throw new InvalidArgumentError("Its checksum is wrong: a digit or a letter's case was mistyped.");
  }
  return `0x${digits.toLowerCase()}`;
}

/** A job id: 0x and 64 hex digits. */
export function parseJobId(text: string): Hex {
  if (!/^0x[0-9a-fA-F]{64}$/.test(text)) throw new InvalidArgumentError("A job id is 0x and 64 hex digits.");
  return text.toLowerCase() as Hex;
}

/** A model with its prices, of `NAME=IN:OUT` in USDC per million tokens. The name may hold `:` and `=` itself. */
export type PricedModel = Prices & { name: string };

/** Collects `NAME=IN:OUT` of a repeatable option. */
export function collectPricedModel(text: string, previous: PricedModel[] = []): PricedModel[] {
  const match = /^(.{1,128})=([^=:]+):([^=:]+)$/.exec(text);
  if (!match) throw new InvalidArgumentError("Write it as NAME=IN:OUT, like llama3.2:1b=0.10:0.40.");
  const [inputPrice, outputPrice] = [parsePrice(match[2]!), parsePrice(match[3]!)];
  const name = match[1]!;
  if (previous.some((model) => model.name === name)) {
    throw new InvalidArgumentError(`The model ${name} is named twice.`);
  }
  return [...previous, { name, inputPrice, outputPrice }];
}

/** A price in USDC per million tokens, in base units per million tokens. */
export function parsePrice(text: string): bigint {
  const price = orInvalid(
    () => parseUsdc(text),
    `"${text}" is no price: write USDC per million tokens, like 0.40.`,
  );
  if (price > MAX_UINT64) throw new InvalidArgumentError("The price is too high for the Registry.");
  return price;
}

/** A price as people read it: the fewest decimal places that tell it, two at least. */
export function formatPrice(price: bigint): string {
  return formatUsdc(price).replace(/0{1,4}$/, "");
}

/** A parser of whole numbers from `least` to `most`. */
export function integerBetween(least: number, most: number): (text: string) => number {
  return (text) => {
    const value = /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN;
    if (value >= least && value <= most) return value;
    throw new InvalidArgumentError(`It must be a whole number from ${least} to ${most}.`);
  };
}

/** A parser of decimal numbers from `least` to `most`. */
export function decimalBetween(least: number, most: number): (text: string) => number {
  return (text) => {
    const value = /^\d{1,6}(?:\.\d{1,9})?$/.test(text) ? Number(text) : Number.NaN;
    if (value >= least && value <= most) return value;
    throw new InvalidArgumentError(`It must be a number from ${least} to ${most}.`);
  };
}

function checksumOf(lowerDigits: string): string {
  const hash = keccak256(utf8(lowerDigits)).slice(2);
  return [...lowerDigits]
    .map((digit, index) => (Number.parseInt(hash[index]!, 16) >= 8 ? digit.toUpperCase() : digit))
    .join("");
}

function orInvalid<T>(parse: () => T, message: string): T {
  try {
    return parse();
  } catch {
    throw new InvalidArgumentError(message);
  }
}
