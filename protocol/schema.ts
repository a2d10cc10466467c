// Owns the small schemas that every wire form is made of, and how JSON carries big integers: as decimal strings.
import { z } from "zod";
import type { Address, Hex } from "./bytes.ts";
import { isHex } from "./bytes.ts";
import { type ErrorCode, InfernetError } from "./errors.ts";

/** Lower-case hex of exactly this many bytes. */
export function hexSchema(byteLength: number) {
  return z.custom<Hex>(
    (value) => isHex(value, byteLength),
    `expected 0x and ${2 * byteLength} lower-case hex digits`,
  );
}

export const addressSchema: z.ZodType<Address> = hexSchema(20);

/** A decimal string that fits an unsigned integer of this many bits, read as a bigint. */
export function uintSchema(bits: number) {
  return z
    .string()
    .regex(/^(0|[1-9]\d{0,77})$/, "expected a decimal integer")
    .transform((text) => BigInt(text))
    .refine((value) => value < 1n << BigInt(bits), `expected at most ${bits} bits`);
}

/** JSON text in which bigints are decimal strings. */
export function toJson(value: unknown): string {
  return JSON.stringify(value, (_key, field) => (typeof field === "bigint" ? field.toString() : field));
}

/** Checks untrusted data against a schema; throws an InfernetError of this code that names the first wrong field. */
export function parseWith<Out>(schema: z.ZodType<Out>, data: unknown, code: ErrorCode, what: string): Out {
  const result = schema.safeParse(data);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  const param = issue?.path.join(".") ?? "";
  throw new InfernetError(
    code,
    `${what} is malformed${param && ` at ${param}`}: ${issue?.message ?? "unreadable"}`,
    { data: param === "" ? {} : { param } },
  );
}

/** JSON text checked against a schema; throws an InfernetError of this code when either is wrong. */
export function parseJsonWith<Out>(schema: z.ZodType<Out>, text: string, code: ErrorCode, what: string): Out {
  let data: unknown;
  try {
    data = JSON.parse(text);
  } catch {
    // No cause: the engine's own error quotes the text, which may be a prompt.
    throw new InfernetError(code, `${what} is not JSON`);
  }
  return parseWith(schema, data, code, what);
}
