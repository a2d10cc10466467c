// Proves the branches of the Escrow's withdraw and withdrawWithSignature.
import { expect } from "chai";
import { escrowTypes } from "./typed-data.ts";
import { DAY, deployWorld, ethers, loadFixture, random32, time, USDC } from "./world.ts";

describe("Escrow: withdraw", () => {
  it("E-withdraw-1: nothing cannot be withdrawn", async () => {
    const { escrow, requester, stranger } = await loadFixture(deployWorld);
    await expect(escrow.connect(requester).withdraw(stranger.address, 0)).to.be.revertedWithCustomError(
      escrow,
      "EscrowZeroAmount",
    );
  });

  it("E-withdraw-2: nobody cannot receive", async () => {
    const { escrow, requester } = await loadFixture(deployWorld);
    await expect(escrow.connect(requester).withdraw(ethers.ZeroAddress, 1))
      .to.be.revertedWithCustomError(escrow, "EscrowBadRecipient")
      .withArgs(ethers.ZeroAddress);
  });

  it("E-withdraw-3: the Escrow itself cannot receive", async () => {
    const { escrow, escrowAddress, requester } = await loadFixture(deployWorld);
    await expect(escrow.connect(requester).withdraw(escrowAddress, 1))
      .to.be.revertedWithCustomError(escrow, "EscrowBadRecipient")
      .withArgs(escrowAddress);
  });

  it("E-withdraw-4: credit that is not there cannot leave", async () => {
    const { escrow, requester, stranger } = await loadFixture(deployWorld);
    const tooMuch = 1_000n * USDC + 1n;
    await expect(escrow.connect(requester).withdraw(requester.address, tooMuch))
      .to.be.revertedWithCustomError(escrow, "EscrowCreditTooLow")
      .withArgs(requester.address, 1_000n * USDC, tooMuch);
    await expect(escrow.connect(stranger).withdraw(stranger.address, 1))
      .to.be.revertedWithCustomError(escrow, "EscrowCreditTooLow")
      .withArgs(stranger.address, 0, 1);
  });

  it("E-withdraw-5: the token's refusal leaves the credit where it is", async () => {
    const { escrow, usdc, requester, stranger } = await loadFixture(deployWorld);
    await usdc.blacklist(stranger.address);
    await expect(escrow.connect(requester).withdraw(stranger.address, 1)).to.be.revertedWith(
      "Blacklistable: account is blacklisted",
    );
    expect(await escrow.credit(requester.address)).to.equal(1_000n * USDC);
  });

  it("E-withdraw-6: all of the credit leaves to whom its owner says", async () => {
    const { escrow, escrowAddress, usdc, requester, stranger } = await loadFixture(deployWorld);
    const amount = 1_000n * USDC;
    const withdrawal = escrow.connect(requester).withdraw(stranger.address, amount);
    await expect(withdrawal).to.changeTokenBalances(
      ethers,
      usdc,
      [escrowAddress, requester, stranger],
      [-amount, 0n, amount],
    );
    await expect(withdrawal)
      .to.emit(escrow, "Withdrawn")
      .withArgs(requester.address, stranger.address, amount, 0, requester.address);
    expect(await escrow.credit(requester.address)).to.equal(0);
  });
});

