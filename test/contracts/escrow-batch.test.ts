// Proves the branches of the Escrow's claimBatch and settleBatch.
import { expect } from "chai";
import { CLOSED, deployWorld, type Job, loadFixture, NONE, type Receipt, USDC } from "./world.ts";

type Item = { job: Job; receipt: Receipt; amount: bigint };

/** A world with three open jobs of 10 USDC and items that claim 1, 2 and 3 USDC of them. */
async function deployWithItems() {
  const world = await deployWorld();
  const good: Item[] = [];
  for (const amount of [USDC, 2n * USDC, 3n * USDC]) {
    const { job, id } = await world.openJob(10n * USDC);
    good.push({ job, receipt: await world.signReceipt(id, amount), amount });
  }
  const { escrow, node, requester, payee, stateOf } = world;

  /** One item for each error of claim and settle, with that error. */
  async function makeBadItems() {
    const item = async (terms: Partial<Job> = {}) => {
      const { job, id } = await world.openJob(10n * USDC, terms);
      return { id, job, receipt: await world.signReceipt(id, USDC), amount: USDC };
    };
    const encode = (error: Parameters<typeof escrow.interface.encodeErrorResult>[0], values: unknown[]) =>
      escrow.interface.encodeErrorResult(error, values);
    const foreign = await item({ node: world.stranger.address, payee: world.stranger.address });
    const closed = await item();
    await byNode.refund(closed.job);
    const above = await item();
    const forged = await item();
    const unopenedJob = await world.makeJob();
    const unopenedId = await escrow.jobId(unopenedJob);
    return [
      { ...foreign, reason: encode("EscrowStranger", [foreign.id, node.address]) },
      { ...closed, reason: encode("EscrowJobNotOpen", [closed.id, CLOSED]) },
      { ...closed, id: unopenedId, job: unopenedJob, reason: encode("EscrowJobNotOpen", [unopenedId, NONE]) },
      { ...above, amount: USDC + 1n, reason: encode("EscrowAboveReceipt", [above.id, USDC + 1n, USDC]) },
      {
        ...forged,
        receipt: await world.signReceipt(forged.id, USDC, { signer: node }),
        reason: encode("EscrowBadReceipt", [forged.id, node.address]),
      },
    ];
  }

  /** All that a batch can change, in plain values. */
  async function snapshot(jobs: Job[]) {
    const states = [];
    for (const job of jobs) states.push(await stateOf(await escrow.jobId(job)));
    return {
      states,
      credit: await escrow.credit(requester.address),
      earned: await escrow.earned(payee.address),
    };
  }

  const byNode = escrow.connect(node);
  return { ...world, good, makeBadItems, snapshot, byNode, jobs: good.map((item) => item.job) };
}

/** The rules that both batches share, over the function that does one item alone. */
function batchRules(batch: "claimBatch" | "settleBatch", single: "claim" | "settle") {
  /** Expects the items among `good` to do what they do alone, and the bad ones nothing. */
  const expectSkips = async () => {
    const { escrow, byNode, good, jobs, makeBadItems, snapshot } = await loadFixture(deployWithItems);
    const bad = await makeBadItems();
    const mixed = bad.flatMap((item, index) => [item, ...good.slice(index, index + 1)]);
    const badBefore = await snapshot(bad.map((item) => item.job));
    const answer = await (await byNode[batch](mixed)).wait();

    const skipped = (await escrow.queryFilter(escrow.filters.ItemSkipped, answer!.blockNumber)).map(
      ({ args }) => ({ index: Number(args.index), id: args.jobId, reason: args.reason }),
    );
    expect(skipped).to.deep.equal(
      bad.map((item) => ({ index: mixed.indexOf(item), id: item.id, reason: item.reason })),
    );
    expect((await snapshot(bad.map((item) => item.job))).states).to.deep.equal(badBefore.states);
    const { states } = await snapshot(jobs);
    expect(states.map((state) => state.claimed)).to.deep.equal(good.map((item) => item.amount));
    for (const item of bad) {
      await expect(byNode[single](item.job, item.receipt, item.amount)).to.be.revertedWithCustomError(
        escrow,
        escrow.interface.parseError(item.reason)!.name,
      );
    }
  };

  const expectEqualToItems = async () => {
    const one = await loadFixture(deployWithItems);
    for (const { job, receipt, amount } of one.good) await one.byNode[single](job, receipt, amount);
    const alone = await one.snapshot(one.jobs);
    for (const order of [one.good, [...one.good].reverse()]) {
      const all = await loadFixture(deployWithItems);
      await expect(all.byNode[batch](order)).not.to.emit(all.escrow, "ItemSkipped");
      expect(await all.snapshot(all.jobs)).to.deep.equal(alone);
    }
  };

  const expectNothing = async () => {
    const { byNode, jobs, snapshot } = await loadFixture(deployWithItems);
    const before = await snapshot(jobs);
    const answer = await (await byNode[batch]([])).wait();
    expect(answer!.logs).to.deep.equal([]);
    expect(await snapshot(jobs)).to.deep.equal(before);
  };

  return { expectNothing, expectEqualToItems, expectSkips };
}

describe("Escrow: claimBatch", () => {
  const { expectNothing, expectEqualToItems, expectSkips } = batchRules("claimBatch", "claim");

  it("E-claimBatch-1: no items change nothing", expectNothing);

  it("E-claimBatch-2: a batch equals its items in any order", expectEqualToItems);

  it("E-claimBatch-3: bad items are skipped with their error, the others are claimed", expectSkips);

  it("E-claimBatch-4: the same job twice is claimed twice", async () => {
    const { escrow, byNode, good, payee, jobs, signReceipt, stateOf } = await loadFixture(deployWithItems);
    const first = good[0]!;
    const id = await escrow.jobId(jobs[0]!);
    const second = { ...first, receipt: await signReceipt(id, 4n * USDC), amount: 4n * USDC };
    await expect(byNode.claimBatch([first, second]))
      .to.emit(escrow, "Claimed")
      .withArgs(id, payee.address, 3n * USDC, 4n * USDC);
    expect((await stateOf(id)).claimed).to.equal(4n * USDC);
  });

  it("E-claimBatch-5: an item that raises nothing is not called skipped", async () => {
    const { byNode, good } = await loadFixture(deployWithItems);
    await byNode.claimBatch(good);
    const answer = await (await byNode.claimBatch(good)).wait();
    expect(answer!.logs).to.deep.equal([]);
  });
});

describe("Escrow: settleBatch", () => {
  const { expectNothing, expectEqualToItems, expectSkips } = batchRules("settleBatch", "settle");

  it("E-settleBatch-1: no items change nothing", expectNothing);

  it("E-settleBatch-2: a batch equals its items in any order", expectEqualToItems);

  it("E-settleBatch-3: bad items are skipped with their error, the others are settled", expectSkips);

  it("E-settleBatch-4: the same job twice is settled once", async () => {
    const { escrow, byNode, good, jobs, stateOf } = await loadFixture(deployWithItems);
    const id = await escrow.jobId(jobs[0]!);
    const reason = escrow.interface.encodeErrorResult("EscrowJobNotOpen", [id, CLOSED]);
    await expect(byNode.settleBatch([good[0]!, good[0]!]))
      .to.emit(escrow, "ItemSkipped")
      .withArgs(1, id, reason);
    expect((await stateOf(id)).claimed).to.equal(USDC);
  });
});
