// Claims in mid-job, on a real chain: a session is claimed of while it serves on, and counted at finality, once.
import { expect } from "chai";
import { createSender } from "../../chain/sender.ts";
import type { Hex } from "../../protocol/bytes.ts";
import { SESSION_REQUEST_HASH } from "../../protocol/job.ts";
import { readEarnings } from "../../provider/earnings.ts";
import { createSigner } from "../../runtime/signers/secp256k1.ts";
import {
  type ChainSide,
  faultyChain,
  laggingChain,
  type Market,
  type OpenedJobOfTest,
  openChainSide,
  openJob,
  type ProviderChanges,
  signReceipt,
  startMarket,
  stopMarket,
} from "./chain-fixture.ts";
import { createFolder, newRequest } from "./ledger-fixture.ts";

/** What each request of these tests costs: 100 prompt and 60 completion tokens at 2 and 5 USDC a million. */
const COST = 500n;
const EXPOSED: ProviderChanges = { settle: { exposureCap: 2n * COST } };

describe("claims in mid-job", function () {
  this.timeout(20_000);
  const folder = createFolder();
  let market: Market;
  let side: ChainSide;
  let base: string;
  let run = 0;
  let requests = 0;

  before(async () => {
    market = await startMarket();
  });
  beforeEach(async () => {
    base = await market.local.snapshot();
    side = openChainSide(market, `${folder.path}/${++run}`, EXPOSED);
  });
  afterEach(async () => {
    await side.close();
    await market.local.revert(base);
  });
  after(async () => {
    await stopMarket(market);
    folder.remove();
  });

  const restart = async (changes: ProviderChanges = {}) => {
    await side.close();
    side = openChainSide(market, `${folder.path}/${run}`, { ...EXPOSED, ...changes });
  };
  const openSession = async (amount = 100_000n) => {
    const opened = await openJob(market, { amount, terms: { requestHash: SESSION_REQUEST_HASH } });
    await side.intake.ensureFunded(opened.jobId, opened.terms, market.offer);
    side.ledger.bindTerms(opened.jobId, opened.terms);
    return opened;
  };
  /** Serves so many requests of a session, signed for in full unless told otherwise. */
  const serve = async ({ jobId, amount }: OpenedJobOfTest, count: number, signed = amount) => {
    await side.ledger.acceptReceipt(signReceipt(market, jobId, signed));
    for (let index = 0; index < count; index++) {
      const requestId: Hex = `0x${(++requests).toString(16).padStart(64, "0")}`;
      await side.ledger.startRequest({ ...newRequest(jobId), requestId });
      await side.ledger.release(requestId, ["text"], { promptTokens: 0, completionTokens: 60 });
      const counts = { promptTokens: 100, completionTokens: 60 };
      await side.ledger.endRequest(requestId, { counts, estimated: false, reason: "stop" });
    }
  };
  const look = () => side.settlement.review();
  const stateOf = ({ jobId }: OpenedJobOfTest) => market.chain.getJobState(jobId);
  const jobOf = ({ jobId }: OpenedJobOfTest) => side.ledger.findJob(jobId)!;

  it("a session is claimed of once the cap of exposure is reached, serves on, and is settled for the rest", async () => {
    const session = await openSession();
    await serve(session, 1);
    await look();
    expect((await stateOf(session)).claimed).to.equal(0n);
    await serve(session, 1);
    await look();
    expect(await stateOf(session)).to.deep.include({ status: "open", claimed: 2n * COST });
    expect(jobOf(session)).to.include({ state: "funded", claimed: 2n * COST });
    const [claimed] = side.of("claimed");
    expect(claimed).to.include({ jobId: session.jobId, gained: 2n * COST, claimed: 2n * COST, jobs: 1 });
    expect(Number(claimed!.gasUsed)).to.be.within(21_000, 80_000);
    expect(side.settlements.totals()).to.deep.include({ charged: 2n * COST, settled: 2n * COST });

    await serve(session, 1);
    side.ledger.finishJob(session.jobId);
    await look();
    expect(jobOf(session)).to.include({ state: "closed", claimed: 3n * COST });
    expect(side.of("settled")).to.have.length(1);
    expect(side.of("settled")[0]).to.include({ claimed: 3n * COST, returned: session.amount - 3n * COST });
    const earnings = readEarnings(side.store);
    expect(earnings).to.include({ settled: 3n * COST, unsettled: 0n });
    expect(earnings.days.reduce((sum, { settled }) => sum + settled, 0n)).to.equal(3n * COST);
    expect(await market.chain.getUsdc(market.payee)).to.equal(3n * COST);
  });

  it("a request that runs is not claimed for, nor what is not signed for", async () => {
    const session = await openSession();
    await serve(session, 3, 2n * COST + 1n);
    const requestId: Hex = `0x${(++requests).toString(16).padStart(64, "0")}`;
    await side.ledger.startRequest({ ...newRequest(session.jobId), requestId });
    await side.ledger.release(requestId, ["text"], { promptTokens: 0, completionTokens: 60 });
    await look();
    expect((await stateOf(session)).claimed).to.equal(2n * COST + 1n);
    expect(jobOf(session)).to.include({ state: "funded", running: 1 });
  });

  it("several sessions are claimed of in one transaction", async () => {
    const sessions = [await openSession(), await openSession(), await openSession()];
    for (const session of sessions) await serve(session, 1);
    await look();
    for (const session of sessions) expect(jobOf(session).claimed).to.equal(COST);
    expect(new Set(side.of("claimed").map(({ tx }) => tx)).size).to.equal(1);
    expect(side.of("claimed").map(({ jobs }) => jobs)).to.deep.equal([3, 3, 3]);
  });

  it("what is earned meanwhile is claimed for next, and no more than that", async () => {
    await restart({ chain: laggingChain(market.chain, { finalized: 5 }) });
    const session = await openSession();
    await serve(session, 2);
    await look();
    await look();
    expect((await stateOf(session)).claimed).to.equal(2n * COST);
    expect(jobOf(session).claimed).to.equal(0n);
    await serve(session, 1);
    await look();
    expect((await stateOf(session)).claimed).to.equal(2n * COST);
    await serve(session, 1);
    await look();
    expect((await stateOf(session)).claimed).to.equal(4n * COST);
    expect(side.of("claimed")).to.deep.equal([]);
    await market.local.mine(5);
    await look();
    expect(side.of("claimed").map(({ gained }) => gained)).to.deep.equal([2n * COST, 2n * COST]);
    expect(jobOf(session).claimed).to.equal(4n * COST);
  });

  it("a settlement does not wait until a claim is final, and both are counted once", async () => {
    await restart({ chain: laggingChain(market.chain, { finalized: 5 }) });
    const session = await openSession();
    await serve(session, 2);
    await look();
    await serve(session, 1);
    side.ledger.finishJob(session.jobId);
    await look();
    expect(await stateOf(session)).to.deep.include({ status: "closed", claimed: 3n * COST });
    expect(side.settlements.totals().settled).to.equal(0n);
    await market.local.mine(5);
    await look();
    expect(jobOf(session)).to.include({ state: "closed", claimed: 3n * COST });
    expect(side.of("claimed").map(({ gained }) => gained)).to.deep.equal([2n * COST]);
    expect(side.settlements.totals().settled).to.equal(3n * COST);
    expect(readEarnings(side.store).days[0]?.settled).to.equal(3n * COST);
  });

  it("a session of which all is claimed is closed by a refund, and keeps what it earned", async () => {
    const session = await openSession();
    await serve(session, 2);
    await look();
    side.ledger.finishJob(session.jobId);
    await look();
    expect(jobOf(session)).to.include({ state: "closed", claimed: 2n * COST });
    expect(await stateOf(session)).to.deep.include({ status: "closed", claimed: 2n * COST });
    expect(side.of("settled")[0]).to.include({ returned: session.amount - 2n * COST });
  });

  it("what the payee claimed by itself is not claimed again", async () => {
    const session = await openSession();
    await serve(session, 2);
    const receipt = jobOf(session).receipt!;
    await market.asPayee(market.chain.calls.claim({ job: session.job, receipt, amount: 2n * COST }));
    await look();
    expect(side.settlements.pending()).to.deep.equal([]);
    await serve(session, 1);
    await look();
    expect((await stateOf(session)).claimed).to.equal(2n * COST);
    side.clock.now += 61;
    await look();
    expect(jobOf(session).claimed).to.equal(3n * COST);
  });

  it("a claim that reverts because the payee closed the job is forgotten", async () => {
    const session = await openSession();
    await serve(session, 2);
    await restart({ sender: createSender(faultyChain(market.chain, "eth_sendRawTransaction"), market.node) });
    await look();
    expect(side.settlements.pending()).to.have.length(1);
    const receipt = jobOf(session).receipt!;
    await market.asPayee(market.chain.calls.settle({ job: session.job, receipt, amount: COST }));
    await restart();
    await side.intake.poke();
    await look();
    expect(jobOf(session)).to.include({ state: "closed", claimed: COST });
    expect(side.of("claimed")).to.deep.equal([]);
    expect(side.settlements.pending()).to.deep.equal([]);
  });

  it("a failure is told, leaves the session alone for a minute, and costs nothing", async () => {
    const poor = createSigner(`0x${"5a".repeat(32)}`);
    await restart({ sender: createSender(market.chain, poor) });
    const session = await openSession();
    await serve(session, 2);
    await look();
    await look();
    expect(side.of("error")).to.have.length(1);
    await restart();
    side.clock.now += 61;
    await look();
    expect(jobOf(session).claimed).to.equal(2n * COST);
  });

  describe("after a crash", () => {
    const crashAt = async (options: { late?: boolean }) => {
      const session = await openSession();
      await serve(session, 2);
      const faulty = faultyChain(market.chain, "eth_sendRawTransaction", options);
      await restart({ sender: createSender(faulty, market.node) });
      await look();
      const [intent] = side.settlements.pending();
      expect(intent).to.include({ kind: "claim", state: "signed" });
      return { session, tx: intent!.tx.hash };
    };
    const claimedOnce = async (session: OpenedJobOfTest) => {
      await look();
      await look();
      expect(jobOf(session)).to.include({ state: "funded", claimed: 2n * COST });
      expect(side.of("claimed").map(({ gained }) => gained)).to.deep.equal([2n * COST]);
      expect(side.of("error")).to.deep.equal([]);
      return side.of("claimed")[0]!.tx;
    };

    it("between signing and broadcast, the same transaction is sent", async () => {
      const { session, tx } = await crashAt({});
      expect((await stateOf(session)).claimed).to.equal(0n);
      await restart();
      expect(await claimedOnce(session)).to.equal(tx);
    });

    it("between broadcast and recording, what was mined is found", async () => {
      const { session, tx } = await crashAt({ late: true });
      expect((await stateOf(session)).claimed).to.equal(2n * COST);
      await restart();
      expect(await claimedOnce(session)).to.equal(tx);
    });

    it("with its nonce taken by another transaction, the session is claimed of anew", async () => {
      const { session, tx } = await crashAt({});
      const { calls } = market.chain;
      await createSender(market.chain, market.node).send(calls.setEndpoint("https://127.0.0.1:9443"));
      await restart();
      expect(await claimedOnce(session)).to.not.equal(tx);
    });

    it("before finality, the claim is counted when it is final", async () => {
      const lagging = laggingChain(market.chain, { finalized: 3 });
      await restart({ chain: lagging });
      const session = await openSession();
      await serve(session, 2);
      await look();
      await restart({ chain: lagging });
      await look();
      expect(side.of("claimed")).to.deep.equal([]);
      await market.local.mine(3);
      await claimedOnce(session);
      expect(side.settlements.payees()).to.deep.equal([market.payee]);
    });
  });

  it("a claim that a reorganisation undid is sent again, and counted once", async () => {
    await restart({ chain: laggingChain(market.chain, { finalized: 3 }) });
    const session = await openSession();
    await serve(session, 2);
    await side.intake.poke();
    const snapshot = await market.local.snapshot();
    await look();
    await side.intake.poke();
    expect((await stateOf(session)).claimed).to.equal(2n * COST);
    await market.local.revert(snapshot);
    await market.local.mine(3);
    expect((await stateOf(session)).claimed).to.equal(0n);
    await side.intake.poke();
    await look();
    expect((await stateOf(session)).claimed).to.equal(2n * COST);
    await market.local.mine(3);
    await side.intake.poke();
    await look();
    expect(jobOf(session).claimed).to.equal(2n * COST);
    expect(side.of("claimed")).to.have.length(1);
  });

  it("a forgotten session is settled in time, before anyone can refund it", async () => {
    const session = await openSession();
    await serve(session, 1);
    await side.intake.poke();
    await look();
    expect(jobOf(session)).to.include({ state: "funded", claimed: 0n });
    await market.local.increaseTime(7200 - 600);
    await look();
    expect(jobOf(session)).to.include({ state: "closed", claimed: COST });
  });

  it("where gas costs money, a forgotten session is settled at its margin as soon as that pays its gas", async () => {
    await restart({ settle: { when: "worth", nativeUsdPrice: 1_000_000n } });
    const session = await openSession();
    await serve(session, 1);
    await side.intake.poke();
    await look();
    expect(jobOf(session)).to.include({ state: "funded", claimed: 0n });
    await market.local.increaseTime(7200 - 600);
    await look();
    expect(jobOf(session)).to.include({ state: "closed", claimed: COST });
  });

  it("a node that stops claims of what goes on, where everything goes to the chain at once", async () => {
    const session = await openSession();
    await serve(session, 1);
    await side.settlement.drain();
    expect(await stateOf(session)).to.deep.include({ status: "open", claimed: COST });
    expect(await market.chain.getUsdc(market.payee)).to.equal(COST);
  });
});
