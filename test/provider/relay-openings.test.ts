import { expect } from "chai";
import { createSigner, generatePrivateKey } from "../../runtime/signers/secp256k1.ts";
import { faultyChain } from "./chain-fixture.ts";
import { word } from "./ledger-fixture.ts";
import { DEPOSIT, gaslessSigner, giveCredit, OPENING_FEE, signOpening } from "./relay-fixture.ts";
import { useRelay } from "./relay-harness.ts";

// The branches of a relay, each a test:
//
// opening
//   refused before any look at the chain: another node, unknown offer, wrong terms, receipt malformed, of another key,
//     above the deposit, under the opening fee, with a transcript; consent about to expire
//   refused after a look, at no gas: node switched off or payee changed, deposit under the minimum, deadline too near,
//     job closed, simulation fails (no money, forged consent, used authorisation)
//   refused by its cost: gas above the cap, dearer than fee and gift
//   rate-limited: looks; transactions of one requester; of all
//   opened: from the wallet, from credit, for a smart wallet; open already by itself, or by the requester; asked twice at once
//   charged: the fee when this node's transaction opened, nothing when another did; the first receipt is held without a request
//   crash: between signing and broadcast; between broadcast and recording; asked for again; its nonce taken
// the node cannot pay for gas; the RPC is away

