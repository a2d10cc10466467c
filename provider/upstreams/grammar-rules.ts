// Owns the rules of GBNF, llama.cpp's grammars: each body once, under a name, and the plain forms of JSON made of them.
import { InfernetError } from "../../protocol/errors.ts";

/** A grammar that is larger than any honest one makes every token slow. */
const MOST_RULES = 2_000;
/** Arrays and objects inside each other in a value that no schema describes. */
const FREE_DEPTH = 5;
/** llama.cpp refuses more repetitions. */
const MOST_REPETITIONS = 1_000;
const LARGEST_INTEGER = 10n ** 15n - 1n;

const SPACE = '" "?';
const CHARACTER = '([^"\\\\\\x7F\\x00-\\x1F] | "\\\\" ["\\\\/bfnrt])';
const DIGIT = "[0-9]";
const HEX = "[0-9a-fA-F]";
const FRACTION = `("." ${DIGIT}{1,15})?`;
const WORD = "[a-zA-Z0-9-]{1,32}";
const DATE = `${DIGIT}{4} "-" ("0" [1-9] | "1" [0-2]) "-" ("0" [1-9] | "1" ${DIGIT} | "2" [0-8])`;
const TIME = `([01] ${DIGIT} | "2" [0-3]) ":" [0-5] ${DIGIT} ":" [0-5] ${DIGIT} "Z"`;
const OCTET = `("25" [0-5] | "2" [0-4] ${DIGIT} | "1" ${DIGIT}{2} | [1-9] ${DIGIT} | ${DIGIT})`;
const FORMATS: Readonly<Record<string, string>> = {
  date: DATE,
  time: TIME,
  "date-time": `${DATE} "T" ${TIME}`,
  uuid: `${HEX}{8} "-" ${HEX}{4} "-" ${HEX}{4} "-" ${HEX}{4} "-" ${HEX}{12}`,
  email: `[a-zA-Z0-9._-]{1,64} "@" ${WORD} ("." ${WORD}){1,3}`,
  ipv4: `${OCTET} ("." ${OCTET}){3}`,
  uri: `"http" "s"? "://" [a-zA-Z0-9] [a-zA-Z0-9._~:/?#@!$&*+,;=%-]*`,
};

export type Rules = {
  /** The name of a rule with this body. Throws `bad-request` where there are too many. */
  rule(body: string): string;
  /** A name whose body comes later: for what contains itself. */
  reserve(): { name: string; fill(body: string): void };
  /** Everything as GBNF, starting from `root`. */
  print(root: string): string;
};

export function createRules(): Rules {
  const names = new Map<string, string>();
  const bodies = new Map<string, string>();
  const take = (body: string): string => {
    if (bodies.size >= MOST_RULES) {
      throw new InfernetError("bad-request", "the schema is too large to hold a model to it");
    }
    const name = `r${bodies.size}`;
    bodies.set(name, body);
    return name;
  };
  return {
    rule(body) {
      const known = names.get(body) ?? take(body);
      names.set(body, known);
      return known;
    },
    reserve() {
      const name = take("");
      return { name, fill: (body) => void bodies.set(name, body) };
    },
    print: (root) =>
      [`root ::= ${root}`, ...[...bodies].map(([name, body]) => `${name} ::= ${body}`)].join("\n"),
  };
}

/** Exactly this text. */
export function literal(text: string): string {
  return `"${text.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n")}"`;
}

/** Exactly this value, as JSON. */
export function jsonLiteral(value: unknown): string {
  return literal(JSON.stringify(value));
}

export function anyOf(expressions: readonly string[]): string {
  return expressions.length === 1 ? expressions[0]! : `(${expressions.join(" | ")})`;
}

/** `least` to `most` times, with what stands between two; endless without a `most`. */
export function list(item: string, least: number, most: number | undefined, path: string): string {
  checkRepetitions(least, most, path);
  if (most === 0) return '"[" "]"';
  const more = `("," ${SPACE} ${item})${counts(Math.max(0, least - 1), most && most - 1)}`;
  return `"[" ${least === 0 ? `(${item} ${more})?` : `${item} ${more}`} "]"`;
}

/** `"key": value`. */
export function pair(key: string, value: string): string {
  return `${jsonLiteral(key)} ":" ${SPACE} ${value}`;
}

/** What stands between the pairs of an object. */
export const COMMA = `"," ${SPACE}`;

