import { expect } from "chai";
import type { RelayedMove } from "../../protocol/relay.ts";
import { createSigner, generatePrivateKey } from "../../runtime/signers/secp256k1.ts";
import { faultyChain, openJob, serveJob, signReceipt } from "./chain-fixture.ts";
import { word } from "./ledger-fixture.ts";
import { DEPOSIT, gaslessSigner, RELAY_FEE, signDeposit, signWithdrawal } from "./relay-fixture.ts";
import { useRelay } from "./relay-harness.ts";

// The branches of a relayed move, each a test:
//
// move
//   deposit: done, done already, too small, forged
//   withdrawal: done for its fee, fee too low, done already, about to expire
//   refund: unknown, before the deadline, closed already, unclaimed, with what the node earned, unseen by it, another node's

describe("relay", function () {
  this.timeout(20_000);
  const on = useRelay();
  const { restart, refusalOf, statusOf } = on;

  describe("of a deposit", () => {
    it("turns a wallet's USDC into its credit, once", async () => {
      const wallet = await gaslessSigner(on.market, { usdc: 3n * DEPOSIT });
      const move = await signDeposit(on.market, wallet, DEPOSIT);
      const { tx } = await on.desk.relay.move(move);
      expect(tx).to.match(/^0x/);
      expect(await on.desk.relay.move(move)).to.deep.equal({ tx });
      expect(await on.market.chain.getCredit(wallet.address)).to.equal(DEPOSIT);
      expect(await on.market.chain.getUsdc(wallet.address)).to.equal(2n * DEPOSIT);
    });

    it("is refused when it is forged, or too small to be moved for nothing", async () => {
      const wallet = await gaslessSigner(on.market, { usdc: DEPOSIT });
      const move = await signDeposit(on.market, wallet, DEPOSIT);
      expect((await refusalOf(on.desk.relay.move({ ...move, amount: DEPOSIT - 1n }))).code).to.equal(
        "relay-refused",
      );
      await restart({}, { leastMove: DEPOSIT + 1n });
      expect((await refusalOf(on.desk.relay.move(move))).message).to.match(/moves no less/);
      expect(await on.market.chain.getUsdc(wallet.address)).to.equal(DEPOSIT);
    });
  });

  describe("of a withdrawal", () => {
    it("sends the credit to where its owner said, and the fee to the node, once", async () => {
      const wallet = await gaslessSigner(on.market, { credit: DEPOSIT });
      const before = await on.market.chain.getUsdc(on.market.node.address);
      const move = await signWithdrawal(on.market, wallet, { amount: DEPOSIT - RELAY_FEE });
      const { tx } = await on.desk.relay.move(move);
      expect(await on.desk.relay.move(move)).to.deep.equal({ tx });
      expect(await on.market.chain.getUsdc(wallet.address)).to.equal(DEPOSIT - RELAY_FEE);
      expect(await on.market.chain.getUsdc(on.market.node.address)).to.equal(before + RELAY_FEE);
      expect(await on.market.chain.getCredit(wallet.address)).to.equal(0n);
      expect(await on.market.chain.getNative(wallet.address)).to.equal(0n);
    });

    it("is refused for a lower fee, saying which, and when it is about to expire", async () => {
      const wallet = await gaslessSigner(on.market, { credit: DEPOSIT });
      const cheap = await signWithdrawal(on.market, wallet, { amount: 1_000n, fee: RELAY_FEE - 1n });
      const error = await refusalOf(on.desk.relay.move(cheap));
      expect(error).to.deep.include({ code: "relay-refused", data: { relayFee: RELAY_FEE.toString() } });
      const validBefore = on.side.clock.now + 30;
      const late = await signWithdrawal(on.market, wallet, { amount: 1_000n, validBefore });
      expect((await refusalOf(on.desk.relay.move(late))).code).to.equal("relay-refused");
      expect(await on.market.chain.getCredit(wallet.address)).to.equal(DEPOSIT);
    });

    it("after a crash is sent once", async () => {
      const wallet = await gaslessSigner(on.market, { credit: DEPOSIT });
      const move = await signWithdrawal(on.market, wallet, { amount: 1_000n });
      await restart({ chain: faultyChain(on.market.chain, "eth_sendRawTransaction", {}) });
      await on.desk.relay.move(move).catch(() => {});
      await restart();
      await on.desk.relay.resume();
      expect((await on.desk.relay.move(move)).tx).to.match(/^0x/);
      expect(await on.market.chain.getUsdc(wallet.address)).to.equal(1_000n);
    });
  });

  describe("of a refund", () => {
    const refundOf = ({ job }: { job: Extract<RelayedMove, { kind: "refund" }>["job"] }): RelayedMove => ({
      kind: "refund",
      job,
    });
    const pastDeadline = async () => {
      await on.market.local.increaseTime(7300);
      on.side.clock.now = (await on.market.chain.getBlock("latest")).timestamp;
    };

    it("gives back what nobody claimed of a job that the node never saw", async () => {
      const opened = await openJob(on.market);
      await pastDeadline();
      const { tx } = await on.desk.relay.move(refundOf(opened));
      expect(tx).to.match(/^0x/);
      expect(await statusOf(opened.jobId)).to.equal("closed");
      expect(await on.desk.relay.move(refundOf(opened))).to.deep.equal({ tx });
    });

    it("settles in the same transaction what the node earned", async () => {
      const opened = await openJob(on.market);
      await serveJob(on.market, on.side, opened, { signed: 900n, tokens: 60 });
      await pastDeadline();
      const { tx } = await on.desk.relay.move(refundOf(opened));
      expect(tx).to.match(/^0x/);
      expect(await on.market.chain.getJobState(opened.jobId)).to.include({ status: "closed", claimed: 500n });
    });

    it("gives back the whole deposit of a job that earned nothing", async () => {
      const opened = await openJob(on.market);
      await on.side.intake.ensureFunded(opened.jobId, opened.terms, on.market.offer);
      on.side.ledger.bindTerms(opened.jobId, opened.terms);
      await on.side.ledger.acceptReceipt(signReceipt(on.market, opened.jobId, 50n));
      await pastDeadline();
      await on.desk.relay.move(refundOf(opened));
      expect(await on.market.chain.getJobState(opened.jobId)).to.include({ status: "closed", claimed: 0n });
    });

    it("gives back what another node left, which may have gone away", async () => {
      const { address: node } = createSigner(generatePrivateKey());
      const opened = await openJob(on.market, { node });
      await pastDeadline();
      expect((await on.desk.relay.move(refundOf(opened))).tx).to.match(/^0x/);
      expect(await statusOf(opened.jobId)).to.equal("closed");
    });

    it("is refused for an unknown job, and before the deadline, saying when", async () => {
      const opened = await openJob(on.market);
      const { job } = opened;
      const codeOf = async (changes: Partial<typeof job>) =>
        (await refusalOf(on.desk.relay.move(refundOf({ job: { ...job, ...changes } })))).code;
      expect(await codeOf({ jobHash: word(5) })).to.equal("job-not-found");
      const early = await refusalOf(on.desk.relay.move(refundOf(opened)));
      expect(early).to.deep.include({ code: "job-unconfirmed", data: { deadline: job.deadline } });
      expect(await statusOf(opened.jobId)).to.equal("open");
    });
  });
});
