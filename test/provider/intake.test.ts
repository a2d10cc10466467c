import { expect } from "chai";
import type { Chain } from "../../chain/chain.ts";
import { RpcError } from "../../chain/rpc.ts";
import type { ErrorCode, InfernetError } from "../../protocol/errors.ts";
import {
  type ChainSide,
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
import { createFolder, newRequest, word } from "./ledger-fixture.ts";

describe("intake", function () {
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

  /** The same provider again over its store, with other rules. */
  const restart = async (changes: ProviderChanges = {}) => {
    await side.close();
    side = openChainSide(market, `${folder.path}/${run}`, changes);
  };
  const refusal = async ({ jobId, terms }: OpenedJobOfTest, code: ErrorCode, changes = {}) => {
    const error: InfernetError = await side.intake
      .ensureFunded(jobId, { ...terms, ...changes }, market.offer)
      .then(
        () => expect.fail("the job was accepted"),
        (reason) => reason,
      );
    expect(error.code, error.message).to.equal(code);
    return error;
  };

  it("serves a job that its opening shows to be funded, with all the chain's terms of it", async () => {
    const opened = await openJob(market);
    const job = await side.intake.ensureFunded(opened.jobId, opened.terms, market.offer);
    expect(job).to.deep.include({ job: opened.job, deposit: opened.amount, state: "funded", undone: false });
    expect(job.openedBlock).to.equal(opened.outcome.block);
    expect(side.of("jobFunded")).to.have.length(1);
    await side.intake.ensureFunded(opened.jobId, opened.terms, market.offer);
    expect(side.of("jobFunded")).to.have.length(1);
  });

  it("does not know a job that nobody opened, and says when to ask again", async () => {
    const opened = await openJob(market);
    const error = await refusal({ ...opened, jobId: word(9) }, "job-not-found");
    expect(error.data.retryAfterSeconds).to.be.a("number");
  });

  it("a wrong salt, offer or request changes nothing", async () => {
    const opened = await openJob(market);
    for (const changes of [{ salt: word(99) }, { offerHash: word(99) }, { requestHash: word(99) }])
      await refusal(opened, "request-mismatch", changes);
    expect(side.ledger.findJob(opened.jobId)?.state).to.equal("seen");
  });

  it("refuses another payee than the Registry named at the opening block, and gives the deposit back", async () => {
    const opened = await openJob(market, { payee: market.stranger });
    const credit = await market.chain.getCredit(market.requester.address);
    await refusal(opened, "job-not-funded");
    await refusal(opened, "job-not-funded");
    expect(side.of("refused")).to.have.length(1);
    await side.settlement.review();
    expect(side.ledger.findJob(opened.jobId)).to.include({ state: "closed", claimed: 0n });
    expect(await market.chain.getCredit(market.requester.address)).to.equal(credit + opened.amount);
  });

  it("judges the payee by the block of the opening, not by what the Registry says later", async () => {
    const before = await openJob(market);
    await market.asPayee(market.chain.calls.setPayee(market.node.address, market.stranger));
    const after = await openJob(market);
    expect((await side.intake.ensureFunded(before.jobId, before.terms, market.offer)).state).to.equal(
      "funded",
    );
    await refusal(after, "job-not-funded");
  });

  it("refuses a deposit under the offer's minimum and a deadline that leaves no time", async () => {
    await refusal(await openJob(market, { amount: 999n }), "job-not-funded");
    const { timestamp } = await market.chain.getBlock("latest");
    await refusal(await openJob(market, { deadline: timestamp + 1100 }), "job-not-funded");
  });

  it("serves nothing past the margin of the deadline, by block time", async () => {
    const [known, fresh] = [await openJob(market), await openJob(market)];
    await side.intake.ensureFunded(known.jobId, known.terms, market.offer);
    await market.local.increaseTime(6600);
    await side.intake.poke();
    await refusal(known, "job-expired");
    await refusal(fresh, "job-expired");
    expect(side.ledger.findJob(fresh.jobId)?.state).to.equal("settling");
  });

  it("serves no job that the payee closed on the chain", async () => {
    const opened = await openJob(market);
    await side.intake.ensureFunded(opened.jobId, opened.terms, market.offer);
    await market.asPayee(market.chain.calls.refund(opened.job));
    await side.intake.poke();
    await refusal(opened, "job-closed");
  });

  it("begins no request that could end too late to be settled", async () => {
    const [early, late] = [await openJob(market), await openJob(market)];
    await market.local.increaseTime(6200);
    await side.intake.ensureFunded(early.jobId, early.terms, market.offer);
    await market.local.increaseTime(100);
    await side.intake.poke();
    await refusal(late, "job-expired");
  });

  it("takes the payee of now from a server that keeps no old states", async () => {
    const getNode: Chain["getNode"] = async (node, at) => {
      if (typeof at === "number") throw new RpcError("eth_call", "missing trie node");
      return market.chain.getNode(node, at);
    };
    await restart({ chain: { ...market.chain, getNode } });
    const opened = await openJob(market);
    await refusal(await openJob(market, { payee: market.stranger }), "job-not-funded");
    expect((await side.intake.ensureFunded(opened.jobId, opened.terms, market.offer)).state).to.equal(
      "funded",
    );
  });

  it("waits for a block on top of the opening, and says for how long", async () => {
    await restart({ confirmations: { latestUpTo: 1_000_000n, blocks: 1, safeUpTo: 50_000_000n } });
    const opened = await openJob(market);
    const error = await refusal(opened, "job-unconfirmed");
    expect(error.data.retryAfterSeconds).to.be.a("number");
    expect(side.ledger.findJob(opened.jobId)?.state).to.equal("seen");
    await market.local.mine(1);
    expect((await side.intake.ensureFunded(opened.jobId, opened.terms, market.offer)).state).to.equal(
      "funded",
    );
  });

  it("the more of a requester's money is unconfirmed, the deeper its openings must be", async () => {
    await restart({
      chain: laggingChain(market.chain, { safe: 2, finalized: 4 }),
      confirmations: { latestUpTo: 150_000n, blocks: 0, safeUpTo: 250_000n },
    });
    const [first, second, third] = [await openJob(market), await openJob(market), await openJob(market)];
    const accepted = async ({ jobId, terms }: OpenedJobOfTest) => {
      expect((await side.intake.ensureFunded(jobId, terms, market.offer)).state).to.equal("funded");
    };
    await side.intake.poke();
    await refusal(third, "job-unconfirmed");
    await market.local.mine(1);
    await refusal(third, "job-unconfirmed");
    // With the first final, 200,000 are exposed, for which a safe block will do.
    await market.local.mine(1);
    await accepted(third);
    const small = await openJob(market, { amount: 60_000n });
    await refusal(small, "job-unconfirmed");
    await market.local.mine(2);
    for (const opened of [first, second, small]) await accepted(opened);
  });

  it("finds what was opened while it was down, from its cursor on", async () => {
    await side.intake.poke();
    await side.close();
    const opened = await openJob(market);
    side = openChainSide(market, `${folder.path}/${run}`);
    await side.intake.poke();
    expect(side.ledger.findJob(opened.jobId)?.deposit).to.equal(opened.amount);
  });

  describe("when a reorganisation undoes the opening", () => {
    const undoAfter = async (served: boolean) => {
      await side.intake.poke();
      const snapshot = await market.local.snapshot();
      const opened = await openJob(market);
      await side.intake.ensureFunded(opened.jobId, opened.terms, market.offer);
      if (served) {
        side.ledger.bindTerms(opened.jobId, opened.terms);
        await side.ledger.acceptReceipt(signReceipt(market, opened.jobId, 500n));
        await side.ledger.startRequest(newRequest(opened.jobId));
      }
      await market.local.revert(snapshot);
      await market.local.mine(3);
      await side.intake.poke();
      return opened;
    };

    it("forgets a job for which nothing ran", async () => {
      const opened = await undoAfter(false);
      expect(side.ledger.findJob(opened.jobId)).to.equal(undefined);
      await refusal(opened, "job-not-found");
    });

    it("keeps and flags a job that was served, and takes it back when it opens again", async () => {
      const opened = await undoAfter(true);
      expect(side.ledger.findJob(opened.jobId)).to.include({ undone: true });
      expect(side.of("error").map(({ jobId }) => jobId)).to.deep.equal([opened.jobId]);
      await refusal(opened, "job-unconfirmed");
      await market.asRequester(opened.call);
      const job = await side.intake.ensureFunded(opened.jobId, opened.terms, market.offer);
      expect(job).to.include({ undone: false, state: "funded" });
      expect(job.openedBlock).to.be.greaterThan(opened.outcome.block);
      expect(job.receipt?.amount).to.equal(500n);
    });
  });
});
