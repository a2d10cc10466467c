// Owns how a JSON schema becomes a grammar that holds a model to it; what it cannot hold is refused, never ignored.
import { InfernetError } from "../../protocol/errors.ts";
import {
  anyObject,
  anyOf,
  anyValue,
  COMMA,
  createRules,
  decimal,
  formattedText,
  integer,
  jsonLiteral,
  list,
  literal,
  mapOf,
  pair,
  type Rules,
  textOf,
} from "./grammar-rules.ts";

type Schema = Record<string, unknown>;
/** A tool as it may be called: its name and the schema of its arguments. */
export type Callable = { name: string; parameters: unknown };

const MOST_DEPTH = 64;
/** Keywords that say something about a value without limiting it, or that are read beside those that do. */
const ANNOTATIONS = [
  ...["title", "description", "default", "example", "examples", "deprecated", "readOnly", "writeOnly"],
  ...["$schema", "$id", "$comment", "$defs", "definitions", "nullable"],
];
/** The keywords that each type may have besides. */
const KEYWORDS: Readonly<Record<string, readonly string[]>> = {
  object: ["properties", "required", "additionalProperties"],
  array: ["items", "prefixItems", "minItems", "maxItems"],
  string: ["minLength", "maxLength", "format"],
  integer: ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "format"],
  number: ["minimum", "maximum", "format"],
  boolean: [],
  null: [],
};
const NUMBER_FORMATS = ["int32", "int64", "uint32", "uint64", "float", "double"];

/** A grammar of the schema's values alone. Throws `bad-request` naming the keyword that cannot be held. */
export function grammarOfSchema(schema: unknown): string {
  const rules = createRules();
  return rules.print(new SchemaReader(rules, schema).value(schema, "#", 0));
}

/** A grammar of any JSON object. */
export function grammarOfAnyObject(): string {
  const rules = createRules();
  return rules.print(anyObject(rules));
}

/** A grammar of one call: a tool's name, what stands between, and arguments that its schema allows. */
export function grammarOfCall(tools: readonly Callable[], between: string): string {
  const rules = createRules();
  const calls = tools.map(
    ({ name, parameters }) => `${literal(name + between)} ${argumentsOf(rules, parameters)}`,
  );
  return rules.print(anyOf(calls));
}

/** A grammar of the arguments of one tool. */
export function grammarOfArguments({ parameters }: Callable): string {
  const rules = createRules();
  return rules.print(argumentsOf(rules, parameters));
}

/** A tool without parameters takes an empty object. */
function argumentsOf(rules: Rules, parameters: unknown): string {
  if (parameters === undefined || parameters === null) return literal("{}");
  return new SchemaReader(rules, parameters).value(parameters, "#", 0);
}

class SchemaReader {
  readonly #rules: Rules;
  readonly #root: unknown;
  readonly #references = new Map<string, string>();

  constructor(rules: Rules, root: unknown) {
    this.#rules = rules;
    this.#root = root;
  }