describe("relay", function () {
  this.timeout(20_000);
  const on = useRelay();
  const { restart, refusalOf, nodeSpent, signed, statusOf, refuses } = on;

  describe("of an opening", () => {
    it("opens straight from a wallet that never owned gas, and holds the first receipt", async () => {
      const { wallet, jobId, opening } = await signed();
      const answer = await on.desk.relay.openJob(opening);
      expect(answer.jobId).to.equal(jobId);
      expect((await on.market.chain.getOpened(jobId))?.tx).to.equal(answer.tx);
      expect(await on.market.chain.getUsdc(wallet.address)).to.equal(0n);
      const job = on.side.ledger.findJob(jobId)!;
      expect(job).to.include({ openingFee: OPENING_FEE, salt: opening.terms.salt, deposit: DEPOSIT });
      expect(job.receipt?.amount).to.equal(OPENING_FEE);
      expect(on.side.ledger.findJob(jobId)?.charge).to.equal(OPENING_FEE);
      expect(on.side.of("relayed").map(({ kind, tx }) => [kind, tx])).to.deep.equal([["open", answer.tx]]);
    });

    it("opens from a credit, and charges the fee beside what a request costs", async () => {
      const { wallet, jobId, opening } = await signed({ from: "credit" });
      await on.desk.relay.openJob(opening);
      expect(await on.market.chain.getCredit(wallet.address)).to.equal(0n);
      expect(await on.market.chain.getNative(wallet.address)).to.equal(0n);
      const funded = await on.side.intake.ensureFunded(jobId, opening.terms, on.desk.offer);
      expect(funded.state).to.equal("funded");
    });

    it("settles the fee alone when no request follows", async () => {
      const { wallet, jobId, opening } = await signed();
      await on.desk.relay.openJob(opening);
      on.side.ledger.finishJob(jobId);
      await on.side.settlement.review();
      expect(on.side.ledger.findJob(jobId)).to.include({ state: "closed", claimed: OPENING_FEE });
      expect(await on.market.chain.getCredit(wallet.address)).to.equal(DEPOSIT - OPENING_FEE);
    });

    it("opens for a smart wallet from its USDC and from its credit", async () => {
      const wallet = createSigner(generatePrivateKey());
      const account = await on.market.local.deployWallet(wallet.address);
      await on.market.local.mintUsdc(account, DEPOSIT);
      await giveCredit(on.market, wallet, DEPOSIT, account);
      for (const from of ["wallet", "credit"] as const) {
        const { jobId, opening } = await signOpening(on.market, on.desk, wallet, { account, from });
        await on.desk.relay.openJob(opening);
        expect(await statusOf(jobId)).to.equal("open");
      }
      expect(await on.market.chain.getUsdc(account)).to.equal(0n);
      expect(await on.market.chain.getCredit(account)).to.equal(0n);
    });

    it("takes an opening that is open already for success, and sends nothing", async () => {
      const { opening } = await signed();
      const { tx } = await on.desk.relay.openJob(opening);
      const spent = await nodeSpent(async () => {
        expect((await on.desk.relay.openJob(opening)).tx).to.equal(tx);
      });
      expect(spent).to.equal(0n);
    });

    it("sends one transaction for an opening that is asked for twice at once", async () => {
      const { opening } = await signed();
      const [first, second] = await Promise.all([
        on.desk.relay.openJob(opening),
        on.desk.relay.openJob(opening),
      ]);
      expect(first).to.deep.equal(second);
      expect(on.side.of("relayed")).to.have.length(1);
    });

    it("charges no fee for a job that somebody else's transaction opened", async () => {
      const { jobId, opening } = await signed();
      const { job, amount, by } = opening;
      if (by.kind !== "authorization") throw new Error("not from the wallet");
      const call = on.market.chain.calls.openWithAuthorization(job, amount, by);
      const tx = await on.market.local.sendAs(on.market.stranger, call);
      expect((await on.desk.relay.openJob(opening)).tx).to.equal(tx);
      await on.side.intake.poke();
      expect(on.side.ledger.findJob(jobId)).to.include({ openingFee: 0n });
      expect(on.side.ledger.findJob(jobId)?.charge).to.equal(0n);
    });

    it("takes for success that the requester was faster, and charges no fee", async () => {
      const { jobId, opening } = await signed();
      const { job, amount, by } = opening;
      if (by.kind !== "authorization") throw new Error("not from the wallet");
      const call = on.market.chain.calls.openWithAuthorization(job, amount, by);
      let first = true;
      const chain = {
        ...on.market.chain,
        async getJobState(id: `0x${string}`) {
          const state = await on.market.chain.getJobState(id);
          if (first) await on.market.local.sendAs(on.market.stranger, call);
          first = false;
          return state;
        },
      };
      await restart({ chain });
      const { tx } = await on.desk.relay.openJob(opening);
      expect((await on.market.chain.getOpened(jobId))?.tx).to.equal(tx);
      expect(on.side.ledger.findJob(jobId)?.openingFee).to.equal(0n);
    });

    describe("refuses before it looks at the chain", () => {
      it("a job of another node", () =>
        refuses("relay-refused", { job: { node: word(8).slice(0, 42) as `0x${string}` } }));
      it("an offer that it does not know", () => refuses("relay-refused", { terms: { offerHash: word(4) } }));
      it("terms that do not open the job's hash", () =>
        refuses("request-mismatch", { job: { jobHash: word(4) } }));
      it("a receipt of another key than the job's signer", () =>
        refuses("bad-receipt", { receiptSigner: createSigner(word(77)) }));
      it("a receipt above the deposit", () => refuses("bad-receipt", { receipt: DEPOSIT + 1n }));
      it("a receipt over a transcript", () => refuses("bad-receipt", { transcript: word(1) }));
      it("a receipt under the opening fee, saying what is needed", async () => {
        const error = await refuses("receipt-too-small", { receipt: OPENING_FEE - 1n });
        expect(error.data.need).to.equal(OPENING_FEE.toString());
      });
      it("a consent that is about to expire", () =>
        refuses("relay-refused", { validBefore: on.side.clock.now + 30 }));
      it("a receipt that is none", async () => {
        const { opening } = await signed();
        expect((await refusalOf(on.desk.relay.openJob({ ...opening, receipt: "1;2;3" }))).code).to.equal(
          "bad-receipt",
        );
      });
    });

    describe("refuses at no gas", () => {
      it("a payee that the Registry does not name", () =>
        refuses("job-not-funded", { job: { payee: on.market.stranger } }));
      it("a deposit under the minimum", async () => {
        await restart({}, {}, { minDeposit: DEPOSIT + 1n });
        await refuses("job-not-funded", {});
      });
      it("a deadline that is too near", () =>
        refuses("job-not-funded", { job: { deadline: on.side.clock.now + 700 } }));
      it("an opening that the wallet cannot pay", async () => {
        const error = await refuses("relay-refused", { amount: DEPOSIT + 1n });
        expect(error.message).to.match(/exceeds balance/);
      });
      it("a credit that does not suffice", async () => {
        const error = await refuses("relay-refused", { from: "credit", amount: DEPOSIT + 1n });
        expect(error.data.error).to.equal("EscrowCreditTooLow");
      });
      it("a consent of another key", async () => {
        const { opening } = await signed({ from: "credit" });
        const { opening: other } = await signed({ from: "credit" });
        const error = await refusalOf(on.desk.relay.openJob({ ...opening, by: other.by }));
        expect(error.data.error).to.equal("EscrowBadSignature");
      });
      it("a job that is closed", async () => {
        const { jobId, opening } = await signed();
        await on.desk.relay.openJob(opening);
        on.side.ledger.finishJob(jobId);
        await on.side.settlement.review();
        expect((await refusalOf(on.desk.relay.openJob(opening))).code).to.equal("job-closed");
      });
      it("everything while the node is switched off", async () => {
        await on.market.asPayee(on.market.chain.calls.deactivate(on.market.node.address));
        await refuses("relay-refused", {});
      });
      it("what needs more gas than the cap", async () => {
        await restart({}, { gasCap: 50_000n });
        const error = await refuses("relay-refused", {});
        expect(error.data.error).to.equal("gasCap");
      });
      it("what costs more gas than the fee and the gift", async () => {
        await restart({}, { giftUpTo: 0n }, { openingFee: 0n });
        await refuses("relay-refused", {});
      });
      it("everything while it cannot pay for gas, and tells its operator", async () => {
        await on.market.local.rpc("hardhat_setBalance", [on.market.node.address, "0x0"]);
        const error = await refuses("relay-refused", {});
        expect(error.message).to.not.contain(on.market.node.address);
        expect(on.side.of("error").map(({ code }) => code)).to.deep.equal(["insufficient-funds"]);
      });
    });

    describe("limits", () => {
      it("a requester's transactions, not those of others, and fills up again", async () => {
        await restart({}, { perRequester: { burst: 1, perHour: 60 } });
        const wallet = await gaslessSigner(on.market, { usdc: 4n * DEPOSIT });
        const next = async () => (await signOpening(on.market, on.desk, wallet)).opening;
        await on.desk.relay.openJob(await next());
        const error = await refusalOf(on.desk.relay.openJob(await next()));
        expect([error.code, error.data.retryAfterSeconds]).to.deep.equal(["rate-limited", 60]);
        await on.desk.relay.openJob((await signed()).opening);
        on.desk.time.ms += 60_000;
        await on.desk.relay.openJob(await next());
      });

      it("the transactions of all", async () => {
        await restart({}, { overall: { burst: 1, perHour: 60 } });
        await on.desk.relay.openJob((await signed()).opening);
        await refuses("rate-limited", {});
      });

      it("what costs only calls of the RPC, without touching a requester's transactions", async () => {
        await restart(
          {},
          { simulations: { burst: 2, perHour: 3600 }, perRequester: { burst: 1, perHour: 1 } },
        );
        const wallet = await gaslessSigner(on.market, { usdc: DEPOSIT });
        const dear = await signOpening(on.market, on.desk, wallet, { amount: 2n * DEPOSIT });
        const good = await signOpening(on.market, on.desk, wallet);
        expect((await refusalOf(on.desk.relay.openJob(dear.opening))).code).to.equal("relay-refused");
        await on.desk.relay.openJob(good.opening);
        expect((await refusalOf(on.desk.relay.openJob(dear.opening))).code).to.equal("rate-limited");
      });
    });

    describe("after a crash", () => {
      const crash = async (options: { late?: boolean }) => {
        await restart({ chain: faultyChain(on.market.chain, "eth_sendRawTransaction", options) });
        const { jobId, opening } = await signed();
        await on.desk.relay.openJob(opening).catch(() => {});
        expect(on.side.relays.pending().map(({ subject }) => subject)).to.deep.equal([jobId]);
        return { jobId, opening };
      };

      it("between signing and broadcast, the same transaction is sent at the next start", async () => {
        const { jobId } = await crash({});
        expect(await statusOf(jobId)).to.equal("none");
        const [{ tx }] = on.side.relays.pending() as [ReturnType<typeof on.side.relays.pending>[0]];
        await restart();
        await on.desk.relay.resume();
        expect((await on.market.chain.getOpened(jobId))?.tx).to.equal(tx.hash);
        await on.side.intake.poke();
        expect(on.side.ledger.findJob(jobId)).to.include({ openingFee: OPENING_FEE });
        expect(on.side.ledger.findJob(jobId)?.receipt?.amount).to.equal(OPENING_FEE);
        expect(on.side.relays.pending()).to.deep.equal([]);
      });

      it("between broadcast and recording, what was mined is found, and the fee and receipt are held", async () => {
        const { jobId } = await crash({ late: true });
        expect(await statusOf(jobId)).to.equal("open");
        await restart();
        await on.side.intake.poke();
        expect(on.side.ledger.findJob(jobId)).to.include({ openingFee: OPENING_FEE });
        expect(on.side.ledger.findJob(jobId)?.receipt?.amount).to.equal(OPENING_FEE);
        expect(await nodeSpent(() => on.desk.relay.resume())).to.equal(0n);
        expect(on.side.relays.pending()).to.deep.equal([]);
      });

      it("a requester that asks again finishes what was begun, by the same transaction", async () => {
        const { opening } = await crash({});
        const [{ tx }] = on.side.relays.pending() as [ReturnType<typeof on.side.relays.pending>[0]];
        await restart();
        expect((await on.desk.relay.openJob(opening)).tx).to.equal(tx.hash);
      });

      it("forgets a transaction whose nonce another one took, and sends a new one when asked again", async () => {
        const { jobId, opening } = await crash({});
        await restart();
        await on.side.sender.send(on.market.chain.calls.setEndpoint("https://127.0.0.1:9443"));
        await on.desk.relay.resume();
        expect(await statusOf(jobId)).to.equal("none");
        expect(on.side.relays.pending()).to.deep.equal([]);
        await on.desk.relay.openJob(opening);
        expect(await statusOf(jobId)).to.equal("open");
      });
    });
  });
});
