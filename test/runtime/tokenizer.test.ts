import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "chai";
import { openTokenizer } from "../../runtime/tokenizer.ts";
import { failureOf, temporaryFolder } from "../support/machine.ts";
import { tinyModelFile } from "../support/tiny-model.ts";

describe("a tokenizer from a model's file", function () {
  this.timeout(30_000);

  it("counts the tokens of a text by the vocabulary alone", async () => {
    const tokenizer = await openTokenizer(tinyModelFile());
    try {
      expect(tokenizer.count("")).to.equal(0);
      const one = tokenizer.count("hello world");
      expect(one).to.be.within(1, 11);
      expect(tokenizer.count("hello world ".repeat(50))).to.be.greaterThan(10 * one);
    } finally {
      await tokenizer.close();
    }
  });

  it("refuses a file that holds no vocabulary, and one that is not there", async () => {
    const file = join(temporaryFolder(), "not.gguf");
    writeFileSync(file, "no model at all");
    for (const path of [file, `${file}.gone`])
      expect((await failureOf(() => openTokenizer(path))).code).to.equal("bad-config");
  });
});
