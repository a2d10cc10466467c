import { expect } from "chai";
import type { Hex } from "../../protocol/bytes.ts";
import { openLedger } from "../../requester/ledger.ts";
import { failureOf } from "../support/machine.ts";
import { plannedJob, TRANSACTION, word } from "./examples.ts";
import { honest, type LyingNode, startLyingNode } from "./lying-node.ts";
import { type Buyer, chatBody, startBuyer, startWorld, type World } from "./world.ts";

/** Above the highest process id that Linux gives. */
const NO_PROCESS = 2 ** 22 + 1;

describe("a job's end", function () {
  this.timeout(30_000);
  let world: World;
  let node: LyingNode;
  let base: string;
  before(async () => {
    world = await startWorld();
  });
  after(() => world.stop());
  beforeEach(async () => {
    base = await world.local.snapshot();
    node = await startLyingNode(world);
  });
  afterEach(async () => {
    await node.stop();
    await world.local.revert(base);
  });

  const submit = ({ requester }: Buyer) =>
    requester.submit({
      path: "/v1/chat/completions",
      body: chatBody({ max_tokens: 64 }),
      node: node.signer.address,
    });

  /** A job that stays open because its node does not settle it. */
  async function leaveOpen(buyer: Buyer): Promise<Hex> {
    node.settle = async () => {};
    const { jobId } = await submit(buyer);
    return jobId;
  }

  it("is a refund of all that was not claimed, from the deadline on and not before", async () => {
    const buyer = await startBuyer(world);
    const jobId = await leaveOpen(buyer);
    const { deadline, deposit } = await buyer.requester.status(jobId);
    const early = await failureOf(() => buyer.requester.refund(jobId));
    expect(early.code).to.equal("job-unconfirmed");
    expect(early.data.deadline).to.equal(deadline);
    await world.local.increaseTime(3700);
    expect(await buyer.requester.refund(jobId)).to.include({ node: null });
    expect(await world.chain.getCredit(buyer.wallet.address)).to.equal(deposit);
    expect(await buyer.requester.status(jobId)).to.include({
      phase: "refunded",
      charge: 0n,
      returned: deposit,
    });
    expect(await buyer.requester.refund(jobId)).to.equal("nothing-to-do");
  });

  it("is found on the chain when the node settles after the answer, and the day gets its surplus back", async () => {
    const buyer = await startBuyer(world);
    const before = buyer.requester.snapshot().dayLeft;
    const settle = node.settle;
    const jobId = await leaveOpen(buyer);
    await settle(jobId);
    expect(await buyer.requester.status(jobId)).to.include({ phase: "closed", charge: 21n });
    expect(buyer.requester.snapshot().dayLeft).to.equal(before - 21n);
  });

  it("is also found at the next request, which gives the day its surplus back", async () => {
    const buyer = await startBuyer(world);
    const before = buyer.requester.snapshot().dayLeft;
    const settle = node.settle;
    const left = await leaveOpen(buyer);
    await settle(left);
    node.settle = settle;
    const bill = await submit(buyer);
    await buyer.requester.stop();
    const [last, first] = buyer.requester.listJobs();
    expect(first).to.include({ jobId: left, phase: "closed", charge: 21n });
    expect(last!.jobId).to.equal(bill.jobId);
    expect(buyer.requester.snapshot().dayLeft).to.equal(before - 21n - last!.signed);
  });

  it("is brought about for jobs that a crash left: the node closes what it can", async () => {
    const buyer = await startBuyer(world);
    const settle = node.settle;
    const jobId = await leaveOpen(buyer);
    node.settle = settle;
    const requester = await buyer.restart();
    expect((await requester.tend())[0]).to.include({ jobId, phase: "closed", charge: 21n });
    expect(await requester.tend()).to.deep.equal([]);
  });

  it("is brought about for jobs that a crash left: a refund when the node is gone and the deadline over", async () => {
    const buyer = await startBuyer(world);
    const jobId = await leaveOpen(buyer);
    await node.stop();
    const requester = await buyer.restart();
    await requester.tend();
    expect((await requester.status(jobId)).phase).to.equal("ended");
    await world.local.increaseTime(3700);
    expect((await requester.tend())[0]).to.include({ jobId, phase: "refunded" });
  });

  it("is brought about by the next request for a job that a crash left, without being asked", async () => {
    const buyer = await startBuyer(world);
    const begun = Promise.withResolvers<void>();
    node.script = async (line) => {
      line.say("word1 ");
      begun.resolve();
      return line.gone;
    };
    const crashed = failureOf(() => submit(buyer));
    await begun.promise;
    const [left] = buyer.requester.listJobs();
    node.script = honest(20);
    const requester = await buyer.restart();
    await submit({ ...buyer, requester });
    await requester.stop();
    const phaseOf = (jobId: Hex) => requester.listJobs().find((job) => job.jobId === jobId)!.phase;
    expect(phaseOf(left!.jobId)).to.equal("closed");
    await Promise.all([buyer.requester.stop(), crashed]);
  });

  it("is a refund at the next request once the deadline is over, served or not, and not before", async () => {
    const buyer = await startBuyer(world);
    const settle = node.settle;
    const left = await leaveOpen(buyer);
    node.settle = settle;
    const phaseAfter = async (request: (next: Buyer) => Promise<unknown>) => {
      const requester = await buyer.restart();
      await request({ ...buyer, requester });
      await requester.stop();
      return requester.listJobs().find(({ jobId }) => jobId === left)!.phase;
    };
    expect(await phaseAfter(submit)).to.equal("ended");
    await world.local.increaseTime(3700);
    // The node's offer is of the clock, and expired by the time of the chain.
    expect(await phaseAfter((next) => failureOf(() => submit(next)))).to.equal("refunded");
  });

  it("leaves alone the jobs that still run", async () => {
    const buyer = await startBuyer(world);
    const whole = honest(20);
    const started = Promise.withResolvers<void>();
    const go = Promise.withResolvers<void>();
    node.script = async (line) => {
      line.say("word1 ");
      started.resolve();
      await go.promise;
      return whole({ ...line, lastEventId: 1 });
    };
    const running = submit(buyer);
    await started.promise;
    expect(await buyer.requester.tend()).to.deep.equal([]);
    go.resolve();
    expect((await running).charge).to.equal(21n);
  });

  it("is not touched while another process that is alive works on the job", async () => {
    const buyer = await startBuyer(world);
    const jobId = await leaveOpen(buyer);
    const { requester, ledger } = { requester: await buyer.restart(), ledger: openLedger(buyer.store) };
    ledger.takeJob(jobId, process.ppid, () => true);
    expect(await requester.tend()).to.deep.equal([]);
    ledger.takeJob(jobId, NO_PROCESS, () => true);
    expect((await requester.tend()).map((job) => job.jobId)).to.deep.equal([jobId]);
  });

  it("waits for an opening that a crash cut off, as long as the chain may still take it", async () => {
    const buyer = await startBuyer(world);
    await world.local.setAutomine(false);
    const lost = buyer.requester.submit({ path: "/v1/chat/completions", body: chatBody() });
    const opening = Promise.withResolvers<void>();
    const timer = setInterval(() => {
      if (buyer.requester.listJobs()[0]?.phase === "opening") opening.resolve();
    }, 10);
    await opening.promise;
    clearInterval(timer);
    const requester = await buyer.restart();
    const { jobId } = requester.listJobs()[0]!;
    expect((await requester.status(jobId)).phase).to.equal("opening");
    await world.local.setAutomine(true);
    await world.local.mine(1);
    expect((await lost).jobId).to.equal(jobId);
  });

  it("is no refund for jobs that never opened: planned ones, and openings that the chain can take no more", async () => {
    const { requester, store } = await startBuyer(world);
    const ledger = openLedger(store);
    const [planned, lost] = [plannedJob({ saltIndex: 1 }), plannedJob({ saltIndex: 2 })];
    ledger.planJob(planned);
    ledger.planJob({ ...lost, job: { ...lost.job, deadline: 1_700_000_000 } });
    ledger.noteOpening(lost.jobId, TRANSACTION);
    await requester.tend();
    expect(requester.listJobs().map(({ phase }) => phase)).to.deep.equal(["dropped", "dropped"]);
  });

  it("can be reached without a ledger: the wallet's open jobs stand on the chain", async () => {
    const buyer = await startBuyer(world);
    const jobId = await leaveOpen(buyer);
    const { deposit } = await buyer.requester.status(jobId);
    const { requester } = await startBuyer(world, { wallet: buyer.wallet });
    expect(await requester.recover()).to.have.nested.property("[0].jobId", jobId);
    expect(await requester.recover(), "found once").to.deep.equal([]);
    expect((await failureOf(() => requester.close(jobId))).code).to.equal("job-not-found");
    await world.local.increaseTime(3700);
    await requester.tend();
    expect(await requester.status(jobId)).to.include({ phase: "refunded", returned: deposit });
  });

  it("of an unknown job is refused with a hint", async () => {
    const { requester } = await startBuyer(world);
    for (const act of [requester.status, requester.refund, requester.close])
      expect((await failureOf(() => act(word(9)))).code).to.equal("job-not-found");
  });
});