/** An object whose keys nobody names. */
export function mapOf(rules: Rules, value: string): string {
  const entry = rules.rule(`${textOf(rules, 0, undefined, "")} ":" ${SPACE} ${value}`);
  return `"{" (${entry} (${COMMA} ${entry})*)? "}"`;
}

export function textOf(rules: Rules, least: number, most: number | undefined, path: string): string {
  checkRepetitions(least, most, path);
  return `"\\"" ${rules.rule(CHARACTER)}${counts(least, most)} "\\""`;
}

/** A string of this format, or undefined where nobody here knows the format. */
export function formattedText(format: string): string | undefined {
  const form = Object.hasOwn(FORMATS, format) ? FORMATS[format] : undefined;
  return form && `"\\"" ${form} "\\""`;
}

/** Any JSON value; `depth` bounds how deep it nests. */
export function anyValue(rules: Rules, depth = FREE_DEPTH): string {
  const scalars = [
    '"null"',
    '"true"',
    '"false"',
    decimal(undefined, undefined),
    textOf(rules, 0, undefined, ""),
  ];
  if (depth === 0) return rules.rule(anyOf(scalars));
  const inner = anyValue(rules, depth - 1);
  return rules.rule(anyOf([...scalars, list(inner, 0, undefined, ""), mapOf(rules, inner)]));
}

/** An object of any JSON values. */
export function anyObject(rules: Rules): string {
  return mapOf(rules, anyValue(rules, FREE_DEPTH - 1));
}

/** Whole numbers of a range, both ends included. */
export function integer(least = -LARGEST_INTEGER, most = LARGEST_INTEGER): string {
  const parts: string[] = [];
  if (least < 0n) parts.push(`"-" ${digits(most < 0n ? -most : 1n, -least)}`);
  if (most >= 0n) parts.push(digits(least > 0n ? least : 0n, most));
  return anyOf(parts);
}

/** Numbers of a range with whole ends on either side of zero or above it. */
export function decimal(least: bigint | undefined, most: bigint | undefined): string {
  const from = least ?? -LARGEST_INTEGER;
  const to = most ?? LARGEST_INTEGER;
  const parts = [digits(to, to)];
  if (to > 0n && to > from) parts.push(`${digits(from > 0n ? from : 0n, to - 1n)} ${FRACTION}`);
  if (from < 0n) parts.push(`"-" ${digits(0n, -from - 1n)} ${FRACTION}`, `"-" ${digits(-from, -from)}`);
  return anyOf(parts);
}

/** Decimal digits of the numbers between two that are not negative. */
function digits(least: bigint, most: bigint): string {
  const parts: string[] = [];
  for (let length = `${least}`.length; length <= `${most}`.length; length++) {
    const first = length === 1 ? 0n : 10n ** BigInt(length - 1);
    const last = 10n ** BigInt(length) - 1n;
    parts.push(sameLength(`${least > first ? least : first}`, `${most < last ? most : last}`));
  }
  return anyOf(parts);
}

function sameLength(low: string, high: string): string {
  if (low === high) return literal(low);
  const [first, last] = [Number(low[0]), Number(high[0])];
  const [lowRest, highRest] = [low.slice(1), high.slice(1)];
  if (lowRest === "") return `[${first}-${last}]`;
  if (first === last) return `"${first}" ${sameLength(lowRest, highRest)}`;
  const parts: string[] = [];
  const wholeLow = /^0*$/.test(lowRest);
  const wholeHigh = /^9*$/.test(highRest);
  if (!wholeLow) parts.push(`"${first}" ${sameLength(lowRest, "9".repeat(lowRest.length))}`);
  const [from, to] = [wholeLow ? first : first + 1, wholeHigh ? last : last - 1];
  if (from <= to) parts.push(`[${from}-${to}] ${DIGIT}{${lowRest.length}}`);
  if (!wholeHigh) parts.push(`"${last}" ${sameLength("0".repeat(highRest.length), highRest)}`);
  return anyOf(parts);
}

function counts(least: number, most: number | undefined): string {
  if (most === undefined) return least === 0 ? "*" : `{${least},}`;
  return `{${least},${most}}`;
}

function checkRepetitions(least: number, most: number | undefined, path: string): void {
  if (Math.max(least, most ?? 0) <= MOST_REPETITIONS && least <= (most ?? least)) return;
  throw new InfernetError(
    "bad-request",
    `the schema's lengths at ${path} must be at most ${MOST_REPETITIONS}, the least before the most`,
  );
}
