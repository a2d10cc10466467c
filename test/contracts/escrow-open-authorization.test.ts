// Proves the branches of the Escrow's openWithAuthorization.
import { expect } from "chai";
import {
  CLOSED,
  DAY,
  deployFaultyWorld,
  deployWorld,
  ethers,
  type Job,
  loadFixture,
  OPEN,
  random32,
  time,
  USDC,
} from "./world.ts";

describe("Escrow: openWithAuthorization", () => {
  async function deployWithAuthorization() {
    const world = await deployWorld();
    const job = await world.makeJob();
    const id = await world.escrow.jobId(job);
    const { validBefore, signature } = await world.authorize(USDC, id);
    const relayed = world.escrow.connect(world.relayer);
    const open = (changes: Partial<Job> = {}) =>
      relayed.openWithAuthorization({ ...job, ...changes }, USDC, 0, validBefore, signature);
    return { ...world, job, id, validBefore, signature, relayed, open };
  }

  it("E-openAuth-1: a job that was opened cannot be opened again", async () => {
    const { escrow, node, job, id, open } = await loadFixture(deployWithAuthorization);
    await open();
    await expect(open()).to.be.revertedWithCustomError(escrow, "EscrowJobExists").withArgs(id, OPEN);
    await escrow.connect(node).refund(job);
    await expect(open()).to.be.revertedWithCustomError(escrow, "EscrowJobExists").withArgs(id, CLOSED);
  });

  it("E-openAuth-2: after the deadline the authorisation opens nothing", async () => {
    const { escrow, job, id, open } = await loadFixture(deployWithAuthorization);
    await time.setNextBlockTimestamp(job.deadline);
    await expect(open())
      .to.be.revertedWithCustomError(escrow, "EscrowBadDeadline")
      .withArgs(id, job.deadline, job.deadline);
  });

  it("E-openAuth-3: a relayer cannot change any term", async () => {
    const { job, stranger, relayer, open } = await loadFixture(deployWithAuthorization);
    const changes: Partial<Job>[] = [
      { requester: stranger.address },
      { signer: relayer.address },
      { node: relayer.address },
      { payee: relayer.address },
      { jobHash: random32() },
      { deadline: job.deadline + 1 },
    ];
    for (const change of changes) {
      await expect(open(change)).to.be.revertedWith("FiatTokenV2: invalid signature");
    }
  });

  it("E-openAuth-4: a deposit's authorisation opens no job", async () => {
    const { escrow, relayed, requester, job, authorize } = await loadFixture(deployWithAuthorization);
    const { validBefore, signature } = await authorize(
      USDC,
      await escrow.depositDigest(requester.address, random32()),
    );
    await expect(relayed.openWithAuthorization(job, USDC, 0, validBefore, signature)).to.be.revertedWith(
      "FiatTokenV2: invalid signature",
    );
  });

  it("E-openAuth-5: amount and times are the token's to hold", async () => {
    const { relayed, job, id, validBefore, signature, authorize } =
      await loadFixture(deployWithAuthorization);
    await expect(relayed.openWithAuthorization(job, USDC + 1n, 0, validBefore, signature)).to.be.revertedWith(
      "FiatTokenV2: invalid signature",
    );

    const validAfter = (await time.latest()) + DAY;
    const early = await authorize(USDC, id, { validAfter });
    await expect(
      relayed.openWithAuthorization(job, USDC, validAfter, early.validBefore, early.signature),
    ).to.be.revertedWith("FiatTokenV2: authorization is not yet valid");

    const past = await time.latest();
    const late = await authorize(USDC, id, { validBefore: past });
    await expect(relayed.openWithAuthorization(job, USDC, 0, past, late.signature)).to.be.revertedWith(
      "FiatTokenV2: authorization is expired",
    );
  });

  it("E-openAuth-6: the token's refusal stops an opening", async () => {
    const { usdc, requester, open, id, stateOf } = await loadFixture(deployWithAuthorization);
    await usdc.blacklist(requester.address);
    await expect(open()).to.be.revertedWith("Blacklistable: account is blacklisted");
    await usdc.pause();
    await expect(open()).to.be.revertedWith("Pausable: paused");
    expect((await stateOf(id)).status).to.equal(0n);
  });

  it("E-openAuth-7: a token that moves nothing opens nothing", async () => {
    const { escrow, token, makeJob } = await loadFixture(deployFaultyWorld);
    await token.returnFalse();
    await expect(escrow.openWithAuthorization(await makeJob(), USDC, 0, 1, "0x"))
      .to.be.revertedWithCustomError(escrow, "EscrowTokenShortfall")
      .withArgs(USDC, 0);
  });

  it("E-openAuth-8: a deposit inside an opening is refused, and the job opens once", async () => {
    const { escrow, escrowAddress, token, requester, makeJob } = await loadFixture(deployFaultyWorld);
    const terms = [requester.address, USDC, random32(), 0, 1, "0x"] as const;
    await token.callBack(
      escrowAddress,
      escrow.interface.encodeFunctionData("depositWithAuthorization", [...terms]),
    );
    const job = await makeJob();
    await escrow.openWithAuthorization(job, USDC, 0, 1, "0x");
    expect(await token.callResult()).to.equal(
      escrow.interface.encodeErrorResult("ReentrancyGuardReentrantCall", []),
    );
    expect(await escrow.credit(requester.address)).to.equal(0);
    expect((await escrow.stateOf(await escrow.jobId(job))).deposit).to.equal(USDC);
  });

  it("E-openAuth-9: anyone brings the opening, straight from the requester's wallet", async () => {
    const { escrow, escrowAddress, usdc, requester, job, id, open, stateOf } =
      await loadFixture(deployWithAuthorization);
    const opening = open();
    await expect(opening).to.changeTokenBalances(ethers, usdc, [requester, escrowAddress], [-USDC, USDC]);
    await expect(opening)
      .to.emit(escrow, "Opened")
      .withArgs(id, job.requester, job.node, job.signer, job.payee, job.jobHash, job.deadline, USDC);
    expect(await stateOf(id)).to.deep.equal({ deposit: USDC, claimed: 0n, status: OPEN });
    expect(await escrow.credit(requester.address)).to.equal(1_000n * USDC);
  });

  it("E-openAuth-10: a smart wallet opens by its key's signature", async () => {
    const { escrow, relayed, walletAddress, makeJob, authorize, stateOf } =
      await loadFixture(deployWithAuthorization);
    const job = await makeJob({ requester: walletAddress });
    const id = await escrow.jobId(job);
    const { validBefore, signature } = await authorize(USDC, id, { from: walletAddress });
    await relayed.openWithAuthorization(job, USDC, 0, validBefore, signature);
    expect((await stateOf(id)).status).to.equal(OPEN);
  });

  it("E-openAuth-11: nobody else can use the authorisation at the token", async () => {
    const { usdc, requester, relayer, escrowAddress, id, validBefore, signature } =
      await loadFixture(deployWithAuthorization);
    const terms = [requester.address, escrowAddress, USDC, 0, validBefore, id, signature] as const;
    const token = usdc.connect(relayer);
    await expect(
      token["receiveWithAuthorization(address,address,uint256,uint256,uint256,bytes32,bytes)"](...terms),
    ).to.be.revertedWith("FiatTokenV2: caller must be the payee");
    await expect(
      token["transferWithAuthorization(address,address,uint256,uint256,uint256,bytes32,bytes)"](...terms),
    ).to.be.revertedWith("FiatTokenV2: invalid signature");
  });
});
