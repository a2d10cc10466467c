// Proves the branches of the Escrow's claim and claimBatch.
import { expect } from "chai";
import { escrowDomain } from "./typed-data.ts";
import { CLOSED, deployWorld, ethers, loadFixture, NONE, OPEN, random32, time, USDC } from "./world.ts";

/** A world with one open job of 10 USDC and a receipt over 4. */
async function deployWithJob() {
  const world = await deployWorld();
  const { job, id } = await world.openJob(10n * USDC);
  const receipt = await world.signReceipt(id, 4n * USDC);
  return { ...world, job, id, receipt, byNode: world.escrow.connect(world.node) };
}

describe("Escrow: claim", () => {
  it("E-claim-1: a stranger cannot claim", async () => {
    const { escrow, stranger, job, id, receipt } = await loadFixture(deployWithJob);
    await expect(escrow.connect(stranger).claim(job, receipt, USDC))
      .to.be.revertedWithCustomError(escrow, "EscrowStranger")
      .withArgs(id, stranger.address);
  });

  it("E-claim-2: neither the requester nor the signer can claim", async () => {
    const { escrow, requester, relayer, openJob, signReceipt } = await loadFixture(deployWithJob);
    const { job, id } = await openJob(USDC, { signer: relayer.address });
    const receipt = await signReceipt(id, USDC, { signer: relayer });
    for (const caller of [requester, relayer]) {
      await expect(escrow.connect(caller).claim(job, receipt, USDC))
        .to.be.revertedWithCustomError(escrow, "EscrowStranger")
        .withArgs(id, caller.address);
    }
  });

  it("E-claim-3: a job that was never opened, or differs in one term, earns nothing", async () => {
    const { escrow, byNode, relayer, job, receipt, signReceipt } = await loadFixture(deployWithJob);
    const changes = [
      { requester: relayer.address },
      { signer: relayer.address },
      { node: relayer.address },
      { jobHash: random32() },
      { deadline: job.deadline + 1 },
    ];
    for (const change of changes) {
      const other = { ...job, ...change };
      const id = await escrow.jobId(other);
      const caller = change.node === undefined ? byNode : escrow.connect(relayer);
      for (const word of [receipt, await signReceipt(id, 4n * USDC)]) {
        await expect(caller.claim(other, word, USDC))
          .to.be.revertedWithCustomError(escrow, "EscrowJobNotOpen")
          .withArgs(id, NONE);
      }
    }
    const otherPayee = { ...job, payee: relayer.address };
    await expect(byNode.claim(otherPayee, receipt, USDC))
      .to.be.revertedWithCustomError(escrow, "EscrowJobNotOpen")
      .withArgs(await escrow.jobId(otherPayee), NONE);
  });

  it("E-claim-4: a closed job earns nothing more", async () => {
    const { escrow, byNode, job, id, receipt } = await loadFixture(deployWithJob);
    await byNode.settle(job, receipt, USDC);
    await expect(byNode.claim(job, receipt, 2n * USDC))
      .to.be.revertedWithCustomError(escrow, "EscrowJobNotOpen")
      .withArgs(id, CLOSED);
  });

  it("E-claim-5: nobody claims above the receipt", async () => {
    const { escrow, byNode, job, id, receipt } = await loadFixture(deployWithJob);
    await expect(byNode.claim(job, receipt, receipt.amount + 1n))
      .to.be.revertedWithCustomError(escrow, "EscrowAboveReceipt")
      .withArgs(id, receipt.amount + 1n, receipt.amount);
  });

  it("E-claim-6: another key's receipt is none, be it a party's", async () => {
    const { escrow, byNode, requester, node, payee, job, id, signReceipt } = await loadFixture(deployWithJob);
    for (const signer of [requester, node, payee]) {
      await expect(byNode.claim(job, await signReceipt(id, USDC, { signer }), USDC))
        .to.be.revertedWithCustomError(escrow, "EscrowBadReceipt")
        .withArgs(id, signer.address);
    }
  });

  it("E-claim-7: a receipt covers its own job, amount and transcript only", async () => {
    const { escrow, byNode, job, receipt, openJob, signReceipt } = await loadFixture(deployWithJob);
    const other = await openJob(USDC);
    const foreign = await signReceipt(other.id, 4n * USDC);
    for (const word of [
      foreign,
      { ...receipt, amount: receipt.amount + 1n },
      { ...receipt, transcript: random32() },
    ]) {
      await expect(byNode.claim(job, word, USDC)).to.be.revertedWithCustomError(escrow, "EscrowBadReceipt");
    }
  });

  it("E-claim-8: a receipt for another Escrow or chain is none", async () => {
    const { escrow, byNode, stranger, escrowAddress, chainId, job, id, signReceipt } =
      await loadFixture(deployWithJob);
    for (const domain of [
      escrowDomain(stranger.address, chainId),
      escrowDomain(escrowAddress, chainId + 1n),
    ]) {
      const foreign = await signReceipt(id, USDC, { domain });
      await expect(byNode.claim(job, foreign, USDC)).to.be.revertedWithCustomError(
        escrow,
        "EscrowBadReceipt",
      );
    }
  });

  it("E-claim-9: no signature, and the twin with high s, are no receipt", async () => {
    const { escrow, byNode, session, job, id, receipt } = await loadFixture(deployWithJob);
    const order = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n;
    const digest = await escrow.receiptDigest(id, receipt.amount, receipt.transcript);
    const { r, s, yParity } = session.signingKey.sign(digest);
    const highS = order - BigInt(s);
    // The bit that carries the parity is the top bit of s: a high s can only be written with it set.
    const twin = ethers.toBeHex(highS | (BigInt(1 - yParity) << 255n), 32);
    for (const word of [
      { ...receipt, r: ethers.ZeroHash, vs: ethers.ZeroHash },
      { ...receipt, r, vs: twin },
      { ...receipt, r, vs: ethers.toBeHex(highS & ((1n << 255n) - 1n), 32) },
    ]) {
      await expect(byNode.claim(job, word, USDC)).to.be.revertedWithCustomError(escrow, "EscrowBadReceipt");
    }
    await expect(byNode.claim(job, { ...receipt, r: ethers.ZeroHash, vs: ethers.ZeroHash }, USDC))
      .to.be.revertedWithCustomError(escrow, "EscrowBadReceipt")
      .withArgs(id, ethers.ZeroAddress);
  });

  it("E-claim-10: a smart wallet signs no receipts", async () => {
    const { escrow, byNode, requester, walletAddress, openJob, signReceipt } =
      await loadFixture(deployWithJob);
    const { job, id } = await openJob(USDC, { signer: walletAddress });
    await expect(byNode.claim(job, await signReceipt(id, USDC, { signer: requester }), USDC))
      .to.be.revertedWithCustomError(escrow, "EscrowBadReceipt")
      .withArgs(id, requester.address);
  });

  async function expectNoOp(amount: bigint) {
    const { escrow, byNode, payee, job, id, receipt, stateOf } = await loadFixture(deployWithJob);
    await byNode.claim(job, receipt, 3n * USDC);
    const before = await stateOf(id);
    const answer = await (await byNode.claim(job, receipt, amount)).wait();
    expect(answer!.logs).to.deep.equal([]);
    expect(await stateOf(id)).to.deep.equal(before);
    expect(await escrow.earned(payee.address)).to.equal(3n * USDC);
  }

  it("E-claim-11: a claim below what is claimed changes nothing", () => expectNoOp(2n * USDC));

  it("E-claim-12: a claim of what is claimed changes nothing", () => expectNoOp(3n * USDC));

  it("E-claim-13: the node claims less than the receipt allows, then more", async () => {
    const { escrow, byNode, payee, job, id, receipt, stateOf } = await loadFixture(deployWithJob);
    await expect(byNode.claim(job, receipt, USDC))
      .to.emit(escrow, "Claimed")
      .withArgs(id, payee.address, USDC, USDC);
    await expect(byNode.claim(job, receipt, 3n * USDC))
      .to.emit(escrow, "Claimed")
      .withArgs(id, payee.address, 2n * USDC, 3n * USDC);
    expect(await stateOf(id)).to.deep.equal({ deposit: 10n * USDC, claimed: 3n * USDC, status: OPEN });
    expect(await escrow.earned(payee.address)).to.equal(3n * USDC);
  });

  it("E-claim-14: the payee claims all that the receipt allows", async () => {
    const { escrow, payee, node, job, receipt } = await loadFixture(deployWithJob);
    await escrow.connect(payee).claim(job, receipt, receipt.amount);
    expect(await escrow.earned(payee.address)).to.equal(receipt.amount);
    expect(await escrow.earned(node.address)).to.equal(0);
  });

  it("E-claim-15: a claim of the whole deposit leaves the job open", async () => {
    const { byNode, job, id, signReceipt, stateOf } = await loadFixture(deployWithJob);
    await byNode.claim(job, await signReceipt(id, 10n * USDC), 10n * USDC);
    expect(await stateOf(id)).to.deep.equal({ deposit: 10n * USDC, claimed: 10n * USDC, status: OPEN });
  });

  it("E-claim-16: a claim above the deposit earns the deposit", async () => {
    const { escrow, byNode, payee, job, id, signReceipt } = await loadFixture(deployWithJob);
    const most = 2n ** 96n - 1n;
    await expect(byNode.claim(job, await signReceipt(id, most), most))
      .to.emit(escrow, "Claimed")
      .withArgs(id, payee.address, 10n * USDC, 10n * USDC);
  });

  it("E-claim-17: a claim after the deadline earns as before", async () => {
    const { escrow, byNode, payee, job, receipt } = await loadFixture(deployWithJob);
    await time.increaseTo(job.deadline + 1);
    await byNode.claim(job, receipt, USDC);
    expect(await escrow.earned(payee.address)).to.equal(USDC);
  });

  it("E-claim-18: a token that blocks everything does not stop a claim", async () => {
    const { escrow, byNode, payee, job, receipt, blockToken } = await loadFixture(deployWithJob);
    await blockToken();
    await byNode.claim(job, receipt, USDC);
    expect(await escrow.earned(payee.address)).to.equal(USDC);
  });
});
