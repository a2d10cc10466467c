// Holds the branch tree of sessions and the titles of the requester's tests to each other.
import { readdirSync, readFileSync } from "node:fs";
import { expect } from "chai";

const TREE = new URL("../../docs/branches/session.md", import.meta.url);
const TESTS = new URL("./sessions/", import.meta.url);

describe("the branch tree of sessions", () => {
  const leaves = [...readFileSync(TREE, "utf8").matchAll(/^\s*- (S-\w+-\d+): /gm)].map(([, id]) => id!);
  const titles = readdirSync(TESTS)
    .filter((file) => file.endsWith(".test.ts"))
    .flatMap((file) => [...readFileSync(new URL(file, TESTS), "utf8").matchAll(/\bit\(\s*["'`]([^:]+):/g)])
    .flatMap(([, ids]) => ids!.match(/S-\w+-\d+/g) ?? []);

  it("has a test for every leaf, and knows every id that a test names", () => {
    expect(leaves).to.have.length.above(30);
    expect([...titles].sort()).to.deep.equal([...new Set(leaves)].sort());
  });
});
