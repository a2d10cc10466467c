// Holds the branch trees in docs/branches/ and the titles of the contract tests to each other.
import { readdirSync, readFileSync } from "node:fs";
import { expect } from "chai";

const trees = new URL("../../docs/branches/", import.meta.url);
const tests = new URL("./", import.meta.url);

function findAll(folder: URL, ending: string, pattern: RegExp): string[] {
  return readdirSync(folder)
    .filter((file) => file.endsWith(ending))
    .flatMap((file) => [...readFileSync(new URL(file, folder), "utf8").matchAll(pattern)])
    .map((match) => match[1]!);
}

describe("Branch trees", () => {
  const leaves = findAll(trees, ".md", /^\s*- ([ER]-\w+-\d+): /gm);
  const titles = findAll(tests, ".test.ts", /\bit\(\s*["'`]([ER]-\w+-\d+): /g);

  it("give every leaf one id", () => {
    expect(leaves).to.have.length.above(100);
    expect(new Set(leaves).size).to.equal(leaves.length);
  });

  it("have a test for every leaf", () => {
    expect(leaves.filter((leaf) => !titles.includes(leaf))).to.deep.equal([]);
  });

  it("know every id that a test names", () => {
    expect(titles.filter((title) => !leaves.includes(title))).to.deep.equal([]);
  });
});
