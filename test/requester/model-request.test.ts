import { expect } from "chai";
import { earliestDeadline } from "../../protocol/funding.ts";
import { completionLimit, readModelRequest } from "../../requester/model-request.ts";
import { deadlineFor, depositFor, estimateCost, firstReceiptAmount } from "../../requester/sizing.ts";
import { exampleOffer } from "../support/examples.ts";
import { failureOf } from "../support/machine.ts";

const CHAT = "/v1/chat/completions";
const OFFER = exampleOffer();
const MODEL = OFFER.models[0]!;
const NOW = 1_800_000_000;

const read = (fields: object, path: "/v1/chat/completions" | "/v1/embeddings" = CHAT) =>
  readModelRequest(path, Buffer.from(JSON.stringify({ model: "tiny", ...fields })));
const MESSAGES = [{ role: "user", content: "0123456789" }];

describe("a request before it is paid", () => {
  it("is bounded by the bytes of its prompt and what a chat template may add", () => {
    const request = read({ messages: [...MESSAGES, { role: "user", content: "é" }] });
    expect(request.promptTextBytes).to.equal(12);
    expect(request.promptTokenBound).to.equal(12 + 2 * 16 + 32);
  });

  it("may cost the completion tokens that it names, or else as many as the offer gives", async () => {
    expect(completionLimit(read({ max_tokens: 7 }), OFFER)).to.equal(7);
    expect(completionLimit(read({ max_tokens: 7, max_completion_tokens: 6 }), OFFER)).to.equal(6);
    expect(completionLimit(read({}), OFFER)).to.equal(1024);
    expect(completionLimit(read({ input: "a" }, "/v1/embeddings"), OFFER)).to.equal(0);
    const failure = await failureOf(() => completionLimit(read({ max_tokens: 1025 }), OFFER));
    expect(failure.code).to.equal("bad-request");
  });

  it("is refused when it is not the JSON of a request", async () => {
    for (const text of [
      "",
      "[]",
      "{}",
      '{"model":""}',
      '{"model":"m","max_tokens":0}',
      '{"model":"m","stream":1}',
    ])
      expect((await failureOf(() => readModelRequest(CHAT, Buffer.from(text)))).code, text).to.equal(
        "bad-request",
      );
  });

  it("starts with a receipt for its estimated prompt and what is paid ahead", () => {
    // 10 bytes count as 3 tokens: (3 * 100,000 + 64 * 300,000) / 1e6 = 19.5, rounded up.
    expect(firstReceiptAmount(read({ messages: MESSAGES }), MODEL, 64)).to.equal(20n);
    expect(estimateCost(read({ messages: MESSAGES, max_tokens: 64 }), MODEL, OFFER)).to.equal(20n);
  });

  it("is given a deposit of its worst cost, within the highest charge, at least the offer's minimum", () => {
    const request = read({ messages: MESSAGES, max_tokens: 1000 });
    const offer = { ...OFFER, minDeposit: 100n };
    // (58 * 100,000 + 1000 * 300,000) / 1e6 = 305.8, rounded up.
    expect(depositFor(request, MODEL, offer, 1_000_000n)).to.equal(306n);
    expect(depositFor(request, MODEL, offer, 200n)).to.equal(200n);
    expect(depositFor(request, MODEL, offer, 50n)).to.equal(100n);
  });

  it("is given an hour, or what its offer needs and some time to open", () => {
    expect(deadlineFor(OFFER, NOW)).to.equal(NOW + 3600);
    expect(deadlineFor(OFFER, NOW, 7200)).to.equal(NOW + 7200);
    expect(deadlineFor(OFFER, NOW, 60)).to.equal(earliestDeadline(OFFER, NOW) + 120);
    const slow = { longestRequestSeconds: 36_000 };
    expect(deadlineFor({ ...OFFER, ...slow }, NOW)).to.be.above(earliestDeadline(slow, NOW));
  });
});
