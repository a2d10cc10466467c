// Proves the branches of the Escrow's payOut.
import { expect } from "chai";
import { deployFaultyWorld, deployWorld, ethers, loadFixture, USDC } from "./world.ts";

describe("Escrow: payOut", () => {
  /** Earns the payee 4 USDC of a job in the world's Escrow, whatever its token. */
  async function earn<World extends Awaited<ReturnType<typeof deployWorld>>>(world: World) {
    const { escrow, requester, node, signReceipt, domains, makeJob } = world;
    const job = await makeJob();
    await escrow.connect(requester).open(job, 4n * USDC);
    const domain = { ...domains.escrow, verifyingContract: await escrow.getAddress() };
    const receipt = await signReceipt(await escrow.jobId(job), 4n * USDC, { domain });
    await escrow.connect(node).claim(job, receipt, 4n * USDC);
    return world;
  }

  const deployEarned = async () => earn(await deployWorld());

  async function deployFaultyEarned() {
    const world = await deployFaultyWorld();
    await world.escrow.connect(world.requester).deposit(10n * USDC);
    return earn(world);
  }

  it("E-payOut-1: who earned nothing is paid nothing", async () => {
    const { escrow, node } = await loadFixture(deployEarned);
    await expect(escrow.payOut(node.address))
      .to.be.revertedWithCustomError(escrow, "EscrowNothingEarned")
      .withArgs(node.address);
  });

  it("E-payOut-2: the token's refusal leaves the earnings where they are", async () => {
    const { escrow, usdc, payee } = await loadFixture(deployEarned);
    await usdc.blacklist(payee.address);
    await expect(escrow.payOut(payee.address)).to.be.revertedWith("Blacklistable: account is blacklisted");
    expect(await escrow.earned(payee.address)).to.equal(4n * USDC);
    await usdc.unBlacklist(payee.address);
    await escrow.payOut(payee.address);
    expect(await usdc.balanceOf(payee.address)).to.equal(4n * USDC);
  });

  it("E-payOut-3: a token that returns false leaves the earnings where they are", async () => {
    const { escrow, token, tokenAddress, payee } = await loadFixture(deployFaultyEarned);
    await token.returnFalse();
    await expect(escrow.payOut(payee.address))
      .to.be.revertedWithCustomError(escrow, "SafeERC20FailedOperation")
      .withArgs(tokenAddress);
    expect(await escrow.earned(payee.address)).to.equal(4n * USDC);
  });

  it("E-payOut-4: a payment inside a payment pays nothing twice", async () => {
    const { escrow, escrowAddress, token, payee } = await loadFixture(deployFaultyEarned);
    await token.callBack(escrowAddress, escrow.interface.encodeFunctionData("payOut", [payee.address]));
    await escrow.payOut(payee.address);
    expect(await token.callResult()).to.equal(
      escrow.interface.encodeErrorResult("EscrowNothingEarned", [payee.address]),
    );
    expect(await token.balanceOf(payee.address)).to.equal(4n * USDC);
    expect(await token.balanceOf(escrowAddress)).to.equal(6n * USDC);
  });

  it("E-payOut-5: anyone sends the payee all that it earned", async () => {
    const { escrow, escrowAddress, usdc, payee, stranger } = await loadFixture(deployEarned);
    const paying = escrow.connect(stranger).payOut(payee.address);
    await expect(paying).to.changeTokenBalances(
      ethers,
      usdc,
      [escrowAddress, payee, stranger],
      [-4n * USDC, 4n * USDC, 0n],
    );
    await expect(paying)
      .to.emit(escrow, "PaidOut")
      .withArgs(payee.address, 4n * USDC);
    expect(await escrow.earned(payee.address)).to.equal(0);
  });
});