  /** An expression for the values that a schema allows. */
  value(schema: unknown, path: string, depth: number): string {
    if (depth > MOST_DEPTH) throw refuse("schemas inside each other", path);
    if (schema === true) return anyValue(this.#rules);
    if (!isSchema(schema)) throw refuse("something else than a schema", path);
    const expression = this.#described(schema, path, depth);
    return schema.nullable === true ? anyOf([expression, '"null"']) : expression;
  }

  #described(schema: Schema, path: string, depth: number): string {
    if (schema.$ref !== undefined) return this.#reference(only(schema, ["$ref"], path).$ref, path, depth);
    if (schema.const !== undefined) return jsonLiteral(only(schema, ["const", "type"], path).const);
    if (schema.enum !== undefined) {
      const values = items(only(schema, ["enum", "type"], path).enum, `${path}/enum`);
      return this.#rules.rule(anyOf(values.map(jsonLiteral)));
    }
    for (const keyword of ["anyOf", "oneOf", "allOf"]) {
      if (schema[keyword] === undefined) continue;
      const choices = items(only(schema, [keyword], path)[keyword], `${path}/${keyword}`);
      if (keyword === "allOf" && choices.length > 1) throw refuse("allOf of several schemas", path);
      const expressions = choices.map((choice, at) =>
        this.value(choice, `${path}/${keyword}/${at}`, depth + 1),
      );
      return this.#rules.rule(anyOf(expressions));
    }
    const types = typesOf(schema);
    if (types.length === 0) {
      only(schema, [], path);
      return anyValue(this.#rules);
    }
    only(schema, ["type", ...types.flatMap((type) => KEYWORDS[type] ?? [])], path);
    return anyOf(types.map((type) => this.#typed(type, schema, path, depth)));
  }

  #typed(type: string, schema: Schema, path: string, depth: number): string {
    switch (type) {
      case "object":
        return this.#rules.rule(this.#object(schema, path, depth));
      case "array":
        return this.#rules.rule(this.#array(schema, path, depth));
      case "string":
        return this.#string(schema, path);
      case "integer":
      case "number":
        return this.#rules.rule(numberOf(type, schema, path));
      case "boolean":
        return '("true" | "false")';
      case "null":
        return '"null"';
      default:
        throw refuse(`the type ${printable(type)}`, path);
    }
  }

  /** Properties in their order; those that are not required may be left out. */
  #object(schema: Schema, path: string, depth: number): string {
    const { properties = {}, additionalProperties } = schema;
    if (!isSchema(properties)) throw refuse("properties that are no object", path);
    const required = schema.required === undefined ? [] : items(schema.required, `${path}/required`);
    const keys = [...new Set([...Object.keys(properties), ...required.map(String)])];
    if (keys.length === 0) {
      if (additionalProperties === false) return literal("{}");
      if (additionalProperties === undefined) return anyObject(this.#rules);
      return mapOf(this.#rules, this.value(additionalProperties, `${path}/additionalProperties`, depth + 1));
    }
    // From the last property to the first: what may follow where something stands before it, and where nothing does.
    let after = '""';
    let start = '""';
    for (const key of keys.toReversed()) {
      const described = Object.hasOwn(properties, key) ? properties[key] : true;
      const entry = this.#rules.rule(
        pair(key, this.value(described, `${path}/properties/${printable(key)}`, depth + 1)),
      );
      const isRequired = required.includes(key);
      const nextStart = isRequired ? `${entry} ${after}` : anyOf([`${entry} ${after}`, start]);
      after = this.#rules.rule(`${COMMA} ${entry} ${after}${isRequired ? "" : ` | ${after}`}`);
      start = this.#rules.rule(nextStart);
    }
    return `"{" ${start} "}"`;
  }

  #array(schema: Schema, path: string, depth: number): string {
    const least = lengthOf(schema.minItems, path) ?? 0;
    const most = lengthOf(schema.maxItems, path);
    if (schema.prefixItems !== undefined) {
      if (schema.items !== undefined && schema.items !== false) throw refuse("items after prefixItems", path);
      const parts = items(schema.prefixItems, `${path}/prefixItems`);
      if (least > parts.length || (most ?? parts.length) < parts.length)
        throw refuse("lengths of a tuple", path);
      const values = parts.map((part, at) => this.value(part, `${path}/prefixItems/${at}`, depth + 1));
      return `"[" ${values.join(` ${COMMA} `)} "]"`;
    }
    const item = this.#rules.rule(this.value(schema.items ?? true, `${path}/items`, depth + 1));
    return this.#rules.rule(list(item, least, most, path));
  }

  #string(schema: Schema, path: string): string {
    const { format, minLength, maxLength } = schema;
    if (format === undefined) {
      return this.#rules.rule(
        textOf(this.#rules, lengthOf(minLength, path) ?? 0, lengthOf(maxLength, path), path),
      );
    }
    const form = typeof format === "string" ? formattedText(format) : undefined;
    if (form === undefined) throw refuse(`the format ${printable(String(format))}`, path);
    if (minLength !== undefined || maxLength !== undefined) throw refuse("lengths beside a format", path);
    return this.#rules.rule(form);
  }

