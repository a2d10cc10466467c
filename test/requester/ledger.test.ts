import { join } from "node:path";
import { expect } from "chai";
import type { SignedDelivery } from "../../protocol/delivery.ts";
import { openLedger } from "../../requester/ledger.ts";
import { REQUESTER_MIGRATIONS } from "../../requester/ledger-rows.ts";
import { openStore } from "../../runtime/store.ts";
import { failureOf, temporaryFolder } from "../support/machine.ts";
import { account, DAY, OPENED_AT, openJob, plannedJob, TRANSACTION, word } from "./examples.ts";

const DELIVERY: SignedDelivery = {
  ...{ jobId: word(1), requestId: word(2), transcript: word(3), modelDigest: word(4) },
  ...{ promptTokens: 5, completionTokens: 6, estimated: false, cost: 7_000_000n, jobCharge: 7n },
  signature: `0x${"11".repeat(65)}`,
};

function openFresh() {
  const path = join(temporaryFolder(), "requester.db");
  const store = openStore(path, REQUESTER_MIGRATIONS);
  return { path, store, ledger: openLedger(store) };
}

describe("the requester's ledger", () => {
  it("keeps a job's terms, opening, mark and delivery over a restart", () => {
    const { path, store, ledger } = openFresh();
    const planned = plannedJob({ saltIndex: 5 });
    const { jobId } = planned;
    ledger.planJob(planned);
    ledger.noteOpening(jobId, TRANSACTION);
    ledger.noteOpened(jobId, { deposit: 900n, openedAt: OPENED_AT, gasUsed: 55_000n });
    ledger.raiseMark(jobId, { amount: 40n, lastEventId: 3, day: DAY });
    ledger.noteEnded(jobId, DELIVERY);
    store.close();
    const kept = openLedger(openStore(path, REQUESTER_MIGRATIONS)).findJob(jobId)!;
    expect(kept.terms).to.deep.equal(planned.terms);
    expect(kept.job).to.deep.equal(planned.job);
    expect(kept.openTx).to.equal(TRANSACTION.hash);
    expect(kept.delivery).to.deep.equal(DELIVERY);
    expect(kept).to.include({ phase: "ended", deposit: 900n, signed: 40n, lastEventId: 3, openGas: 55_000n });
  });

  it("never lowers a mark, and debits the day by each raise in the same transaction", async () => {
    const { ledger } = openFresh();
    const jobId = openJob(ledger, {});
    ledger.raiseMark(jobId, { amount: 40n, lastEventId: 0, day: DAY });
    ledger.raiseMark(jobId, { amount: 100n, lastEventId: 9, day: DAY });
    for (const amount of [100n, 99n, 0n])
      await failureOf(() => ledger.raiseMark(jobId, { amount, lastEventId: 9, day: DAY }));
    expect(ledger.findJob(jobId)!.signed).to.equal(100n);
    expect(ledger.spentOn(DAY)).to.equal(100n);
  });

  it("undoes mark and debit together when what they belong to fails", () => {
    const { ledger } = openFresh();
    const jobId = openJob(ledger, {});
    const work = () =>
      ledger.transact(() => {
        ledger.raiseMark(jobId, { amount: 40n, lastEventId: 0, day: DAY });
        throw new TypeError("power failure");
      });
    expect(work).to.throw(TypeError);
    expect(ledger.findJob(jobId)).to.include({ signed: 0n, phase: "open" });
    expect(ledger.spentOn(DAY)).to.equal(0n);
  });

  it("gives the days back what the chain shows was signed and not claimed, the newest first", () => {
    const { ledger } = openFresh();
    const jobId = openJob(ledger, {});
    ledger.raiseMark(jobId, { amount: 60n, lastEventId: 0, day: DAY });
    ledger.raiseMark(jobId, { amount: 100n, lastEventId: 0, day: DAY + 1 });
    ledger.noteClosed(jobId, "closed", 70n);
    expect([ledger.spentOn(DAY), ledger.spentOn(DAY + 1)]).to.deep.equal([60n, 10n]);
    expect(ledger.findJob(jobId)).to.include({ phase: "closed", claimed: 70n });
  });

  it("closes a job once, and signs for it no more", async () => {
    const { ledger } = openFresh();
    const jobId = openJob(ledger, {});
    ledger.noteClosed(jobId, "refunded", 0n);
    await failureOf(() => ledger.noteClosed(jobId, "closed", 10n));
    await failureOf(() => ledger.raiseMark(jobId, { amount: 1n, lastEventId: 0, day: DAY }));
    await failureOf(() => ledger.noteOpened(jobId, { deposit: 1n, openedAt: OPENED_AT, gasUsed: null }));
    expect(ledger.unfinishedJobs()).to.deep.equal([]);
  });

  it("gives each job a salt index of its own that never lags behind the clock, so that a lost ledger repeats none", () => {
    const { ledger } = openFresh();
    expect(ledger.nextSaltIndex(OPENED_AT)).to.equal(OPENED_AT);
    openJob(ledger, { saltIndex: OPENED_AT });
    expect(ledger.nextSaltIndex(OPENED_AT)).to.equal(OPENED_AT + 1);
    expect(ledger.nextSaltIndex(OPENED_AT + 50)).to.equal(OPENED_AT + 50);
    expect(() => ledger.planJob({ ...plannedJob({ saltIndex: OPENED_AT }), jobId: word(9) })).to.throw();
  });

  it("drops only what cannot have opened", async () => {
    const { ledger } = openFresh();
    const planned = plannedJob({});
    ledger.planJob(planned);
    ledger.dropJob(planned.jobId);
    expect(ledger.findJob(planned.jobId)!.phase).to.equal("dropped");
    await failureOf(() => ledger.dropJob(openJob(ledger, { saltIndex: 2 })));
  });

  it("finds unfinished jobs by their request, the newest first", () => {
    const { ledger } = openFresh();
    const [first, second] = [1, 2].map((saltIndex) => openJob(ledger, { saltIndex, requestHash: word(7) }));
    openJob(ledger, { saltIndex: 3, requestHash: word(8) });
    expect(ledger.jobsOfRequest(word(7)).map(({ jobId }) => jobId)).to.deep.equal([second, first]);
    ledger.noteClosed(second!, "closed", 0n);
    expect(ledger.jobsOfRequest(word(7)).map(({ jobId }) => jobId)).to.deep.equal([first]);
  });

  it("trusts a node once it has delivered, and no more once it has lied", () => {
    const { ledger } = openFresh();
    const node = account(0x0b);
    expect(ledger.hasHistory(node)).to.equal(false);
    ledger.noteEnded(openJob(ledger, { saltIndex: 1, node }), null);
    expect(ledger.hasHistory(node)).to.equal(false);
    ledger.noteEnded(openJob(ledger, { saltIndex: 2, node }), DELIVERY);
    expect(ledger.hasHistory(node)).to.equal(true);
    const liar = openJob(ledger, { saltIndex: 3, node });
    ledger.noteEvidence(liar, { reason: "forged" });
    ledger.noteEnded(liar, null);
    expect(ledger.hasHistory(node)).to.equal(false);
  });

  it("keeps the first evidence of a job", () => {
    const { ledger } = openFresh();
    const jobId = openJob(ledger, {});
    ledger.noteEvidence(jobId, { reason: "first", claimed: 5n });
    ledger.noteEvidence(jobId, { reason: "second" });
    expect(JSON.parse(ledger.findJob(jobId)!.evidence!)).to.deep.equal({ reason: "first", claimed: "5" });
  });
});
