// Owns what may not leave this process in a log line: keys, salts, signatures, passphrases, prompts, completions.
import { InfernetError } from "../protocol/errors.ts";

const REDACTED = "[redacted]";
const MAX_DEPTH = 8;

/** Whole names, compared in lower case without `_` and `-`. */
const SECRET_NAMES = new Set("sig r s v vs raw body text input output delta choices seed".split(" "));
/** Parts of names: `requesterSalt`, `apiKey`, `INFERNET_PASSPHRASE`, `systemPrompt` and so on. */
const SECRET_PART =
  /secret|salt|signature|signed|passphrase|password|mnemonic|key$|keypem|keystore|authorization|cookie|token$|credential|prompt|completion|content|messages?$|receipt|payload|headers?$|rawtransaction/;
/** 64 bytes of hex and more are signatures or signed transactions: ids, hashes and addresses are shorter. */
const SIGNATURE_HEX = /0x[0-9a-f]{128,}|\b[0-9a-f]{128,}/gi;

/** A copy that is safe to log: secrets replaced by name, bigints as decimal strings, errors with their causes. */
export function redact(fields: object): Record<string, unknown> {
  return redactFields(fields, 0);
}

function redactFields(fields: object, depth: number): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(fields).map(([name, value]) => [name, redactValue(name, value, depth)]),
  );
}

function redactValue(name: string, value: unknown, depth: number): unknown {
  if (typeof value === "bigint") return value.toString();
  // Counts such as `promptTokens` and flags tell nothing: only texts and structures are secret.
  if (typeof value !== "string" && (typeof value !== "object" || value === null)) return value;
  if (value instanceof Error) return describeError(value, depth);
  if (isSecretName(name)) return REDACTED;
  if (typeof value === "string") return value.replaceAll(SIGNATURE_HEX, REDACTED);
  if (ArrayBuffer.isView(value)) return `[${value.byteLength} bytes]`;
  if (depth >= MAX_DEPTH) return "[too deep]";
  if (Array.isArray(value)) return value.map((item) => redactValue("", item, depth + 1));
  if (value instanceof Date || value instanceof URL) return value.toJSON();
  return redactFields(value, depth + 1);
}

function isSecretName(name: string): boolean {
  const plain = name.toLowerCase().replaceAll(/[_-]/g, "");
  return SECRET_NAMES.has(plain) || SECRET_PART.test(plain);
}

function describeError(error: Error, depth: number): Record<string, unknown> {
  // A parser quotes the text it failed on: a prompt, perhaps.
  const quotesInput = error instanceof SyntaxError;
  const message = quotesInput ? REDACTED : error.message.replaceAll(SIGNATURE_HEX, REDACTED);
  const code = (error as { code?: unknown }).code;
  return {
    name: error.name,
    reason: message,
    ...(typeof code === "string" ? { code } : {}),
    ...(error instanceof InfernetError && error.hint ? { hint: error.hint } : {}),
    ...(error instanceof InfernetError ? redactFields(error.data, depth + 1) : { stack: framesOf(error) }),
    ...(error.cause === undefined || depth >= MAX_DEPTH
      ? {}
      : { cause: redactValue("cause", error.cause, depth + 1) }),
  };
}

/** The lines of a stack trace without its first, which repeats the message. */
function framesOf(error: Error): string[] {
  const lines = (error.stack ?? "").split("\n").map((line) => line.trim());
  return lines.filter((line) => line.startsWith("at "));
}
