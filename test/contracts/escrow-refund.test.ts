// Proves the branches of the Escrow's refund.
import { expect } from "chai";
import { CLOSED, deployWorld, loadFixture, NONE, time, USDC } from "./world.ts";

/** A world with one open job of 10 USDC, of which 4 are claimed. */
async function deployWithJob() {
  const world = await deployWorld();
  const { job, id } = await world.openJob(10n * USDC);
  const receipt = await world.signReceipt(id, 10n * USDC);
  await world.escrow.connect(world.node).claim(job, receipt, 4n * USDC);
  return { ...world, job, id, receipt };
}

describe("Escrow: refund", () => {
  it("E-refund-1: a job that was never opened has nothing to refund", async () => {
    const { escrow, node, makeJob } = await loadFixture(deployWithJob);
    const job = await makeJob();
    await expect(escrow.connect(node).refund(job))
      .to.be.revertedWithCustomError(escrow, "EscrowJobNotOpen")
      .withArgs(await escrow.jobId(job), NONE);
  });

  it("E-refund-2: a closed job has nothing to refund", async () => {
    const { escrow, node, requester, job, id } = await loadFixture(deployWithJob);
    await escrow.connect(node).refund(job);
    await time.increaseTo(job.deadline);
    for (const caller of [node, requester]) {
      await expect(escrow.connect(caller).refund(job))
        .to.be.revertedWithCustomError(escrow, "EscrowJobNotOpen")
        .withArgs(id, CLOSED);
    }
    expect(await escrow.credit(requester.address)).to.equal(996n * USDC);
  });

  it("E-refund-3: before the deadline neither the requester nor a stranger can refund", async () => {
    const { escrow, requester, stranger, job, id } = await loadFixture(deployWithJob);
    let now = job.deadline - 3;
    for (const caller of [requester, stranger]) {
      await time.setNextBlockTimestamp(++now);
      await expect(escrow.connect(caller).refund(job))
        .to.be.revertedWithCustomError(escrow, "EscrowTooEarly")
        .withArgs(id, job.deadline, now);
    }
    expect(now).to.equal(job.deadline - 1);
  });

  async function expectRefundedBy(
    role: "node" | "payee" | "stranger" | "requester",
    when?: "at the deadline",
  ) {
    const world = await loadFixture(deployWithJob);
    const { escrow, requester, payee, job, id, stateOf } = world;
    if (when !== undefined) await time.setNextBlockTimestamp(job.deadline);
    await expect(escrow.connect(world[role]).refund(job))
      .to.emit(escrow, "Refunded")
      .withArgs(id, requester.address, 6n * USDC);
    expect(await stateOf(id)).to.deep.equal({ deposit: 10n * USDC, claimed: 4n * USDC, status: CLOSED });
    expect(await escrow.credit(requester.address)).to.equal(996n * USDC);
    expect(await escrow.earned(payee.address)).to.equal(4n * USDC);
  }

  it("E-refund-4: the node refunds at any time", () => expectRefundedBy("node"));

  it("E-refund-5: the payee refunds at any time", () => expectRefundedBy("payee"));

  it("E-refund-6: from the deadline on anyone refunds", async () => {
    await expectRefundedBy("stranger", "at the deadline");
    await expectRefundedBy("requester", "at the deadline");
  });

  it("E-refund-7: a job that is claimed to the end closes with nothing to return", async () => {
    const { escrow, node, requester, job, id, receipt, stateOf } = await loadFixture(deployWithJob);
    await escrow.connect(node).claim(job, receipt, 10n * USDC);
    await expect(escrow.connect(node).refund(job))
      .to.emit(escrow, "Refunded")
      .withArgs(id, requester.address, 0);
    expect((await stateOf(id)).status).to.equal(CLOSED);
    expect(await escrow.credit(requester.address)).to.equal(990n * USDC);
  });

  it("E-refund-8: a token that blocks everything does not stop a refund", async () => {
    const { escrow, stranger, requester, job, blockToken } = await loadFixture(deployWithJob);
    await blockToken();
    await time.increaseTo(job.deadline);
    await escrow.connect(stranger).refund(job);
    expect(await escrow.credit(requester.address)).to.equal(996n * USDC);
  });
});
