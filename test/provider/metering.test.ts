// The arithmetic of one request: counts never above what is paid for, asks never above what a careful requester signs.
import { expect } from "chai";
import fc from "fast-check";
import { costMillionths, estimatePromptTokens } from "../../protocol/price.ts";
import {
  believableCounts,
  coveredCounts,
  coverOf,
  firstCover,
  type MeterTerms,
  meterEvent,
  NOTHING_METERED,
  nextCover,
  textBytesOf,
} from "../../provider/metering.ts";
import type { UpstreamEvent } from "../../provider/upstreams/upstream.ts";
import { holds } from "../support/properties.ts";

const TERMS: MeterTerms = {
  prices: { inputPrice: 2n, outputPrice: 3n },
  chunkTokens: 64,
  maxTokens: 1000,
  promptTextBytes: 41,
  promptTokenBound: 89,
};
const text = (content: string, tokens = 1): UpstreamEvent => ({
  type: "chunk",
  chunk: { choices: [{ index: 0, delta: { role: "assistant", content }, finish_reason: null }] },
  tokens,
});
const usage = (promptTokens: number, completionTokens: number, final = true): UpstreamEvent => ({
  type: "usage",
  promptTokens,
  completionTokens,
  final,
});
const meterAll = (events: UpstreamEvent[]) => events.reduce(meterEvent, NOTHING_METERED);

const prices = fc.record({ inputPrice: fc.bigInt(0n, 10n ** 9n), outputPrice: fc.bigInt(0n, 10n ** 9n) });
const count = fc.integer({ min: 0, max: 10_000 });
const terms: fc.Arbitrary<MeterTerms> = fc.record({
  prices,
  chunkTokens: fc.integer({ min: 1, max: 512 }),
  maxTokens: fc.integer({ min: 1, max: 5000 }),
  promptTextBytes: count,
  promptTokenBound: count,
});

describe("metering", () => {
  it("counts deltas as they come, until the upstream's own usage replaces the count", () => {
    expect(meterAll([text("a"), text("bc", 2)]).counts).to.deep.equal({
      promptTokens: 0,
      completionTokens: 3,
    });
    const running = meterAll([text("a"), usage(7, 5, false), text("b")]);
    expect(running).to.deep.include({ counts: { promptTokens: 7, completionTokens: 6 }, counted: false });
    expect(meterAll([text("a"), usage(7, 1)])).to.deep.include({ counted: true });
  });

  it("measures a model's text in all members of a delta but its role", () => {
    const delta = {
      role: "assistant",
      content: "é",
      reasoning_content: "abc",
      tool_calls: [{ index: 0, function: { name: "f", arguments: "{}" } }],
    };
    expect(textBytesOf({ choices: [{ index: 0, delta, finish_reason: null }] })).to.equal(2 + 3 + 1 + 2);
    expect(textBytesOf({ choices: [{ index: 0, text: "abcd", finish_reason: null }] })).to.equal(4);
    expect(textBytesOf({})).to.equal(0);
  });

  it("never believes more completion tokens than bytes of text, nor more prompt tokens than the prompt can hold", () => {
    expect(believableCounts(meterAll([text("ab"), usage(7, 9)]), TERMS)).to.deep.equal({
      promptTokens: 7,
      completionTokens: 2,
    });
    expect(believableCounts(meterAll([text("ab"), usage(90, 1)]), TERMS)).to.deep.equal({
      promptTokens: 89,
      completionTokens: 1,
    });
  });

  it("covers a stream's prefill and two chunks at first, or all its tokens when they are fewer or unstreamed", () => {
    expect(firstCover(TERMS, true)).to.equal(11n * 2n + 128n * 3n);
    expect(firstCover({ ...TERMS, maxTokens: 100 }, true)).to.equal(11n * 2n + 100n * 3n);
    expect(firstCover(TERMS, false)).to.equal(11n * 2n + 1000n * 3n);
  });

  it("asks for a chunk more as soon as less than one is left, and not before", () => {
    const covered = firstCover(TERMS, true);
    expect(nextCover(meterAll([text("x".repeat(64), 64)]), TERMS, covered)).to.equal(undefined);
    expect(nextCover(meterAll([text("x".repeat(65), 65)]), TERMS, covered)).to.equal(covered + 64n * 3n);
  });

  it("goes on by chunks from the upstream's count of a prompt that was taken for smaller", () => {
    const covered = firstCover(TERMS, true);
    const metered = meterAll([text("a"), usage(500, 1, false)]);
    expect(nextCover(metered, TERMS, covered)).to.equal(500n * 2n + (1n + 64n) * 3n);
  });

  it("never asks for more than the prompt, what was made and two chunks, nor than all tokens cost", () => {
    holds(
      fc.property(terms, count, count, fc.bigInt(0n, 10n ** 13n), (some, told, made, covered) => {
        const metered = { ...NOTHING_METERED, counts: { promptTokens: told, completionTokens: made } };
        const wanted = nextCover(metered, some, covered);
        if (wanted === undefined) return;
        const promptTokens = told || estimatePromptTokens(some.promptTextBytes);
        const completionTokens = Math.min(made + 2 * some.chunkTokens, some.maxTokens);
        expect(wanted > covered).to.equal(true);
        expect(wanted <= costMillionths({ promptTokens, completionTokens }, some.prices)).to.equal(true);
      }),
    );
  });

  it("cuts counts to what is paid for, and leaves them whole when all is", () => {
    holds(
      fc.property(
        prices,
        count,
        count,
        fc.bigInt(0n, 10n ** 13n),
        (some, promptTokens, completionTokens, paid) => {
          const counts = { promptTokens, completionTokens };
          const cut = coveredCounts(counts, some, paid);
          expect(costMillionths(cut, some) <= paid || costMillionths(cut, some) === 0n).to.equal(true);
          expect(cut.promptTokens <= promptTokens && cut.completionTokens <= completionTokens).to.equal(true);
          if (costMillionths(counts, some) <= paid) expect(cut).to.deep.equal(counts);
        },
      ),
    );
  });

  it("lets a prompt stand at its estimate until the upstream counts it", () => {
    expect(coverOf(meterAll([text("a")]), TERMS)).to.equal(11n * 2n + 3n);
    expect(coverOf(meterAll([text("a"), usage(30, 1, false)]), TERMS)).to.equal(30n * 2n + 3n);
  });
});
