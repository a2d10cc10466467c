// Proves the branches of the Escrow's construction, deposit and depositWithAuthorization.
import { expect } from "chai";
import { signAuthorization } from "./typed-data.ts";
import { DAY, deployFaultyWorld, deployWorld, ethers, loadFixture, random32, time, USDC } from "./world.ts";

describe("Escrow: construction", () => {
  it("E-new-1: a token without code is refused", async () => {
    const { escrow, stranger } = await loadFixture(deployWorld);
    await expect(ethers.deployContract("Escrow", [stranger.address]))
      .to.be.revertedWithCustomError(escrow, "EscrowTokenWithoutCode")
      .withArgs(stranger.address);
  });

  it("E-new-2: the Escrow names its token and its longest job", async () => {
    const { escrow, usdc } = await loadFixture(deployWorld);
    expect(await escrow.usdc()).to.equal(await usdc.getAddress());
    expect(await escrow.MAX_JOB_SECONDS()).to.equal(30 * DAY);
  });
});

describe("Escrow: deposit", () => {
  it("E-deposit-1: nothing cannot be deposited", async () => {
    const { escrow, requester } = await loadFixture(deployWorld);
    await expect(escrow.connect(requester).deposit(0)).to.be.revertedWithCustomError(
      escrow,
      "EscrowZeroAmount",
    );
  });

  it("E-deposit-2: the token's refusal stops a deposit", async () => {
    const { escrow, usdc, requester, stranger } = await loadFixture(deployWorld);
    await expect(escrow.connect(stranger).deposit(1)).to.be.revertedWith(
      "ERC20: transfer amount exceeds allowance",
    );
    await usdc.pause();
    await expect(escrow.connect(requester).deposit(1)).to.be.revertedWith("Pausable: paused");
  });

  it("E-deposit-3: a token that returns false deposits nothing", async () => {
    const { escrow, token, tokenAddress, requester } = await loadFixture(deployFaultyWorld);
    await token.returnFalse();
    await expect(escrow.connect(requester).deposit(USDC))
      .to.be.revertedWithCustomError(escrow, "SafeERC20FailedOperation")
      .withArgs(tokenAddress);
    expect(await escrow.credit(requester.address)).to.equal(0);
  });

  it("E-deposit-4: a token that keeps a fee deposits nothing", async () => {
    const { escrow, token, requester } = await loadFixture(deployFaultyWorld);
    await escrow.connect(requester).deposit(USDC);
    await token.keepBack(1);
    await expect(escrow.connect(requester).deposit(USDC))
      .to.be.revertedWithCustomError(escrow, "EscrowTokenShortfall")
      .withArgs(2n * USDC, 2n * USDC - 1n);
    expect(await escrow.credit(requester.address)).to.equal(USDC);
  });

  it("E-deposit-5: a deposit inside a deposit is refused, and the outer one counts once", async () => {
    const { escrow, escrowAddress, token, tokenAddress, requester } = await loadFixture(deployFaultyWorld);
    await token.mint(tokenAddress, USDC);
    await token.callBack(escrowAddress, escrow.interface.encodeFunctionData("deposit", [USDC]));
    await escrow.connect(requester).deposit(USDC);
    expect(await token.callSucceeded()).to.equal(false);
    expect(await token.callResult()).to.equal(
      escrow.interface.encodeErrorResult("ReentrancyGuardReentrantCall", []),
    );
    expect(await escrow.credit(requester.address)).to.equal(USDC);
    expect(await escrow.credit(tokenAddress)).to.equal(0);
  });

  it("is not stopped by a gift that arrives inside the transfer", async () => {
    const { escrow, token, tokenAddress, escrowAddress, requester } = await loadFixture(deployFaultyWorld);
    await token.callBack(tokenAddress, token.interface.encodeFunctionData("mint", [escrowAddress, 5n]));
    await escrow.connect(requester).deposit(USDC);
    expect(await escrow.credit(requester.address)).to.equal(USDC);
    expect(await token.balanceOf(escrowAddress)).to.equal(USDC + 5n);
  });

  it("E-deposit-6: a deposit becomes the caller's credit", async () => {
    const { escrow, escrowAddress, usdc, requester } = await loadFixture(deployWorld);
    const deposit = () => escrow.connect(requester).deposit(3n * USDC);
    await expect(deposit).to.changeTokenBalances(
      ethers,
      usdc,
      [requester, escrowAddress],
      [-3n * USDC, 3n * USDC],
    );
    await expect(deposit())
      .to.emit(escrow, "Deposited")
      .withArgs(requester.address, 3n * USDC);
    expect(await escrow.credit(requester.address)).to.equal(1_006n * USDC);
  });
});

