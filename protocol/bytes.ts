// Owns how bytes, hex strings and 32-byte words are written: lower-case `0x` hex everywhere, big-endian words.
import { keccak_256 } from "@noble/hashes/sha3.js";

export type Hex = `0x${string}`;
/** 20 bytes, lower-case hex. */
export type Address = Hex;

const HEX_PATTERN = /^0x(?:[0-9a-f]{2})*$/;

export function isHex(value: unknown, byteLength?: number): value is Hex {
  if (typeof value !== "string" || !HEX_PATTERN.test(value)) return false;
  return byteLength === undefined || value.length === 2 + 2 * byteLength;
}

export function toHex(bytes: Uint8Array): Hex {
  return `0x${Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("hex")}`;
}

/** The bytes of a hex string of either case. Throws a TypeError on anything else. */
export function fromHex(hex: string): Uint8Array {
  if (!isHex(hex.toLowerCase())) throw new TypeError("not a hex string of whole bytes");
  return Uint8Array.from(Buffer.from(hex.slice(2), "hex"));
}

/** The lower-case form of an address of any case. Throws a TypeError when it is not 20 bytes. */
export function toAddress(value: string): Address {
  const lower = value.toLowerCase();
  if (!isHex(lower, 20)) throw new TypeError("not an address of 20 bytes");
  return lower;
}

export function concatBytes(...parts: Uint8Array[]): Uint8Array {
  return Uint8Array.from(Buffer.concat(parts));
}

export function utf8(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

export function keccak256(bytes: Uint8Array): Hex {
  return toHex(keccak_256(bytes));
}

/** A non-negative integer as one 32-byte big-endian word. */
export function wordOf(value: bigint): Uint8Array {
  if (value < 0n || value >= 1n << 256n) throw new RangeError("not a 256-bit unsigned integer");
  return fromHex(`0x${value.toString(16).padStart(64, "0")}`);
}

/** Bytes shorter than a word, with zeros in front: how the ABI writes an address. */
export function leftPad(bytes: Uint8Array): Uint8Array {
  const word = new Uint8Array(32);
  word.set(bytes, 32 - bytes.length);
  return word;
}

export const ZERO_WORD: Hex = `0x${"00".repeat(32)}`;
