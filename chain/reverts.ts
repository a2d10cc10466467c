// Owns what a revert says: the contract's custom error with its values, or the token's reason, as one text.
import type { ErrorDescription, Interface } from "ethers";
import { type Hex, isHex } from "../protocol/bytes.ts";
import { ESCROW, REGISTRY, USDC } from "./contracts.ts";

/** `text` for people, such as `EscrowJobNotOpen(jobId=0x…, status=2)`; `data` for programs, `error` being its name. */
export type Revert = { text: string; data: Record<string, string> };

// Every Interface also knows Error(string) and Panic(uint256).
const ABIS: readonly Interface[] = [ESCROW, REGISTRY, USDC];

/** What the bytes of a revert say. */
export function describeRevert(bytes: Hex): Revert {
  if (bytes === "0x") return { text: "reverted without a reason", data: { error: "none" } };
  for (const abi of ABIS) {
    const parsed = parseError(abi, bytes);
    if (parsed) return describe(parsed);
  }
  const selector = bytes.slice(0, 10);
  return { text: `unknown error ${selector}`, data: { error: selector } };
}

/** The bytes of a revert in what an RPC error carries: as they are, or inside objects as some nodes nest them. */
export function findRevertBytes(data: unknown): Hex | undefined {
  if (typeof data === "string") {
    // Some nodes put words in front: "Reverted 0x…".
    const bytes = /0x[0-9a-fA-F]*$/.exec(data)?.[0].toLowerCase();
    return isHex(bytes) ? bytes : undefined;
  }
  if (typeof data !== "object" || data === null) return undefined;
  const { data: inner, result } = data as { data?: unknown; result?: unknown };
  return findRevertBytes(inner) ?? findRevertBytes(result);
}

function parseError(abi: Interface, bytes: Hex): ErrorDescription | null {
  try {
    return abi.parseError(bytes);
  } catch {
    return null; // The selector is known but its values do not decode: another contract's error.
  }
}

function describe({ name, args, fragment }: ErrorDescription): Revert {
  const values = [...args].map(textOf);
  if (name === "Error") return { text: values.join(), data: { error: values.join() } };
  const names = fragment.inputs.map((input) => input.name);
  const fields = values.map((value, index) => [names[index] || `value${index}`, value] as const);
  const words = values.map((value, index) => (names[index] ? `${names[index]}=${value}` : value));
  return { text: `${name}(${words.join(", ")})`, data: { ...Object.fromEntries(fields), error: name } };
}

function textOf(value: unknown): string {
  return typeof value === "string" && value.startsWith("0x") ? value.toLowerCase() : String(value);
}