describe("Escrow: depositWithAuthorization", () => {
  async function deployWithDeposit() {
    const world = await deployWorld();
    const salt = random32();
    const nonce = await world.escrow.depositDigest(world.requester.address, salt);
    return {
      ...world,
      salt,
      nonce,
      owner: world.requester.address,
      relayed: world.escrow.connect(world.relayer),
    };
  }

  it("E-depositAuth-1: nothing cannot be deposited", async () => {
    const { escrow, relayed, owner, salt, nonce, authorize } = await loadFixture(deployWithDeposit);
    const { validBefore, signature } = await authorize(0n, nonce);
    await expect(
      relayed.depositWithAuthorization(owner, 0, salt, 0, validBefore, signature),
    ).to.be.revertedWithCustomError(escrow, "EscrowZeroAmount");
  });

  it("E-depositAuth-2: a relayer cannot change the salt", async () => {
    const { relayed, owner, nonce, authorize } = await loadFixture(deployWithDeposit);
    const { validBefore, signature } = await authorize(USDC, nonce);
    await expect(
      relayed.depositWithAuthorization(owner, USDC, random32(), 0, validBefore, signature),
    ).to.be.revertedWith("FiatTokenV2: invalid signature");
  });

  it("E-depositAuth-3: a relayer cannot make itself the owner", async () => {
    const { relayed, relayer, salt, nonce, authorize } = await loadFixture(deployWithDeposit);
    const { validBefore, signature } = await authorize(USDC, nonce);
    await expect(
      relayed.depositWithAuthorization(relayer.address, USDC, salt, 0, validBefore, signature),
    ).to.be.revertedWith("FiatTokenV2: invalid signature");
  });

  it("E-depositAuth-4: an authorisation that opens a job deposits nothing", async () => {
    const { escrow, relayed, owner, makeJob, authorize } = await loadFixture(deployWithDeposit);
    const jobId = await escrow.jobId(await makeJob());
    const { validBefore, signature } = await authorize(USDC, jobId);
    await expect(
      relayed.depositWithAuthorization(owner, USDC, jobId, 0, validBefore, signature),
    ).to.be.revertedWith("FiatTokenV2: invalid signature");
  });

  it("E-depositAuth-5: amount, times and single use are the token's to hold", async () => {
    const { relayed, owner, salt, nonce, authorize } = await loadFixture(deployWithDeposit);
    const now = await time.latest();
    const { validBefore, signature } = await authorize(USDC, nonce);
    await expect(
      relayed.depositWithAuthorization(owner, USDC + 1n, salt, 0, validBefore, signature),
    ).to.be.revertedWith("FiatTokenV2: invalid signature");

    const early = await authorize(USDC, nonce, { validAfter: now + DAY });
    await expect(
      relayed.depositWithAuthorization(owner, USDC, salt, now + DAY, early.validBefore, early.signature),
    ).to.be.revertedWith("FiatTokenV2: authorization is not yet valid");

    const late = await authorize(USDC, nonce, { validBefore: now });
    await expect(
      relayed.depositWithAuthorization(owner, USDC, salt, 0, now, late.signature),
    ).to.be.revertedWith("FiatTokenV2: authorization is expired");

    await relayed.depositWithAuthorization(owner, USDC, salt, 0, validBefore, signature);
    await expect(
      relayed.depositWithAuthorization(owner, USDC, salt, 0, validBefore, signature),
    ).to.be.revertedWith("FiatTokenV2: authorization is used or canceled");
  });

  it("E-depositAuth-6: a token that moves nothing deposits nothing", async () => {
    const { escrow, token, requester } = await loadFixture(deployFaultyWorld);
    await token.returnFalse();
    await expect(escrow.depositWithAuthorization(requester.address, USDC, random32(), 0, 1, "0x"))
      .to.be.revertedWithCustomError(escrow, "EscrowTokenShortfall")
      .withArgs(USDC, 0);
  });

  it("E-depositAuth-7: anyone brings a deposit, which becomes its owner's credit", async () => {
    const { escrow, relayed, relayer, owner, salt, nonce, authorize } = await loadFixture(deployWithDeposit);
    const { validBefore, signature } = await authorize(2n * USDC, nonce);
    await expect(relayed.depositWithAuthorization(owner, 2n * USDC, salt, 0, validBefore, signature))
      .to.emit(escrow, "Deposited")
      .withArgs(owner, 2n * USDC);
    expect(await escrow.credit(owner)).to.equal(1_002n * USDC);
    expect(await escrow.credit(relayer.address)).to.equal(0);
  });

  it("E-depositAuth-8: a smart wallet deposits by its key's signature", async () => {
    const world = await loadFixture(deployWithDeposit);
    const { escrow, escrowAddress, relayed, requester, walletAddress, salt, domains } = world;
    const validBefore = (await time.latest()) + DAY;
    const nonce = await escrow.depositDigest(walletAddress, salt);
    const message = { from: walletAddress, to: escrowAddress, value: USDC, validBefore, nonce };
    const signature = await signAuthorization(requester, domains.usdc, message);
    await relayed.depositWithAuthorization(walletAddress, USDC, salt, 0, validBefore, signature);
    expect(await escrow.credit(walletAddress)).to.equal(USDC);
  });
});
