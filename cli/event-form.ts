// Owns how events and bills of the actors read as JSON: every amount a decimal text of USDC, every gas figure a number.
import { formatUsdc } from "../protocol/price.ts";

type Fields = Record<string, unknown>;

/**
 * `amount: 1500n` becomes `amountUsdc: "0.001500"`, `gasUsed: 50000n` and `openGas: 50000n` numbers, and `cost`, which is
 * in millionths of a base unit, a decimal integer text. Objects inside are treated alike.
 */
export function describeFields(fields: Fields): Fields {
  return Object.fromEntries(Object.entries(fields).map(([key, value]) => describeField(key, value)));
}

function describeField(key: string, value: unknown): [string, unknown] {
  if (typeof value === "bigint") {
    if (/gas/i.test(key)) return [key, Number(value)];
    return key === "cost" ? [key, value.toString()] : [`${key}Usdc`, formatUsdc(value)];
  }
  if (Array.isArray(value)) {
    return [key, value.map((item) => (isFields(item) ? describeFields(item) : item))];
  }
  return [key, isFields(value) ? describeFields(value) : value];
}

function isFields(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !ArrayBuffer.isView(value);
}
