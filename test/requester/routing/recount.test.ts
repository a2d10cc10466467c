import { expect } from "chai";
import { readModelRequest } from "../../../requester/model-request.ts";
import type { Delivered } from "../../../requester/routing/buyer.ts";
import { findInflation } from "../../../requester/routing/recount.ts";
import { openTokenizer, type Tokenizer } from "../../../runtime/tokenizer.ts";
import { tinyModelFile } from "../../support/tiny-model.ts";

describe("counting an answer again", function () {
  this.timeout(30_000);
  let tokenizer: Tokenizer;
  before(async () => {
    tokenizer = await openTokenizer(tinyModelFile());
  });
  after(() => tokenizer.close());

  const text = "All happy families are alike; each unhappy family is unhappy in its own way. ".repeat(5);
  type Told = {
    promptTokens?: number;
    completionTokens?: number;

    isPlain?: boolean;
    body?: object;
  };
  const judge = async (told: Told) => {
    const { promptTokens = 0, completionTokens = 0, isPlain = true, body = {} } = told;
    const asked = { model: "tiny", messages: [{ role: "user", content: text }], ...body };
    const request = readModelRequest("/v1/chat/completions", Buffer.from(JSON.stringify(asked)));
    const delivered = { request, isPlain, bill: { text, promptTokens, completionTokens } };
    return await findInflation(delivered as Delivered, async (counted) => tokenizer.count(counted));
  };
  const most = (extra = 0) => Math.ceil(tokenizer.count(text) * 1.1) + 8 + extra;

  it("believes a tenth and eight tokens more than the vocabulary counts, and not one above", async () => {
    expect(await judge({ completionTokens: most() })).to.equal(undefined);
    const found = await judge({ completionTokens: most() + 1 });
    expect(found).to.deep.include({ told: most() + 1, most: most(), counted: tokenizer.count(text) });
    expect(found!.reason).to.match(/counts \d+ completion tokens where the model's vocabulary counts \d+/);
  });

  it("believes a stop text that was made and not shown", async () => {
    expect(await judge({ completionTokens: most(5), body: { stop: ["\n", "[end]"] } })).to.equal(undefined);
    expect((await judge({ completionTokens: most(6), body: { stop: ["\n", "[end]"] } }))!.most).to.equal(
      most(5),
    );
  });

  it("believes what a chat's template may add to a prompt, and no more", async () => {
    expect(await judge({ promptTokens: most(48) })).to.equal(undefined);
    expect((await judge({ promptTokens: most(49) }))!.reason).to.contain("prompt tokens");
  });

  it("says nothing where it cannot tell: thoughts and tool calls, prompts that are not text alone", async () => {
    expect(await judge({ completionTokens: 9_999, isPlain: false })).to.equal(undefined);
    expect(await judge({ promptTokens: 9_999, body: { tools: [{}] } })).to.equal(undefined);
    const messages = [{ role: "user", content: [{ type: "text", text }] }];
    expect(await judge({ promptTokens: 9_999, body: { messages } })).to.equal(undefined);
  });
});
