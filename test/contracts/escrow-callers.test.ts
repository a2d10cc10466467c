// Proves that the Escrow goes by who calls it, never by who began the transaction.
import { expect } from "chai";
import { escrowTypes } from "./typed-data.ts";
import { deployWorld, loadFixture, OPEN, USDC } from "./world.ts";

/** A world in which the smart wallet acts itself, in transactions that its owner or a stranger sends. */
async function deployActingWallet() {
  const world = await deployWorld();
  const { wallet, escrow, usdc, escrowAddress, requester } = world;
  const actOnEscrow = (data: string, sender = requester) =>
    wallet.connect(sender).execute(escrowAddress, data);
  await wallet.execute(
    await usdc.getAddress(),
    usdc.interface.encodeFunctionData("approve", [escrowAddress, 1_000n * USDC]),
  );
  await actOnEscrow(escrow.interface.encodeFunctionData("deposit", [100n * USDC]));
  return { ...world, actOnEscrow };
}

describe("Escrow: a contract that calls", () => {
  it("deposits and withdraws its own money, not its sender's", async () => {
    const { escrow, usdc, actOnEscrow, walletAddress, requester } = await loadFixture(deployActingWallet);
    expect(await escrow.credit(walletAddress)).to.equal(100n * USDC);
    expect(await usdc.balanceOf(walletAddress)).to.equal(900n * USDC);
    await actOnEscrow(escrow.interface.encodeFunctionData("withdraw", [walletAddress, 40n * USDC]));
    expect(await escrow.credit(walletAddress)).to.equal(60n * USDC);
    expect(await escrow.credit(requester.address)).to.equal(1_000n * USDC);
  });

  it("opens its own jobs, not its sender's", async () => {
    const { escrow, actOnEscrow, walletAddress, makeJob, stateOf } = await loadFixture(deployActingWallet);
    const foreign = await makeJob();
    await expect(actOnEscrow(escrow.interface.encodeFunctionData("open", [foreign, USDC])))
      .to.be.revertedWithCustomError(escrow, "EscrowNotRequester")
      .withArgs(await escrow.jobId(foreign), walletAddress);
    const job = await makeJob({ requester: walletAddress });
    await actOnEscrow(escrow.interface.encodeFunctionData("open", [job, USDC]));
    expect((await stateOf(await escrow.jobId(job))).status).to.equal(OPEN);
  });

  it("claims and refunds as the payee that it is, and not as the node that sends", async () => {
    const world = await loadFixture(deployActingWallet);
    const { escrow, actOnEscrow, walletAddress, openJob, signReceipt, node, stranger } = world;
    const foreign = await openJob(USDC);
    const receipt = await signReceipt(foreign.id, USDC);
    const claim = escrow.interface.encodeFunctionData("claim", [foreign.job, receipt, USDC]);
    await expect(actOnEscrow(claim, node))
      .to.be.revertedWithCustomError(escrow, "EscrowStranger")
      .withArgs(foreign.id, walletAddress);
    const refund = escrow.interface.encodeFunctionData("refund", [foreign.job]);
    await expect(actOnEscrow(refund, node)).to.be.revertedWithCustomError(escrow, "EscrowTooEarly");

    const { job, id } = await openJob(USDC, { payee: walletAddress });
    const own = await signReceipt(id, USDC / 2n);
    await actOnEscrow(escrow.interface.encodeFunctionData("claim", [job, own, USDC / 2n]), stranger);
    expect(await escrow.earned(walletAddress)).to.equal(USDC / 2n);
    await expect(actOnEscrow(escrow.interface.encodeFunctionData("refund", [job]), stranger)).to.emit(
      escrow,
      "Refunded",
    );
  });

  it("earns the fee of a withdrawal that it brings, and is named in the event", async () => {
    const { escrow, usdc, actOnEscrow, walletAddress, requester, stranger, domains } =
      await loadFixture(deployActingWallet);
    const terms = [requester.address, requester.address, 10n * USDC, USDC, `0x${"11".repeat(32)}`] as const;
    const validBefore = 2 ** 40 - 1;
    const [owner, to, amount, fee, nonce] = terms;
    const message = { owner, to, amount, fee, nonce, validBefore };
    const signature = await requester.signTypedData(domains.escrow, escrowTypes.Withdraw, message);
    const data = escrow.interface.encodeFunctionData("withdrawWithSignature", [
      ...terms,
      validBefore,
      signature,
    ]);
    await expect(actOnEscrow(data, stranger))
      .to.emit(escrow, "Withdrawn")
      .withArgs(owner, to, amount, fee, walletAddress);
    expect(await usdc.balanceOf(walletAddress)).to.equal(901n * USDC);
    expect(await usdc.balanceOf(stranger.address)).to.equal(0n);
  });
});
