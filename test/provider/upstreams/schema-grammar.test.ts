// Grammars made of JSON schemas, as llama.cpp itself reads them: what they let through, and what is refused.
import { expect } from "chai";
import { getLlama, type Llama, LlamaGrammar } from "node-llama-cpp";
import {
  type Callable,
  grammarOfAnyObject,
  grammarOfArguments,
  grammarOfCall,
  grammarOfSchema,
} from "../../../provider/upstreams/schema-grammar.ts";
import { failureOf } from "../../support/machine.ts";

type Case = [what: string, schema: unknown, allowed: unknown[], forbidden: unknown[]];

const TREE = {
  type: "object",
  properties: { value: { type: "integer" }, next: { anyOf: [{ $ref: "#" }, { type: "null" }] } },
  required: ["value", "next"],
};
const OPTIONAL = {
  type: "object",
  properties: { a: { type: "boolean" }, b: { const: 1 }, c: { enum: ["x", 2] } },
  required: ["b"],
  additionalProperties: false,
};
const WITH_DEFINITIONS = {
  $defs: { "a/b": { type: "string", enum: ["yes"] } },
  type: "array",
  items: { $ref: "#/$defs/a~1b" },
};
const DATES = {
  prefixItems: [
    { type: "string", format: "date" },
    { type: "string", format: "date-time" },
  ],
};

const CASES: Case[] = [
  [
    "properties, required or not",
    OPTIONAL,
    [{ b: 1 }, { a: true, b: 1 }, { b: 1, c: 2 }, { a: false, b: 1, c: "x" }],
    [{}, { a: true }, { b: 1, d: 1 }, { b: 2 }, { b: 1, c: "y" }],
  ],
  [
    "only optional properties",
    { properties: { a: { type: "null" }, b: { type: "null" } } },
    [{}, { a: null }, { b: null }, { a: null, b: null }],
    [{ c: null }],
  ],
  [
    "an object that must be empty",
    { type: "object", properties: {}, additionalProperties: false },
    [{}],
    [{ a: 1 }],
  ],
  ["any object", { type: "object" }, [{}, { a: [1, { b: "é" }] }], [[], 1]],
  [
    "a map",
    { type: "object", additionalProperties: { type: "integer" } },
    [{}, { a: 1, b: 2 }],
    [{ a: "1" }],
  ],
  [
    "a required property without a schema",
    { type: "object", required: ["a"] },
    [{ a: 1 }, { a: [null] }],
    [{}],
  ],
  [
    "lengths of a list",
    { type: "array", items: { type: "integer" }, minItems: 1, maxItems: 3 },
    [[1], [1, 2, 3]],
    [[], [1, 2, 3, 4], ["1"]],
  ],
  [
    "an endless list",
    { type: "array", items: { type: "boolean" } },
    [[], [true], Array(50).fill(false)],
    [[1]],
  ],
  ["an empty list", { type: "array", maxItems: 0 }, [[]], [[1]]],
  [
    "a tuple",
    { prefixItems: [{ type: "string" }, { type: "integer" }], items: false },
    [["a", 1]],
    [["a"], [1, "a"], ["a", 1, 2]],
  ],
  [
    "lengths of a text",
    { type: "string", minLength: 2, maxLength: 4 },
    ["ab", "漢字é!", 'a"\\b'],
    ["a", "abcde"],
  ],
  ["whole numbers", { type: "integer" }, [0, -12, 123_456_789], [1.5, "1"]],
  [
    "a range",
    { type: "integer", minimum: -12, maximum: 305 },
    [-12, -1, 0, 9, 10, 99, 100, 299, 305],
    [-13, 306, 1000],
  ],
  [
    "a range above zero",
    { type: "integer", minimum: 17, maximum: 121 },
    [17, 20, 99, 100, 121],
    [16, 122, 9, -17],
  ],
  [
    "a range below zero",
    { type: "integer", exclusiveMinimum: -30, exclusiveMaximum: -3 },
    [-29, -4],
    [-30, -3, 3],
  ],
  ["a bound alone", { type: "integer", minimum: 1 }, [1, 10, 987_654], [0, -1]],
  ["numbers", { type: "number" }, [0, -1.25, 3.5, 100], ["1", true]],
  ["numbers of a range", { type: "number", minimum: 0, maximum: 2 }, [0, 0.5, 1.99, 2], [2.1, -0.5, 3]],
  ["several types", { type: ["string", "null"] }, ["a", null], [1]],
  ["what may be null", { type: "boolean", nullable: true }, [true, null], [1]],
  ["alternatives", { anyOf: [{ type: "integer" }, { const: "none" }] }, [4, "none"], ["no", 1.5]],
  ["one of a list of one", { allOf: [{ type: "boolean" }], title: "t", description: "d" }, [true], [1]],
  [
    "a schema inside itself",
    TREE,
    [
      { value: 1, next: null },
      { value: 1, next: { value: 2, next: null } },
    ],
    [{ value: 1 }],
  ],
  ["definitions", WITH_DEFINITIONS, [[], ["yes", "yes"]], [["no"]]],
  [
    "dates",
    DATES,
    [["2026-11-28", "2026-01-02T23:59:58Z"]],
    [
      ["2026-13-01", "2026-01-02T23:59:58Z"],
      ["a", "b"],
    ],
  ],
  ["an e-mail address", { type: "string", format: "email" }, ["a.b@example.org"], ["a", "@b"]],
  ["an address of the web", { type: "string", format: "uri" }, ["https://example.org/a?b=c"], ["example"]],
  ["a UUID", { type: "string", format: "uuid" }, ["123e4567-e89b-12d3-a456-426614174000"], ["123"]],
  [
    "an IPv4 address",
    { type: "string", format: "ipv4" },
    ["127.0.0.1", "255.255.255.255"],
    ["256.1.1.1", "1.2.3"],
  ],
  ["anything", true, [null, "a", [{ a: {} }], -1.5], []],
  ["anything that is only described", { description: "whatever" }, [null, { a: 1 }], []],
];