  #reference(reference: unknown, path: string, depth: number): string {
    const [, ...steps] =
      typeof reference === "string" && reference.startsWith("#") ? reference.split("/") : [""];
    if (typeof reference !== "string" || !reference.startsWith("#"))
      throw refuse("a $ref to elsewhere", path);
    const known = this.#references.get(reference);
    if (known !== undefined) return known;
    let target: unknown = this.#root;
    for (const step of steps) {
      const key = step.replaceAll("~1", "/").replaceAll("~0", "~");
      target = isSchema(target) && Object.hasOwn(target, key) ? target[key] : undefined;
    }
    if (target === undefined) throw refuse("a $ref to nothing", path);
    const { name, fill } = this.#rules.reserve();
    this.#references.set(reference, name);
    fill(this.value(target, printable(reference), depth + 1));
    return name;
  }
}

function numberOf(type: "integer" | "number", schema: Schema, path: string): string {
  const { minimum, maximum, exclusiveMinimum, exclusiveMaximum, format } = schema;
  if (format !== undefined && !NUMBER_FORMATS.includes(String(format))) throw refuse("that format", path);
  if (type === "integer") {
    const least = most(bound(minimum, Math.ceil, 0n, path), bound(exclusiveMinimum, Math.floor, 1n, path), 1);
    const greatest = most(
      bound(maximum, Math.floor, 0n, path),
      bound(exclusiveMaximum, Math.ceil, -1n, path),
      -1,
    );
    if (least !== undefined && greatest !== undefined && least > greatest)
      throw refuse("an empty range", path);
    return integer(least, greatest);
  }
  const least = bound(minimum, whole, 0n, path);
  const greatest = bound(maximum, whole, 0n, path);
  if ((greatest ?? 0n) < 0n || (least ?? 0n) > (greatest ?? least ?? 0n))
    throw refuse("that range of numbers", path);
  return decimal(least, greatest);
}

/** The stricter of two bounds. */
function most(one: bigint | undefined, other: bigint | undefined, sign: 1 | -1): bigint | undefined {
  if (one === undefined || other === undefined) return one ?? other;
  return one > other === (sign === 1) ? one : other;
}

function bound(
  value: unknown,
  round: (value: number) => number,
  shift: bigint,
  path: string,
): bigint | undefined {
  if (value === undefined) return undefined;
  const rounded = typeof value === "number" ? round(value) : Number.NaN;
  if (Math.abs(rounded) < 1e15) return BigInt(rounded) + shift;
  throw refuse("that bound of a number", path);
}

function whole(value: number): number {
  return Number.isInteger(value) ? value : Number.NaN;
}

function typesOf(schema: Schema): string[] {
  if (schema.type !== undefined) return [schema.type].flat().map(String);
  // A type that is not named is told by the keywords that go with it alone.
  const told = Object.keys(KEYWORDS).find((type) =>
    KEYWORDS[type]!.some((keyword) => schema[keyword] !== undefined),
  );
  return told === undefined ? [] : [told];
}

/** The schema, when it has no keyword besides these that limits anything. */
function only(schema: Schema, keywords: readonly string[], path: string): Schema {
  const odd = Object.keys(schema).find(
    (key) => !keywords.includes(key) && !ANNOTATIONS.includes(key) && !key.startsWith("x-"),
  );
  if (odd === undefined) return schema;
  throw refuse(`the keyword ${printable(odd)}`, path);
}

function items(value: unknown, path: string): unknown[] {
  if (Array.isArray(value) && value.length > 0) return value;
  if (path.endsWith("/required") && Array.isArray(value)) return value;
  throw refuse("an empty list", path);
}

function lengthOf(value: unknown, path: string): number | undefined {
  if (value === undefined || (Number.isSafeInteger(value) && (value as number) >= 0))
    return value as undefined;
  throw refuse("that length", path);
}

function isSchema(value: unknown): value is Schema {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function printable(text: string): string {
  return text.replace(/[^\w$/#.-]/g, "?").slice(0, 64);
}

function refuse(what: string, path: string): InfernetError {
  return new InfernetError(
    "bad-request",
    `the embedded model cannot be held to a schema with ${what} (at ${path})`,
    {
      hint: "Say it in the description instead, or ask another node.",
    },
  );
}
