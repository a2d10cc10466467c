import { expect } from "chai";
import fc from "fast-check";
import { PROVIDER_DEFAULTS, type SettlementRule } from "../../provider/config.ts";
import type { DueJob } from "../../provider/settlement-ledger.ts";
import {
  claimableOf,
  feeUsdc,
  isPayOutWorth,
  LARGEST_BATCH,
  planSettlements,
  type SettlementScene,
} from "../../provider/settlement-policy.ts";
import { holds } from "../support/properties.ts";
import { exampleJob, OPENED_AT, receiptOf, word } from "./ledger-fixture.ts";

const RULE: SettlementRule = { ...PROVIDER_DEFAULTS.settle, topUpSeconds: 10 };
/** One gwei, at 3,000 USDC a coin: 51,000 gas cost 0.153 USDC. */
const SCENE: SettlementScene = { rule: RULE, gasPrice: 10n ** 9n, now: OPENED_AT, blockTime: OPENED_AT };
const SETTLE_FEE = 153_000n;
const NOTHING = { settle: [], refund: [], claim: [] };

function dueJob(charge: bigint, changes: Partial<DueJob> = {}, signed = charge, index = 1): DueJob {
  const jobId = word(index % 256);
  return {
    jobId,
    job: exampleJob(),
    deposit: 1n << 60n,
    openedAt: OPENED_AT,
    openedBlock: 5,
    registeredPayee: exampleJob().payee,
    confirmedAtBlock: 5,
    undone: false,
    openingFee: 0n,
    salt: word(1),
    offerHash: word(2),
    requestHash: word(3),
    state: "settling",
    receipt: signed > 0n ? receiptOf(jobId, signed) : null,
    claimed: 0n,
    claiming: 0n,
    overSince: OPENED_AT - 100,
    closeAsked: false,
    ...{
      charge,
      endedCharge: charge,
      endedCost: charge * 1_000_000n,
      runningCost: 0n,
      reserved: 0n,
      running: 0,
    },
    ...changes,
  };
}
const amountsOf = (jobs: DueJob[], scene: Partial<SettlementScene> = {}) =>
  planSettlements(jobs, [], { ...SCENE, ...scene }).settle.map(({ amount }) => amount);