const REFUSED: [what: string, schema: unknown, message: string][] = [
  ["a pattern", { type: "string", pattern: "^a" }, "pattern (at #)"],
  [
    "a keyword that nobody knows",
    { type: "object", properties: { a: { type: "string", foo: 1 } } },
    "foo (at #/properties/a)",
  ],
  ["unique items", { type: "array", uniqueItems: true }, "uniqueItems"],
  ["multiples", { type: "integer", multipleOf: 3 }, "multipleOf"],
  ["not", { not: { type: "string" } }, "not"],
  ["limits beside alternatives", { anyOf: [{ type: "string" }], minLength: 3 }, "minLength"],
  ["all of several", { allOf: [{ type: "string" }, { minLength: 2 }] }, "allOf"],
  ["a type that is none", { type: "float" }, "float"],
  ["a format that nobody knows", { type: "string", format: "hostname" }, "hostname"],
  ["a reference to elsewhere", { $ref: "https://example.org/schema" }, "$ref"],
  ["a reference to nothing", { $ref: "#/$defs/none" }, "$ref"],
  ["no alternatives", { enum: [] }, "empty list"],
  ["nothing at all", false, "something else than a schema"],
  ["an empty range", { type: "integer", minimum: 3, maximum: 2 }, "range"],
  ["lengths that cross", { type: "string", minLength: 3, maxLength: 2 }, "lengths"],
  ["a length that llama.cpp does not take", { type: "string", maxLength: 100_000 }, "at most 1000"],
  ["a length that is none", { type: "array", minItems: -1 }, "length"],
  ["fractions at the ends of a range", { type: "number", minimum: 0.5 }, "bound"],
];

describe("a grammar of a JSON schema", function () {
  this.timeout(30_000);
  let llama: Llama;
  before(async () => {
    llama = await getLlama({
      gpu: false,
      build: "never",
      skipDownload: true,
      progressLogs: false,
      maxThreads: 0,
    });
  });
  after(() => llama.dispose());

  /** llama.cpp's own judgement of a whole text; its package declares no type for it. */
  const allows = (grammar: string, text: string): boolean => {
    const parsed = new LlamaGrammar(llama, { grammar }) as unknown as { _testText(text: string): boolean };
    return parsed._testText(text);
  };

  for (const [what, schema, allowed, forbidden] of CASES) {
    it(`holds ${what}`, () => {
      const grammar = grammarOfSchema(schema);
      for (const value of allowed)
        expect(allows(grammar, JSON.stringify(value)), JSON.stringify(value)).to.equal(true);
      for (const value of forbidden)
        expect(allows(grammar, JSON.stringify(value)), JSON.stringify(value)).to.equal(false);
    });
  }

  for (const [what, schema, message] of REFUSED) {
    it(`refuses ${what}, and says where`, async () => {
      const failure = await failureOf(() => grammarOfSchema(schema));
      expect(failure.code).to.equal("bad-request");
      expect(failure.message).to.contain(message);
    });
  }

  it("refuses a schema that is larger or deeper than any honest one", async () => {
    const values = Array.from({ length: 2_100 }, (_, at) => ({ type: "object", required: [`k${at}`] }));
    expect((await failureOf(() => grammarOfSchema({ anyOf: values }))).message).to.contain("too large");
    let deep: object = { type: "string" };
    for (let depth = 0; depth < 100; depth++) deep = { type: "array", items: deep };
    expect((await failureOf(() => grammarOfSchema(deep))).code).to.equal("bad-request");
  });

  it("lets a space follow colons and commas, as models like to write", () => {
    expect(allows(grammarOfSchema(OPTIONAL), '{"a": true, "b": 1}')).to.equal(true);
    expect(allows(grammarOfSchema(OPTIONAL), '{"a":  true,"b":1}')).to.equal(false);
  });

  it("lets nothing be said before or behind the value", () => {
    for (const text of [' {"b":1}', '{"b":1} ', '{"b":1}{"b":1}']) {
      expect(allows(grammarOfSchema(OPTIONAL), text), text).to.equal(false);
    }
  });

  it("without a schema lets any object through and nothing else", () => {
    const grammar = grammarOfAnyObject();
    expect(allows(grammar, '{"a":{"b":[1,2.5,"x\\n",null,true]}}')).to.equal(true);
    for (const text of ["[]", "1", '{"a":', "{a:1}"]) expect(allows(grammar, text), text).to.equal(false);
  });

  it("holds a call to one of the tools and to its own arguments", () => {
    const tools: Callable[] = [
      {
        name: "get",
        parameters: { type: "object", properties: { a: { type: "integer" } }, required: ["a"] },
      },
      { name: "get_all", parameters: undefined },
    ];
    const grammar = grammarOfCall(tools, "(");
    for (const text of ['get({"a":1}', "get_all({}"]) expect(allows(grammar, text), text).to.equal(true);
    for (const text of ['get_all({"a":1}', "get({}", "other({}"])
      expect(allows(grammar, text), text).to.equal(false);
    expect(allows(grammarOfArguments(tools[0]!), '{"a":7}')).to.equal(true);
  });
});
