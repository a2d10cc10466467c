import { join } from "node:path";
import { expect } from "chai";
import fc from "fast-check";
import { ZERO_WORD } from "../../protocol/bytes.ts";
import { chargeOf } from "../../protocol/price.ts";
import { receiptDigest } from "../../protocol/receipt.ts";
import { createAnswerReader } from "../../requester/answer-reader.ts";
import {
  type Ask,
  allowanceOf,
  createReceiptDesk,
  decide,
  type Exposure,
  sessionSigner,
} from "../../requester/budget.ts";
import { openLedger } from "../../requester/ledger.ts";
import { REQUESTER_MIGRATIONS } from "../../requester/ledger-rows.ts";
import { recoverSigner } from "../../runtime/signers/secp256k1.ts";
import { openStore } from "../../runtime/store.ts";
import { failureOf, temporaryFolder } from "../support/machine.ts";
import { holds } from "../support/properties.ts";
import { DOMAIN, OPENED_AT, openJob, SEED, word } from "./examples.ts";

const price = fc.bigInt({ min: 0n, max: 50_000_000n });
const tokens = fc.integer({ min: 0, max: 5_000 });
const amount = fc.bigInt({ min: 0n, max: 1_000_000n });
const seconds = fc.integer({ min: 0, max: 10_000 });

const anyAsk: fc.Arbitrary<Ask> = fc.record({
  need: fc.oneof(amount, fc.constant((1n << 96n) - 1n)),
  signed: amount,
  prices: fc.record({ inputPrice: price, outputPrice: price }),
  openingFee: fc.bigInt({ min: 0n, max: 5_000n }),
  promptTokens: tokens,
  arrivedTokens: tokens,
  aheadTokens: tokens,
  maxTokens: tokens,
  stepTokens: fc.integer({ min: 1, max: 64 }),
  deposit: amount,
  maxCharge: amount,
  left: fc.tuple(amount).map(([day]) => [{ limit: "maxUsdcPerDay" as const, amount: day }]),
  now: seconds.map((after) => OPENED_AT + after),
  openedAt: fc.constant(OPENED_AT),
  deadline: seconds.map((after) => OPENED_AT + after),
});

/** What an ask leads to: the amount of a new receipt, or the name of what stands against one. */
function outcomeOf(ask: Ask): bigint | string {
  try {
    const decision = decide(ask);
    return decision.kind === "sign" ? decision.amount : "keep";
  } catch (error) {
    return (error as { code: string }).code;
  }
}

describe("what a requester signs", () => {
  it("is never more than the deposit, the job's limit, the day's budget, the need, or its own cost and look-ahead", () => {
    holds(
      fc.property(anyAsk, (ask) => {
        const signed = outcomeOf(ask);
        if (typeof signed === "string") return;
        const { promptTokens, arrivedTokens, aheadTokens, maxTokens, prices, openingFee } = ask;
        const completionTokens = Math.min(arrivedTokens + aheadTokens, maxTokens);
        const own = chargeOf([{ promptTokens, completionTokens }], prices, openingFee);
        for (const limit of [ask.deposit, ask.maxCharge, ask.signed + ask.left[0]!.amount, ask.need, own])
          expect(signed <= limit, `${signed} <= ${limit}`).to.equal(true);
      }),
      2_000,
    );
  });

  it("only rises", () => {
    holds(
      fc.property(anyAsk, (ask) => {
        const signed = outcomeOf(ask);
        if (typeof signed !== "string") expect(signed > ask.signed).to.equal(true);
      }),
      2_000,
    );
  });

  it("is nothing from the deadline's margin on", () => {
    holds(
      fc.property(anyAsk, (ask) => {
        const inMargin = { ...ask, now: Math.max(ask.now, ask.deadline - 600) };
        expect(outcomeOf(inMargin)).to.be.oneOf(["keep", "job-expired"]);
      }),
    );
  });

  it("is the whole need when every limit allows it", () => {
    holds(
      fc.property(anyAsk, amount, (ask, room) => {
        const need = allowanceOf(ask);
        const limit = need + room;
        const roomy = {
          ...ask,
          need,
          deposit: limit,
          maxCharge: limit,
          left: [{ limit: "maxUsdcPerDay" as const, amount: limit }],
          deadline: OPENED_AT + 20_000,
        };
        expect(outcomeOf(roomy)).to.equal(need > ask.signed ? need : "keep");
      }),
    );
  });

  const ASK: Ask = {
    ...{ need: 100n, signed: 50n, prices: { inputPrice: 0n, outputPrice: 1_000_000n } },
    ...{
      openingFee: 0n,
      promptTokens: 0,
      arrivedTokens: 40,
      aheadTokens: 64,
      maxTokens: 1000,
      stepTokens: 32,
    },
    ...{ deposit: 1000n, maxCharge: 1000n, left: [] },
    ...{ now: OPENED_AT, openedAt: OPENED_AT, deadline: OPENED_AT + 3600 },
  };

  it("waits for more of the answer while the node asks for more than arrived", () => {
    expect(outcomeOf({ ...ASK, need: 500n, signed: 80n })).to.equal("keep");
    expect(outcomeOf({ ...ASK, need: 500n, signed: 72n })).to.equal(104n);
    expect(outcomeOf({ ...ASK, need: 500n, signed: 104n })).to.equal("keep");
  });

  it("goes up to a limit of the user's, and says which one stopped it there", async () => {
    const day = (amount: bigint) => ({ left: [{ limit: "maxUsdcPerDay" as const, amount }] });
    const limits = [
      [{ deposit: 70n }, "the job's deposit"],
      [{ maxCharge: 70n }, "the most that this job may cost"],
      [day(20n), "today's budget"],
    ] as const;
    for (const [limit, name] of limits) {
      expect(outcomeOf({ ...ASK, ...limit })).to.equal(70n);
      const there = { ...ASK, ...limit, signed: 70n, ...("left" in limit ? day(0n) : {}) };
      const failure = await failureOf(() => decide(there));
      expect(failure.code).to.equal("over-budget");
      expect(failure.message).to.contain(name);
    }
  });
});

