import { expect } from "chai";
import { createSender } from "../../chain/sender.ts";
import { createSigner } from "../../runtime/signers/secp256k1.ts";
import {
  type ChainSide,
  faultyChain,
  laggingChain,
  type Market,
  openChainSide,
  openJob,
  type ProviderChanges,
  serveJob,
  signReceipt,
  startMarket,
  stopMarket,
} from "./chain-fixture.ts";
import { createFolder, newRequest } from "./ledger-fixture.ts";

describe("settlement", function () {
  this.timeout(20_000);
  const folder = createFolder();
  let market: Market;
  let side: ChainSide;
  let base: string;
  let run = 0;

  before(async () => {
    market = await startMarket();
  });
  beforeEach(async () => {
    base = await market.local.snapshot();
    side = openChainSide(market, `${folder.path}/${++run}`);
  });
  afterEach(async () => {
    await side.close();
    await market.local.revert(base);
  });
  after(async () => {
    await stopMarket(market);
    folder.remove();
  });

  /** The same provider again over its store; the state of the one before is abandoned. */
  const restart = async (changes: ProviderChanges = {}) => {
    await side.close();
    side = openChainSide(market, `${folder.path}/${run}`, changes);
  };
  const creditOf = () => market.chain.getCredit(market.requester.address);
  const paidOut = () => market.chain.getUsdc(market.payee);
  const phaseOf = (jobId: `0x${string}`) => side.ledger.findJob(jobId)?.state;

  it("claims the charge, returns the rest, and pays the payee out", async () => {
    const [before, paidBefore] = [await creditOf(), await paidOut()];
    const opened = await openJob(market);
    const charge = await serveJob(market, side, opened, { signed: 900n, tokens: 60 });
    expect(charge).to.equal(500n);
    await side.settlement.review();
    expect(side.ledger.findJob(opened.jobId)).to.include({ state: "closed", claimed: 500n });
    expect(await creditOf()).to.equal(before - 500n);
    expect((await paidOut()) - paidBefore).to.equal(500n);
    const [settled] = side.of("settled");
    expect(settled).to.include({
      jobId: opened.jobId,
      claimed: 500n,
      returned: opened.amount - 500n,
      jobs: 1,
    });
    expect(Number(settled!.gasUsed)).to.be.within(21_000, 120_000);
    expect(side.of("paidOut")).to.have.length(1);
    const totals = side.settlements.totals();
    expect(totals).to.deep.include({ charged: 500n, settled: 500n, paidOut: 500n });
    expect(totals.jobs).to.deep.equal({ open: 0, settling: 0, closed: 1 });
  });

  it("claims no more than was signed for, after the requester had time to sign the rest", async () => {
    const opened = await openJob(market);
    await serveJob(market, side, opened, { signed: 300n, tokens: 60 });
    await side.settlement.review();
    expect(phaseOf(opened.jobId)).to.equal("settling");
    side.clock.now += 2;
    await side.settlement.review();
    expect(side.ledger.findJob(opened.jobId)?.claimed).to.equal(300n);
  });

  it("claims the whole charge when the rest is signed in time", async () => {
    const opened = await openJob(market);
    await serveJob(market, side, opened, { signed: 300n, tokens: 60 });
    await side.settlement.review();
    await side.ledger.acceptReceipt(signReceipt(market, opened.jobId, 700n));
    await side.settlement.review();
    expect(side.ledger.findJob(opened.jobId)?.claimed).to.equal(500n);
  });

  it("claims no more than the deposit", async () => {
    const opened = await openJob(market, { amount: 1_000n });
    await serveJob(market, side, opened, { signed: 1_000n, tokens: 600 });
    await side.settlement.review();
    expect(side.ledger.findJob(opened.jobId)).to.include({ state: "closed", claimed: 1_000n });
  });

  it("gives a deposit back when nothing was charged, without being asked", async () => {
    const before = await creditOf();
    const opened = await openJob(market);
    await side.intake.ensureFunded(opened.jobId, opened.terms, market.offer);
    side.ledger.bindTerms(opened.jobId, opened.terms);
    await side.ledger.acceptReceipt(signReceipt(market, opened.jobId, 900n));
    await side.ledger.startRequest(newRequest(opened.jobId));
    await side.ledger.endWithoutUsage(newRequest(opened.jobId).requestId, "upstream failed");
    await side.settlement.review();
    expect(side.ledger.findJob(opened.jobId)).to.include({ state: "closed", claimed: 0n });
    expect(await creditOf()).to.equal(before);
  });

  it("where gas costs money it leaves such a refund, and a claim not worth its gas, alone", async () => {
    await restart({ settle: { when: "worth" } });
    const opened = await openJob(market);
    await serveJob(market, side, opened, { signed: 900n, tokens: 60 });
    await side.settlement.review();
    await side.settlement.drain();
    expect(phaseOf(opened.jobId)).to.equal("settling");
    expect(side.of("error")).to.deep.equal([]);
  });

  it("where gas costs money it gives the rest back at once when the requester asks for it", async () => {
    await restart({ settle: { when: "worth", closeGiftUpTo: 1n << 40n } });
    const before = await creditOf();
    const [unused, used, unasked] = [await openJob(market), await openJob(market), await openJob(market)];
    await serveJob(market, side, used, { signed: 900n, tokens: 60 });
    await serveJob(market, side, unasked, { signed: 900n, tokens: 60 });
    await side.intake.poke();
    for (const { jobId } of [unused, used]) side.ledger.finishJob(jobId, { asked: true });
    await side.settlement.review();
    expect(side.ledger.findJob(unused.jobId)).to.include({ state: "closed", claimed: 0n });
    expect(side.ledger.findJob(used.jobId)).to.include({ state: "closed", claimed: 500n });
    expect(phaseOf(unasked.jobId)).to.equal("settling");
    expect(await creditOf()).to.equal(before - 500n - unasked.amount);
  });

  it("settles several jobs in one transaction", async () => {
    const jobs = [await openJob(market), await openJob(market), await openJob(market)];
    for (const opened of jobs) await serveJob(market, side, opened, { signed: 900n, tokens: 60 });
    await side.settlement.review();
    for (const { jobId } of jobs)
      expect(side.ledger.findJob(jobId)).to.include({ state: "closed", claimed: 500n });
    expect(new Set(side.of("settled").map(({ tx }) => tx)).size).to.equal(1);
    expect(side.of("settled").map(({ jobs: count }) => count)).to.deep.equal([3, 3, 3]);
  });

  it("gives an unused deposit back once the deadline's margin begins", async () => {
    const opened = await openJob(market);
    await side.intake.poke();
    await side.settlement.review();
    expect(phaseOf(opened.jobId)).to.equal("seen");
    await market.local.increaseTime(6700);
    await side.settlement.review();
    expect(phaseOf(opened.jobId)).to.equal("closed");
  });

  it("notices when the payee settles by itself", async () => {
    const opened = await openJob(market);
    await serveJob(market, side, opened, { signed: 900n, tokens: 60 });
    const receipt = side.ledger.findJob(opened.jobId)!.receipt!;
    await market.asPayee(market.chain.calls.settle({ job: opened.job, receipt, amount: 450n }));
    await side.intake.poke();
    await side.settlement.review();
    expect(side.ledger.findJob(opened.jobId)).to.include({ state: "closed", claimed: 450n });
    expect(side.of("settled").map(({ tx }) => tx)).to.deep.equal([null]);
  });

  it("tells a failure once, leaves the job alone for a minute, and then settles it", async () => {
    const poor = createSigner(`0x${"5a".repeat(32)}`);
    await restart({ sender: createSender(market.chain, poor) });
    const opened = await openJob(market);
    await serveJob(market, side, opened, { signed: 900n, tokens: 60 });
    await side.settlement.review();
    await side.settlement.review();
    expect(side.of("error")).to.have.length(1);
    expect(phaseOf(opened.jobId)).to.equal("settling");
    await restart();
    side.clock.now += 61;
    await side.settlement.review();
    expect(side.ledger.findJob(opened.jobId)?.claimed).to.equal(500n);
  });

  describe("after a crash", () => {
    const crashAt = async (method: string, options: { late?: boolean }) => {
      const opened = await openJob(market);
      await serveJob(market, side, opened, { signed: 900n, tokens: 60 });
      const faulty = faultyChain(market.chain, method, options);
      await restart({ sender: createSender(faulty, market.node) });
      await side.settlement.review();
      expect(side.settlements.pending().map(({ state }) => state)).to.deep.equal(["signed"]);
      expect(phaseOf(opened.jobId)).to.equal("settling");
      return opened;
    };
    const settledOnce = async (jobId: `0x${string}`, tx: `0x${string}`) => {
      await side.settlement.review();
      expect(side.ledger.findJob(jobId)).to.include({ state: "closed", claimed: 500n });
      expect(side.of("settled").map((event) => event.tx)).to.deep.equal([tx]);
      expect(side.of("error")).to.deep.equal([]);
    };

    it("between signing and broadcast, the same transaction is sent", async () => {
      const { jobId } = await crashAt("eth_sendRawTransaction", {});
      expect((await market.chain.getJobState(jobId)).status).to.equal("open");
      const [intent] = side.settlements.pending();
      await restart();
      await settledOnce(jobId, intent!.tx.hash);
    });

    it("between broadcast and recording, what was mined is found", async () => {
      const { jobId } = await crashAt("eth_sendRawTransaction", { late: true });
      expect((await market.chain.getJobState(jobId)).status).to.equal("closed");
      const [intent] = side.settlements.pending();
      await restart();
      await settledOnce(jobId, intent!.tx.hash);
    });

    it("with its nonce taken by another transaction, the job is settled anew", async () => {
      const { jobId } = await crashAt("eth_sendRawTransaction", {});
      const [lost] = side.settlements.pending();
      await createSender(market.chain, market.node).send(
        market.chain.calls.setEndpoint("https://127.0.0.1:9443"),
      );
      await restart();
      await side.settlement.review();
      expect(side.ledger.findJob(jobId)).to.include({ state: "closed", claimed: 500n });
      expect(side.of("settled")[0]?.tx).to.not.equal(lost!.tx.hash);
    });
  });

  it("counts a job as claimed only when its settlement is final", async () => {
    await restart({ chain: laggingChain(market.chain, { finalized: 3 }) });
    const opened = await openJob(market);
    await serveJob(market, side, opened, { signed: 900n, tokens: 60 });
    await side.settlement.review();
    expect(phaseOf(opened.jobId)).to.equal("settling");
    expect(side.settlements.totals().settled).to.equal(0n);
    await market.local.mine(3);
    await side.settlement.review();
    expect(side.ledger.findJob(opened.jobId)).to.include({ state: "closed", claimed: 500n });
  });

  it("sends a settlement again that a reorganisation undid, and counts it once", async () => {
    await restart({ chain: laggingChain(market.chain, { finalized: 3 }) });
    const opened = await openJob(market);
    await serveJob(market, side, opened, { signed: 900n, tokens: 60 });
    await side.intake.poke();
    const snapshot = await market.local.snapshot();
    await side.settlement.review();
    await side.intake.poke();
    expect((await market.chain.getJobState(opened.jobId)).status).to.equal("closed");
    await market.local.revert(snapshot);
    await market.local.mine(3);
    expect((await market.chain.getJobState(opened.jobId)).status).to.equal("open");
    await side.intake.poke();
    await side.settlement.review();
    expect((await market.chain.getJobState(opened.jobId)).status).to.equal("closed");
    await market.local.mine(3);
    await side.intake.poke();
    await side.settlement.review();
    expect(side.ledger.findJob(opened.jobId)).to.include({ state: "closed", claimed: 500n });
    expect(side.of("settled")).to.have.length(1);
  });
});
