// Proves the branches of the Escrow's settle.
import { expect } from "chai";
import { CLOSED, deployWorld, loadFixture, NONE, time, USDC } from "./world.ts";

/** A world with one open job of 10 USDC, of which 2 are claimed, and a receipt over 4. */
async function deployWithJob() {
  const world = await deployWorld();
  const { job, id } = await world.openJob(10n * USDC);
  const receipt = await world.signReceipt(id, 4n * USDC);
  const byNode = world.escrow.connect(world.node);
  await byNode.claim(job, receipt, 2n * USDC);
  return { ...world, job, id, receipt, byNode };
}

describe("Escrow: settle", () => {
  it("E-settle-1: a stranger cannot settle, nor can the requester", async () => {
    const { escrow, stranger, requester, job, id, receipt } = await loadFixture(deployWithJob);
    for (const caller of [stranger, requester]) {
      await expect(escrow.connect(caller).settle(job, receipt, USDC))
        .to.be.revertedWithCustomError(escrow, "EscrowStranger")
        .withArgs(id, caller.address);
    }
  });

  it("E-settle-2: a job that was never opened cannot be settled", async () => {
    const { escrow, byNode, makeJob, signReceipt } = await loadFixture(deployWithJob);
    const job = await makeJob();
    const id = await escrow.jobId(job);
    await expect(byNode.settle(job, await signReceipt(id, USDC), USDC))
      .to.be.revertedWithCustomError(escrow, "EscrowJobNotOpen")
      .withArgs(id, NONE);
  });

  it("E-settle-3: a closed job cannot be settled again", async () => {
    const { escrow, byNode, requester, job, id, receipt } = await loadFixture(deployWithJob);
    await byNode.settle(job, receipt, 3n * USDC);
    const credit = await escrow.credit(requester.address);
    await expect(byNode.settle(job, receipt, 4n * USDC))
      .to.be.revertedWithCustomError(escrow, "EscrowJobNotOpen")
      .withArgs(id, CLOSED);
    expect(await escrow.credit(requester.address)).to.equal(credit);
  });

  it("E-settle-4: nobody settles above the receipt", async () => {
    const { escrow, byNode, job, id, receipt } = await loadFixture(deployWithJob);
    await expect(byNode.settle(job, receipt, receipt.amount + 1n))
      .to.be.revertedWithCustomError(escrow, "EscrowAboveReceipt")
      .withArgs(id, receipt.amount + 1n, receipt.amount);
  });

  it("E-settle-5: another key's receipt settles nothing", async () => {
    const { escrow, byNode, node, job, id, signReceipt } = await loadFixture(deployWithJob);
    await expect(byNode.settle(job, await signReceipt(id, USDC, { signer: node }), USDC))
      .to.be.revertedWithCustomError(escrow, "EscrowBadReceipt")
      .withArgs(id, node.address);
  });

  /** Settles `amount`, receipt included, and expects the payee to have `earned` of the 10 USDC in all. */
  async function expectSettled(amount: bigint, earned: bigint) {
    const { escrow, byNode, requester, payee, job, id, signReceipt, stateOf } =
      await loadFixture(deployWithJob);
    const receipt = await signReceipt(id, amount);
    const returned = 10n * USDC - earned;
    const settling = byNode.settle(job, receipt, amount);
    await expect(settling).to.emit(escrow, "Settled").withArgs(id, requester.address, returned);
    if (earned > 2n * USDC) {
      await expect(settling)
        .to.emit(escrow, "Claimed")
        .withArgs(id, payee.address, earned - 2n * USDC, earned);
    } else {
      await expect(settling).not.to.emit(escrow, "Claimed");
    }
    expect(await stateOf(id)).to.deep.equal({ deposit: 10n * USDC, claimed: earned, status: CLOSED });
    expect(await escrow.earned(payee.address)).to.equal(earned);
    expect(await escrow.credit(requester.address)).to.equal(990n * USDC + returned);
  }

  it("E-settle-6: settling below what is claimed takes nothing back and closes", () =>
    expectSettled(USDC, 2n * USDC));

  it("E-settle-7: settling what is claimed closes", () => expectSettled(2n * USDC, 2n * USDC));

  it("E-settle-8: settling pays the payee, returns the rest and closes", () =>
    expectSettled(7n * USDC, 7n * USDC));

  it("E-settle-9: settling the deposit or more returns nothing and closes", async () => {
    await expectSettled(10n * USDC, 10n * USDC);
    await expectSettled(11n * USDC, 10n * USDC);
  });

  it("E-settle-10: settling after the deadline is the same, by the payee too", async () => {
    const { escrow, payee, job, id, receipt, stateOf } = await loadFixture(deployWithJob);
    await time.increaseTo(job.deadline + 1);
    await escrow.connect(payee).settle(job, receipt, 4n * USDC);
    expect(await stateOf(id)).to.deep.equal({ deposit: 10n * USDC, claimed: 4n * USDC, status: CLOSED });
  });

  it("E-settle-11: a token that blocks everything does not stop a settlement", async () => {
    const { escrow, byNode, requester, payee, job, receipt, blockToken } = await loadFixture(deployWithJob);
    await blockToken();
    await byNode.settle(job, receipt, 4n * USDC);
    expect(await escrow.earned(payee.address)).to.equal(4n * USDC);
    expect(await escrow.credit(requester.address)).to.equal(996n * USDC);
  });
});