describe("Escrow: withdrawWithSignature", () => {
  type Withdrawal = {
    owner: string;
    to: string;
    amount: bigint;
    fee: bigint;
    nonce: string;
    validBefore: number;
  };

  async function deployWithWithdrawal() {
    const world = await deployWorld();
    const { escrow, requester, stranger, relayer, domains } = world;
    const withdrawal: Withdrawal = {
      owner: requester.address,
      to: stranger.address,
      amount: 10n * USDC,
      fee: USDC,
      nonce: random32(),
      validBefore: (await time.latest()) + DAY,
    };
    const sign = (changes: Partial<Withdrawal> = {}, signer = requester) =>
      signer.signTypedData(domains.escrow, escrowTypes.Withdraw, { ...withdrawal, ...changes });
    const bring = (signature: string, changes: Partial<Withdrawal> = {}) => {
      const { owner, to, amount, fee, nonce, validBefore } = { ...withdrawal, ...changes };
      return escrow
        .connect(relayer)
        .withdrawWithSignature(owner, to, amount, fee, nonce, validBefore, signature);
    };
    return { ...world, withdrawal, sign, bring };
  }

  it("E-withdrawSig-1: a nonce serves once", async () => {
    const { escrow, withdrawal, sign, bring } = await loadFixture(deployWithWithdrawal);
    expect(await escrow.usedNonces(withdrawal.owner, withdrawal.nonce)).to.equal(false);
    await bring(await sign());
    expect(await escrow.usedNonces(withdrawal.owner, withdrawal.nonce)).to.equal(true);
    for (const changes of [{}, { amount: 1n }]) {
      await expect(bring(await sign(changes), changes))
        .to.be.revertedWithCustomError(escrow, "EscrowNonceUsed")
        .withArgs(withdrawal.owner, withdrawal.nonce);
    }
  });

  it("E-withdrawSig-2: the signature ends at validBefore", async () => {
    const { escrow, withdrawal, sign, bring } = await loadFixture(deployWithWithdrawal);
    const signature = await sign();
    await time.setNextBlockTimestamp(withdrawal.validBefore);
    await expect(bring(signature))
      .to.be.revertedWithCustomError(escrow, "EscrowSignatureExpired")
      .withArgs(withdrawal.validBefore, withdrawal.validBefore);
  });

  it("E-withdrawSig-3: every field is signed, and by the owner", async () => {
    const { escrow, stranger, relayer, withdrawal, sign, bring } = await loadFixture(deployWithWithdrawal);
    const changes: Partial<Withdrawal>[] = [
      { owner: stranger.address },
      { to: relayer.address },
      { amount: withdrawal.amount + 1n },
      { fee: withdrawal.fee + 1n },
      { nonce: random32() },
      { validBefore: withdrawal.validBefore + 1 },
    ];
    const signature = await sign();
    for (const change of changes) {
      await expect(bring(signature, change)).to.be.revertedWithCustomError(escrow, "EscrowBadSignature");
    }
    const { owner, to, amount, fee, nonce, validBefore } = withdrawal;
    await expect(bring(await sign({}, stranger)))
      .to.be.revertedWithCustomError(escrow, "EscrowBadSignature")
      .withArgs(owner, await escrow.withdrawDigest(owner, to, amount, fee, nonce, validBefore));
  });

  it("E-withdrawSig-4: a smart wallet's no is a no", async () => {
    const { escrow, walletAddress, stranger, sign, bring } = await loadFixture(deployWithWithdrawal);
    const changes = { owner: walletAddress };
    await expect(bring(await sign(changes, stranger), changes)).to.be.revertedWithCustomError(
      escrow,
      "EscrowBadSignature",
    );
  });

  it("E-withdrawSig-5: nothing cannot be withdrawn", async () => {
    const { escrow, sign, bring } = await loadFixture(deployWithWithdrawal);
    const changes = { amount: 0n };
    await expect(bring(await sign(changes), changes)).to.be.revertedWithCustomError(
      escrow,
      "EscrowZeroAmount",
    );
  });

  it("E-withdrawSig-6: the credit must cover the fee on top", async () => {
    const { escrow, withdrawal, sign, bring } = await loadFixture(deployWithWithdrawal);
    const changes = { amount: 1_000n * USDC, fee: 1n };
    await expect(bring(await sign(changes), changes))
      .to.be.revertedWithCustomError(escrow, "EscrowCreditTooLow")
      .withArgs(withdrawal.owner, 1_000n * USDC, 1_000n * USDC + 1n);
  });

  it("E-withdrawSig-7: without a fee the caller gets nothing", async () => {
    const { escrow, usdc, requester, stranger, relayer, withdrawal, sign, bring } =
      await loadFixture(deployWithWithdrawal);
    const changes = { fee: 0n };
    const brought = bring(await sign(changes), changes);
    await expect(brought).to.changeTokenBalances(
      ethers,
      usdc,
      [requester, stranger, relayer],
      [0n, withdrawal.amount, 0n],
    );
    expect(await escrow.credit(requester.address)).to.equal(1_000n * USDC - withdrawal.amount);
  });

  it("E-withdrawSig-8: with a fee the caller gets exactly that", async () => {
    const { escrow, escrowAddress, usdc, requester, stranger, relayer, withdrawal, sign, bring } =
      await loadFixture(deployWithWithdrawal);
    const { amount, fee } = withdrawal;
    const brought = bring(await sign());
    await expect(brought).to.changeTokenBalances(
      ethers,
      usdc,
      [escrowAddress, stranger, relayer],
      [-amount - fee, amount, fee],
    );
    await expect(brought)
      .to.emit(escrow, "Withdrawn")
      .withArgs(requester.address, stranger.address, amount, fee, relayer.address);
    expect(await escrow.credit(requester.address)).to.equal(1_000n * USDC - amount - fee);
  });

  it("E-withdrawSig-9: a smart wallet withdraws by its key's signature", async () => {
    const world = await loadFixture(deployWithWithdrawal);
    const { escrow, usdc, walletAddress, stranger, withdrawal, authorize, sign, bring } = world;
    const salt = random32();
    const nonce = await escrow.depositDigest(walletAddress, salt);
    const deposit = await authorize(11n * USDC, nonce, { from: walletAddress });
    await escrow.depositWithAuthorization(
      walletAddress,
      11n * USDC,
      salt,
      0,
      deposit.validBefore,
      deposit.signature,
    );
    const changes = { owner: walletAddress };
    await expect(bring(await sign(changes), changes)).to.changeTokenBalance(
      ethers,
      usdc,
      stranger,
      withdrawal.amount,
    );
    expect(await escrow.credit(walletAddress)).to.equal(0);
  });
});