describe("settlement policy", () => {
  it("a fee in USDC is gas times price, rounded up", () => {
    expect(feeUsdc(51_000n, 10n ** 9n, 3_000_000_000n)).to.equal(SETTLE_FEE);
    expect(feeUsdc(1n, 1n, 1n)).to.equal(1n);
    expect(feeUsdc(51_000n, 0n, 3_000_000_000n)).to.equal(0n);
  });

  it("settles a job that is worth twenty times its fee, and not one that is worth less", () => {
    expect(amountsOf([dueJob(20n * SETTLE_FEE)])).to.deep.equal([20n * SETTLE_FEE]);
    expect(amountsOf([dueJob(20n * SETTLE_FEE - 1n)])).to.deep.equal([]);
  });

  it("settles a large job without the small ones that would make the transaction dear", () => {
    const small = Array.from({ length: 10 }, (_, index) => dueJob(80_000n, {}, 80_000n, index + 2));
    expect(amountsOf([...small, dueJob(20n * SETTLE_FEE)])).to.deep.equal([20n * SETTLE_FEE]);
  });

  it("settles together what is worth it only together", () => {
    const rule = { ...RULE, feeMultiple: 1n };
    const jobs = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10].map((index) => dueJob(100_000n, {}, 100_000n, index));
    expect(amountsOf(jobs, { rule })).to.have.length(10);
    expect(amountsOf(jobs.slice(0, 1), { rule })).to.deep.equal([]);
  });

  it("settles what is near its deadline if that only pays, and whatever pays once too much is exposed", () => {
    const blockTime = exampleJob().deadline - 700;
    expect(amountsOf([dueJob(SETTLE_FEE + 1n)], { blockTime })).to.deep.equal([SETTLE_FEE + 1n]);
    expect(amountsOf([dueJob(SETTLE_FEE)], { blockTime })).to.deep.equal([]);
    expect(amountsOf([dueJob(400_000n)], { rule: { ...RULE, exposureCap: 400_000n } })).to.deep.equal([
      400_000n,
    ]);
  });

  it("waits for the rest of a charge to be signed, but not for long and not near the deadline", () => {
    const rule: SettlementRule = { ...RULE, when: "always" };
    const fresh = dueJob(500n, { overSince: OPENED_AT - 9 }, 300n);
    expect(amountsOf([fresh], { rule })).to.deep.equal([]);
    expect(amountsOf([fresh], { rule, now: OPENED_AT + 1 })).to.deep.equal([300n]);
    expect(amountsOf([fresh], { rule, blockTime: exampleJob().deadline - 700 })).to.deep.equal([300n]);
    expect(amountsOf([dueJob(500n, { overSince: OPENED_AT, deposit: 300n }, 300n)], { rule })).to.deep.equal([
      300n,
    ]);
  });

  it("a refused job claims nothing and is refunded where that is free", () => {
    const refused = dueJob(0n, { state: "refused" }, 900n);
    const rule: SettlementRule = { ...RULE, when: "always" };
    expect(planSettlements([refused], [], { ...SCENE, rule })).to.deep.equal({
      ...{ settle: [], claim: [], refund: [refused] },
    });
    expect(planSettlements([refused], [], SCENE)).to.deep.equal(NOTHING);
  });

  it("closes what its requester asks to be closed, if that costs little more gas than it claims", () => {
    const asked = (charge: bigint, index: number) => dueJob(charge, { closeAsked: true }, charge, index);
    const rule = { ...RULE, closeGiftUpTo: SETTLE_FEE };
    const [nothing, little, unasked] = [asked(0n, 1), asked(1n, 2), dueJob(1n, {}, 1n, 3)];
    const plan = planSettlements([nothing, little, unasked], [], { ...SCENE, rule });
    const settle = [{ job: little, amount: 1n, gain: 1n }];
    expect(plan).to.deep.equal({ settle, refund: [nothing], claim: [] });
    expect(planSettlements([nothing, little], [], SCENE)).to.deep.equal(NOTHING);
    expect(amountsOf([asked(SETTLE_FEE - 10_000n, 4)])).to.deep.equal([SETTLE_FEE - 10_000n]);
    expect(amountsOf([asked(SETTLE_FEE - 10_001n, 5)])).to.deep.equal([]);
  });

  describe("of a job that goes on", () => {
    const live = (earned: bigint, changes: Partial<DueJob> = {}, index = 1) =>
      dueJob(earned, { state: "funded", overSince: null, ...changes }, 1n << 40n, index);
    const gainsOf = (jobs: DueJob[], scene: Partial<SettlementScene> = {}, over: DueJob[] = []) =>
      planSettlements(over, jobs, { ...SCENE, ...scene }).claim.map(({ gain }) => gain);
    const cap = (exposureCap: bigint) => ({ rule: { ...RULE, exposureCap } });

    it("claims what is worth a hundred times its fee since the last claim, and not what is worth less", () => {
      const far = cap(1n << 60n);
      expect(gainsOf([live(100n * SETTLE_FEE)], far)).to.deep.equal([100n * SETTLE_FEE]);
      expect(gainsOf([live(100n * SETTLE_FEE - 1n)], far)).to.deep.equal([]);
      expect(gainsOf([live(100n * SETTLE_FEE, { claiming: 1n })], far)).to.deep.equal([]);
    });

    it("claims whatever pays once all that is unclaimed, of ended jobs too, reaches the cap", () => {
      const [large, small] = [live(300_000n), live(78_000n, {}, 2)];
      expect(gainsOf([large, small], cap(378_001n))).to.deep.equal([]);
      expect(gainsOf([large, small], cap(378_000n))).to.deep.equal([300_000n]);
      expect(gainsOf([large, small], cap(378_001n), [dueJob(1n, {}, 1n, 3)])).to.deep.equal([300_000n]);
      expect(gainsOf([live(SETTLE_FEE)], cap(1n))).to.deep.equal([]);
      const claimed = { claiming: 200_000n };
      expect(gainsOf([live(300_000n, claimed)], cap(100_001n))).to.deep.equal([]);
    });

    it("claims what pays of a session that still runs in its deadline's margin", () => {
      const blockTime = exampleJob().deadline - 500;
      expect(gainsOf([live(SETTLE_FEE + 1n)], { blockTime })).to.deep.equal([SETTLE_FEE + 1n]);
      expect(gainsOf([live(SETTLE_FEE)], { blockTime })).to.deep.equal([]);
    });

    it("claims nothing of what runs, is not signed for, or is beyond the deposit", () => {
      const of = (changes: Partial<DueJob>) => claimableOf(live(500n, changes));
      expect(of({ charge: 900n })).to.equal(500n);
      expect(of({ receipt: receiptOf(word(1), 300n) })).to.equal(300n);
      expect(of({ receipt: null })).to.equal(0n);
      expect(of({ deposit: 200n })).to.equal(200n);
    });
  });

  it("refunds what was claimed for in full, and settles what a pending claim may yet lose", () => {
    const rule: SettlementRule = { ...RULE, when: "always" };
    const [final, pending] = [
      dueJob(500n, { claimed: 500n, claiming: 500n }),
      dueJob(500n, { claiming: 500n }, 500n, 2),
    ];
    const plan = planSettlements([final, pending], [], { ...SCENE, rule });
    expect(plan.refund).to.deep.equal([final]);
    expect(plan.settle).to.deep.equal([{ job: pending, amount: 500n, gain: 0n }]);
    expect(planSettlements([final, pending], [], SCENE)).to.deep.equal(NOTHING);
  });

  it("pays out what is worth fifty times its fee, or anything always, and never nothing", () => {
    expect(isPayOutWorth(50n * 180_000n, RULE, 10n ** 9n)).to.equal(true);
    expect(isPayOutWorth(50n * 180_000n - 1n, RULE, 10n ** 9n)).to.equal(false);
    expect(isPayOutWorth(1n, { ...RULE, when: "always" }, 10n ** 9n)).to.equal(true);
    expect(isPayOutWorth(0n, { ...RULE, when: "always" }, 0n)).to.equal(false);
  });

  const amount = fc.bigInt({ min: 0n, max: 10_000_000n });
  const jobs = fc.array(
    fc
      .record({
        ...{ charge: amount, signed: amount, deposit: amount, age: fc.integer({ min: 0, max: 20 }) },
        closeAsked: fc.boolean(),
      })
      .map(({ charge, signed, deposit, age, closeAsked }) =>
        dueJob(charge, { deposit, overSince: OPENED_AT - age, closeAsked }, signed),
      ),
    { maxLength: 60 },
  );
  const scene = fc.record({
    rule: fc.constantFrom<SettlementRule[]>(RULE, { ...RULE, when: "always" }),
    gasPrice: fc.bigInt({ min: 0n, max: 10n ** 10n }),
    now: fc.constant(OPENED_AT),
    blockTime: fc.integer({ min: OPENED_AT, max: OPENED_AT + 8000 }),
  });

  it("never claims above charge, receipt or deposit, nor twice, nor more jobs than a transaction holds", () => {
    const property = fc.property(jobs, scene, (due, at) => {
      const { settle, refund } = planSettlements(due, [], at);
      for (const claim of settle) {
        const { job } = claim;
        expect(claim.amount).to.equal(claimableOf(job));
        for (const bound of [job.charge, job.receipt?.amount ?? 0n, job.deposit])
          expect(claim.amount <= bound && claim.amount > 0n).to.equal(true);
      }
      const touched = [...settle.map(({ job }) => job), ...refund];
      expect(new Set(touched).size).to.equal(touched.length);
      expect(settle.length).to.be.at.most(LARGEST_BATCH);
    });
    holds(property);
  });

  it("never pays more for gas than it claims and gives to those who ask, where gas costs money", () => {
    const property = fc.property(jobs, scene, (due, at) => {
      if (at.rule.when === "always") return;
      const { settle } = planSettlements(due, [], at);
      if (settle.length === 0) return;
      const gas = settle.length === 1 ? 51_000n : 30_000n + 26_000n * BigInt(settle.length);
      const total = settle.reduce((sum, claim) => sum + claim.amount, 0n);
      const gifts = settle.filter(({ job }) => job.closeAsked).length;
      const given = BigInt(gifts) * at.rule.closeGiftUpTo;
      expect(total + given >= feeUsdc(gas, at.gasPrice, at.rule.nativeUsdPrice)).to.equal(true);
    });
    holds(property);
  });

  it("where gas is free every job is settled, refunded, or waits for a signature", () => {
    const property = fc.property(jobs, (due) => {
      const at: SettlementScene = { ...SCENE, rule: { ...RULE, when: "always" }, now: OPENED_AT + 100 };
      const { settle, refund } = planSettlements(due, [], at);
      expect(settle.length + refund.length).to.be.at.least(Math.min(due.length, LARGEST_BATCH));
    });
    holds(property);
  });
});
