// Proves the branches of the Escrow's open and openWithSignature.
import { expect } from "chai";
import { escrowTypes } from "./typed-data.ts";
import {
  CLOSED,
  DAY,
  deployWorld,
  ethers,
  type Job,
  loadFixture,
  OPEN,
  random32,
  type Signing,
  time,
  USDC,
} from "./world.ts";

describe("Escrow: open", () => {
  async function deployWithRequester() {
    const world = await deployWorld();
    return { ...world, own: world.escrow.connect(world.requester) };
  }

  it("E-open-1: only the requester opens from its credit", async () => {
    const { escrow, node, stranger, makeJob } = await loadFixture(deployWithRequester);
    const job = await makeJob();
    for (const caller of [node, stranger]) {
      await expect(escrow.connect(caller).open(job, USDC))
        .to.be.revertedWithCustomError(escrow, "EscrowNotRequester")
        .withArgs(await escrow.jobId(job), caller.address);
    }
  });

  it("E-open-2: credit that is not there opens nothing", async () => {
    const { escrow, own, requester, makeJob } = await loadFixture(deployWithRequester);
    await expect(own.open(await makeJob(), 1_000n * USDC + 1n))
      .to.be.revertedWithCustomError(escrow, "EscrowCreditTooLow")
      .withArgs(requester.address, 1_000n * USDC, 1_000n * USDC + 1n);
  });

  it("E-open-3: an open job cannot be opened again", async () => {
    const { escrow, own, requester, openJob } = await loadFixture(deployWithRequester);
    const { job, id } = await openJob(USDC);
    await expect(own.open(job, USDC))
      .to.be.revertedWithCustomError(escrow, "EscrowJobExists")
      .withArgs(id, OPEN);
    expect(await escrow.credit(requester.address)).to.equal(999n * USDC);
  });

  it("E-open-4: a closed job cannot be opened again", async () => {
    const { escrow, own, node, openJob } = await loadFixture(deployWithRequester);
    const { job, id } = await openJob(USDC);
    await escrow.connect(node).refund(job);
    await expect(own.open(job, USDC))
      .to.be.revertedWithCustomError(escrow, "EscrowJobExists")
      .withArgs(id, CLOSED);
  });

  it("E-open-5: a job of nothing is refused", async () => {
    const { escrow, own, makeJob } = await loadFixture(deployWithRequester);
    await expect(own.open(await makeJob(), 0)).to.be.revertedWithCustomError(escrow, "EscrowZeroAmount");
  });

  async function expectPartyNeeded(party: keyof Job, address: string) {
    const { escrow, own, makeJob } = await loadFixture(deployWithRequester);
    const job = await makeJob({ [party]: address });
    await expect(own.open(job, USDC))
      .to.be.revertedWithCustomError(escrow, "EscrowBadParties")
      .withArgs(await escrow.jobId(job));
  }

  async function expectBadDeadline(deadline: number, now: number) {
    const { escrow, own, makeJob } = await loadFixture(deployWithRequester);
    const job = await makeJob({ deadline });
    await time.setNextBlockTimestamp(now);
    await expect(own.open(job, USDC))
      .to.be.revertedWithCustomError(escrow, "EscrowBadDeadline")
      .withArgs(await escrow.jobId(job), deadline, now);
  }

  async function expectGoodDeadline(secondsAhead: number) {
    const { own, escrow, makeJob, stateOf } = await loadFixture(deployWithRequester);
    const now = (await time.latest()) + 100;
    const job = await makeJob({ deadline: now + secondsAhead });
    await time.setNextBlockTimestamp(now);
    await own.open(job, USDC);
    expect((await stateOf(await escrow.jobId(job))).status).to.equal(OPEN);
  }

  it("E-open-6: a job without a signer is refused", () => expectPartyNeeded("signer", ethers.ZeroAddress));

  it("E-open-7: a job without a node is refused", () => expectPartyNeeded("node", ethers.ZeroAddress));

  it("E-open-8: a job without a payee is refused", () => expectPartyNeeded("payee", ethers.ZeroAddress));

  it("E-open-9: a job that pays the Escrow is refused", async () => {
    const { escrowAddress } = await loadFixture(deployWithRequester);
    await expectPartyNeeded("payee", escrowAddress);
  });

  it("E-open-10: the deadline must be later than now", async () => {
    await loadFixture(deployWithRequester);
    const now = (await time.latest()) + 100;
    await expectBadDeadline(now, now);
    await expectBadDeadline(0, now);
  });

  it("E-open-11: the deadline must be within 30 days", async () => {
    await loadFixture(deployWithRequester);
    const now = (await time.latest()) + 100;
    await expectBadDeadline(now + 30 * DAY + 1, now);
    await expectBadDeadline(2 ** 40 - 1, now);
  });

  it("E-open-12: a deadline one second ahead will do", () => expectGoodDeadline(1));

  it("E-open-13: a deadline 30 days ahead will do", () => expectGoodDeadline(30 * DAY));

  it("E-open-14: a job opens from credit, and its event carries all of its terms", async () => {
    const { escrow, own, usdc, escrowAddress, requester, makeJob, stateOf } =
      await loadFixture(deployWithRequester);
    const job = await makeJob();
    const id = await escrow.jobId(job);
    const opening = own.open(job, 5n * USDC);
    await expect(opening).to.changeTokenBalance(ethers, usdc, escrowAddress, 0n);
    await expect(opening)
      .to.emit(escrow, "Opened")
      .withArgs(id, job.requester, job.node, job.signer, job.payee, job.jobHash, job.deadline, 5n * USDC);
    expect(await escrow.credit(requester.address)).to.equal(995n * USDC);
    expect(await stateOf(id)).to.deep.equal({ deposit: 5n * USDC, claimed: 0n, status: OPEN });
  });

  it("E-open-15: a token that blocks everything does not stop an opening", async () => {
    const { openJob, blockToken, stateOf } = await loadFixture(deployWithRequester);
    await blockToken();
    const { id } = await openJob(USDC);
    expect((await stateOf(id)).status).to.equal(OPEN);

    it("E-open-16: terms with bits outside of their types are refused", async () => {
      const { escrow, escrowAddress, requester, makeJob } = await loadFixture(deployWithRequester);
      const clean = escrow.interface.encodeFunctionData("open", [await makeJob(), USDC]);
      const typedWords = [0, 1, 2, 3, 5, 6];
      for (const word of typedWords) {
        const position = 2 + 8 + 64 * word;
        const data = `${clean.slice(0, position)}80${clean.slice(position + 2)}`;
        await expect(requester.sendTransaction({ to: escrowAddress, data })).to.be.revertedWithoutReason(
          ethers,
        );
      }
      await requester.sendTransaction({ to: escrowAddress, data: clean });
    });
  });
});