describe("the receipt desk", () => {
  const EXPOSURE: Exposure = {
    ...{ prices: { inputPrice: 100_000n, outputPrice: 1_000_000n }, promptTokens: 100 },
    ...{ openingFee: 0n, arrivedTokens: 0, aheadTokens: 8, maxTokens: 10_000, stepTokens: 4 },
  };
  const SEEN = { lastEventId: 0, transcript: ZERO_WORD, now: OPENED_AT };

  function openDesk({ perJob, perDay } = { perJob: 1_000n, perDay: 1_500n }) {
    const limits = { perRequest: perJob, perJob, perDay, perNode: perDay * 2n, perNewNode: perDay * 2n };
    const store = openStore(join(temporaryFolder(), "requester.db"), REQUESTER_MIGRATIONS);
    const ledger = openLedger(store);
    const clock = { now: OPENED_AT, nowSeconds: () => clock.now };
    const desk = createReceiptDesk({ ledger, domain: DOMAIN, seed: SEED, limits, clock });
    return { store, ledger, clock, desk };
  }

  it("signs with the job's own session key, and only what the ledger has kept before", () => {
    const { ledger, desk } = openDesk();
    const jobId = openJob(ledger, { saltIndex: 7 });
    const receipt = desk.sign(jobId, 15n, EXPOSURE, { ...SEEN, transcript: word(9) });
    expect(receipt).to.include({ jobId, amount: 15n, transcript: word(9) });
    const signer = recoverSigner(receiptDigest(DOMAIN, receipt), receipt.signature);
    expect(signer).to.equal(sessionSigner(SEED, 7).address);
    expect(ledger.findJob(jobId)).to.include({ signed: 15n, phase: "streaming" });
  });

  it("repeats the mark when nothing more may be signed, after a restart too", () => {
    const { ledger, desk } = openDesk();
    const jobId = openJob(ledger, {});
    desk.sign(jobId, 18n, EXPOSURE, SEEN);
    expect(desk.sign(jobId, 10n, EXPOSURE, SEEN).amount).to.equal(18n);
    expect(desk.sign(jobId, 999n, EXPOSURE, SEEN).amount).to.equal(18n);
  });

  it("holds the day's budget over all jobs, and starts a new one at midnight UTC", async () => {
    const { ledger, desk, clock } = openDesk();
    const wide = { ...EXPOSURE, arrivedTokens: 5_000 };
    const [first, second] = [openJob(ledger, { saltIndex: 1 }), openJob(ledger, { saltIndex: 2 })];
    expect(desk.sign(first, 5_000n, wide, SEEN).amount).to.equal(1_000n);
    expect(desk.sign(second, 5_000n, wide, SEEN).amount).to.equal(500n);
    expect(desk.dayLeft()).to.equal(0n);
    expect((await failureOf(() => desk.sign(second, 5_000n, wide, SEEN))).code).to.equal("over-budget");
    clock.now += 86_400;
    expect(desk.sign(second, 5_000n, wide, SEEN).amount).to.equal(1_000n);
  });

  it("signs nothing for a job that is not open", async () => {
    const { ledger, desk } = openDesk();
    const jobId = openJob(ledger, {});
    ledger.noteEnded(jobId, null);
    expect((await failureOf(() => desk.sign(jobId, 10n, EXPOSURE, SEEN))).code).to.equal("job-not-found");
    expect((await failureOf(() => desk.sign(word(8), 10n, EXPOSURE, SEEN))).code).to.equal("job-not-found");
  });

  it("never runs ahead of what arrived, whatever a node sends and asks for", () => {
    const { ledger, desk } = openDesk({ perJob: 1n << 40n, perDay: 1n << 60n });
    const step = fc.oneof(
      fc.record({ kind: fc.constant("piece" as const), text: fc.string({ maxLength: 12 }) }),
      fc.record({ kind: fc.constant("need" as const), need: fc.bigInt({ min: 0n, max: 1n << 90n }) }),
    );
    let jobs = 100;
    holds(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        jobs += 1;
        const jobId = openJob(ledger, { saltIndex: jobs, deposit: 1n << 40n });
        const reader = createAnswerReader(word(1));
        let mark = 0n;
        let [bytes, pieces] = [0, 0];
        for (const current of steps) {
          if (current.kind === "piece") {
            const id = String(reader.snapshot().lastEventId + 1);
            reader.accept(id, JSON.stringify({ choices: [{ delta: { content: current.text } }] }));
            bytes += Buffer.byteLength(current.text);
            pieces += 1;
            continue;
          }
          const { tokens: arrivedTokens, lastEventId, transcript } = reader.snapshot();
          expect(arrivedTokens).to.be.at.most(Math.min(bytes, Math.max(pieces, Math.ceil(bytes / 4))));
          const exposure = { ...EXPOSURE, arrivedTokens };
          const { amount: signed } = desk.sign(jobId, current.need, exposure, {
            ...SEEN,
            lastEventId,
            transcript,
          });
          expect(signed >= mark).to.equal(true);
          expect(signed <= allowanceOf(exposure)).to.equal(true);
          mark = signed;
        }
        expect(ledger.findJob(jobId)!.signed).to.equal(mark);
      }),
      60,
    );
  });
});