describe("Escrow: openWithSignature", () => {
  async function deployWithOpening() {
    const world = await deployWorld();
    const { escrow, requester, relayer, domains } = world;
    const validBefore = (await time.latest()) + DAY;
    const signOpening = (job: Job, amount: bigint, signer: Signing = requester) =>
      signer.signTypedData(domains.escrow, escrowTypes.Open, { job, amount, validBefore });
    return { ...world, validBefore, signOpening, relayed: escrow.connect(relayer) };
  }

  it("E-openSig-1: the signature ends at validBefore", async () => {
    const { escrow, relayed, makeJob, signOpening, validBefore } = await loadFixture(deployWithOpening);
    const job = await makeJob({ deadline: validBefore + DAY });
    const signature = await signOpening(job, USDC);
    await time.setNextBlockTimestamp(validBefore);
    await expect(relayed.openWithSignature(job, USDC, validBefore, signature))
      .to.be.revertedWithCustomError(escrow, "EscrowSignatureExpired")
      .withArgs(validBefore, validBefore);
  });

  it("E-openSig-2: every term is signed, and by the requester", async () => {
    const { escrow, relayed, requester, relayer, stranger, makeJob, signOpening, validBefore } =
      await loadFixture(deployWithOpening);
    const job = await makeJob();
    const signature = await signOpening(job, USDC);
    const changes: Partial<Job>[] = [
      { requester: stranger.address },
      { signer: relayer.address },
      { node: relayer.address },
      { payee: relayer.address },
      { jobHash: random32() },
      { deadline: job.deadline + 1 },
    ];
    for (const change of changes) {
      await expect(
        relayed.openWithSignature({ ...job, ...change }, USDC, validBefore, signature),
      ).to.be.revertedWithCustomError(escrow, "EscrowBadSignature");
    }
    const digest = await escrow.openDigest(job, USDC, validBefore);
    await expect(relayed.openWithSignature(job, USDC, validBefore, await signOpening(job, USDC, stranger)))
      .to.be.revertedWithCustomError(escrow, "EscrowBadSignature")
      .withArgs(requester.address, digest);
    for (const [amount, time] of [
      [USDC + 1n, validBefore],
      [USDC, validBefore + 1],
    ] as const) {
      await expect(relayed.openWithSignature(job, amount, time, signature)).to.be.revertedWithCustomError(
        escrow,
        "EscrowBadSignature",
      );
    }
  });

  it("E-openSig-3: a smart wallet's no is a no", async () => {
    const { escrow, relayed, walletAddress, stranger, makeJob, signOpening, validBefore } =
      await loadFixture(deployWithOpening);
    const job = await makeJob({ requester: walletAddress });
    const signature = await signOpening(job, USDC, stranger);
    await expect(relayed.openWithSignature(job, USDC, validBefore, signature)).to.be.revertedWithCustomError(
      escrow,
      "EscrowBadSignature",
    );
  });

  it("E-openSig-4: credit that is not there opens nothing", async () => {
    const { escrow, relayed, requester, makeJob, signOpening, validBefore } =
      await loadFixture(deployWithOpening);
    const job = await makeJob();
    const amount = 1_001n * USDC;
    await expect(relayed.openWithSignature(job, amount, validBefore, await signOpening(job, amount)))
      .to.be.revertedWithCustomError(escrow, "EscrowCreditTooLow")
      .withArgs(requester.address, 1_000n * USDC, amount);
  });

  it("E-openSig-5: a signature opens its job once", async () => {
    const { escrow, relayed, node, makeJob, signOpening, validBefore } = await loadFixture(deployWithOpening);
    const job = await makeJob();
    const id = await escrow.jobId(job);
    const signature = await signOpening(job, USDC);
    const openAgain = () => relayed.openWithSignature(job, USDC, validBefore, signature);
    await openAgain();
    await expect(openAgain()).to.be.revertedWithCustomError(escrow, "EscrowJobExists").withArgs(id, OPEN);
    await escrow.connect(node).refund(job);
    await expect(openAgain()).to.be.revertedWithCustomError(escrow, "EscrowJobExists").withArgs(id, CLOSED);
  });

  it("E-openSig-6: anyone brings the requester's signature", async () => {
    const { escrow, relayed, requester, makeJob, signOpening, validBefore, stateOf } =
      await loadFixture(deployWithOpening);
    const job = await makeJob();
    const id = await escrow.jobId(job);
    await expect(relayed.openWithSignature(job, USDC, validBefore, await signOpening(job, USDC)))
      .to.emit(escrow, "Opened")
      .withArgs(id, job.requester, job.node, job.signer, job.payee, job.jobHash, job.deadline, USDC);
    expect(await escrow.credit(requester.address)).to.equal(999n * USDC);
    expect(await stateOf(id)).to.deep.equal({ deposit: USDC, claimed: 0n, status: OPEN });
  });

  it("E-openSig-7: a smart wallet opens by its key's signature", async () => {
    const { escrow, relayed, walletAddress, makeJob, authorize, signOpening, validBefore, stateOf } =
      await loadFixture(deployWithOpening);
    const salt = random32();
    const nonce = await escrow.depositDigest(walletAddress, salt);
    const deposit = await authorize(USDC, nonce, { from: walletAddress });
    await relayed.depositWithAuthorization(
      walletAddress,
      USDC,
      salt,
      0,
      deposit.validBefore,
      deposit.signature,
    );

    const job = await makeJob({ requester: walletAddress });
    await relayed.openWithSignature(job, USDC, validBefore, await signOpening(job, USDC));
    expect(await escrow.credit(walletAddress)).to.equal(0);
    expect((await stateOf(await escrow.jobId(job))).status).to.equal(OPEN);
  });
});
