import { expect } from "chai";
import type { InfernetError } from "../../protocol/errors.ts";
import type { Offer } from "../../protocol/offer.ts";
import type { RelayedMove } from "../../protocol/relay.ts";
import type { RelayRule } from "../../provider/config.ts";
import { createSigner, generatePrivateKey } from "../../runtime/signers/secp256k1.ts";
import {
  type ChainSide,
  faultyChain,
  type Market,
  openChainSide,
  openJob,
  type ProviderChanges,
  serveJob,
  signReceipt,
  startMarket,
  stopMarket,
} from "./chain-fixture.ts";
import { createFolder, word } from "./ledger-fixture.ts";
import {
  DEPOSIT,
  gaslessSigner,
  giveCredit,
  OPENING_FEE,
  type OpeningChanges,
  openRelay,
  RELAY_FEE,
  type RelayDesk,
  signDeposit,
  signOpening,
  signWithdrawal,
} from "./relay-fixture.ts";

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
// move
//   deposit: done, done already, too small, forged
//   withdrawal: done for its fee, fee too low, done already, about to expire
//   refund: unknown, before the deadline, closed already, unclaimed, with what the node earned, unseen by it, another node's
// the node cannot pay for gas; the RPC is away

describe("relay", function () {
  this.timeout(20_000);
  const folder = createFolder();
  let market: Market;
  let side: ChainSide;
  let desk: RelayDesk;
  let base: string;
  let run = 0;

  before(async () => {
    market = await startMarket();
  });
  beforeEach(async () => {
    base = await market.local.snapshot();
    run += 1;
    await open();
  });
  afterEach(async () => {
    await side.close();
    await market.local.revert(base);
  });
  after(async () => {
    await stopMarket(market);
    folder.remove();
  });

  const open = async (
    changes: ProviderChanges = {},
    rule: Partial<RelayRule> = {},
    terms: Partial<Offer> = {},
  ) => {
    side = openChainSide(market, `${folder.path}/${run}`, changes);
    side.clock.now = (await market.chain.getBlock("latest")).timestamp;
    desk = openRelay(market, side, rule, terms);
  };
  /** The same node again over its store; the state of the one before is abandoned. */
  const restart = async (...args: Parameters<typeof open>) => {
    await side.close();
    await open(...args);
  };
  const refusalOf = async (work: Promise<unknown>): Promise<InfernetError> => {
    const error = await work.then(
      () => undefined,
      (reason: unknown) => reason,
    );
    expect(error).to.have.property("name", "InfernetError");
    return error as InfernetError;
  };
  const nodeSpent = async (work: () => Promise<unknown>): Promise<bigint> => {
    const before = await market.chain.getNative(market.node.address);
    await work();
    return before - (await market.chain.getNative(market.node.address));
  };
  const signed = async (changes: OpeningChanges = {}) => {
    const wallet = await gaslessSigner(
      market,
      changes.from === "credit" ? { credit: DEPOSIT } : { usdc: DEPOSIT },
    );
    return { wallet, ...(await signOpening(market, desk, wallet, changes)) };
  };
  const statusOf = async (jobId: `0x${string}`) => (await market.chain.getJobState(jobId)).status;
  /** Refused with this code, at no gas, with nothing opened. */
  const refuses = async (code: string, changes: OpeningChanges): Promise<InfernetError> => {
    const { jobId, opening } = await signed(changes);
    let error: InfernetError | undefined;
    const spent = await nodeSpent(async () => {
      error = await refusalOf(desk.relay.openJob(opening));
    });
    expect(error!.code, error!.message).to.equal(code);
    expect(spent).to.equal(0n);
    expect(await statusOf(jobId)).to.equal("none");
    expect(side.relays.pending()).to.deep.equal([]);
    return error!;
  };

  describe("of an opening", () => {
    it("opens straight from a wallet that never owned gas, and holds the first receipt", async () => {
      const { wallet, jobId, opening } = await signed();
      const answer = await desk.relay.openJob(opening);
      expect(answer.jobId).to.equal(jobId);
      expect((await market.chain.getOpened(jobId))?.tx).to.equal(answer.tx);
      expect(await market.chain.getUsdc(wallet.address)).to.equal(0n);
      const job = side.ledger.findJob(jobId)!;
      expect(job).to.include({ openingFee: OPENING_FEE, salt: opening.terms.salt, deposit: DEPOSIT });
      expect(job.receipt?.amount).to.equal(OPENING_FEE);
      expect(side.ledger.jobCharge(jobId)).to.equal(OPENING_FEE);
      expect(side.of("relayed").map(({ kind, tx }) => [kind, tx])).to.deep.equal([["open", answer.tx]]);
    });

    it("opens from a credit, and charges the fee beside what a request costs", async () => {
      const { wallet, jobId, opening } = await signed({ from: "credit" });
      await desk.relay.openJob(opening);
      expect(await market.chain.getCredit(wallet.address)).to.equal(0n);
      expect(await market.chain.getNative(wallet.address)).to.equal(0n);
      const funded = await side.intake.ensureFunded(jobId, opening.terms, desk.offer);
      expect(funded.state).to.equal("funded");
    });

    it("settles the fee alone when no request follows", async () => {
      const { wallet, jobId, opening } = await signed();
      await desk.relay.openJob(opening);
      side.ledger.finishJob(jobId);
      await side.settlement.review();
      expect(side.ledger.findJob(jobId)).to.include({ state: "closed", claimed: OPENING_FEE });
      expect(await market.chain.getCredit(wallet.address)).to.equal(DEPOSIT - OPENING_FEE);
    });

    it("opens for a smart wallet from its USDC and from its credit", async () => {
      const wallet = createSigner(generatePrivateKey());
      const account = await market.local.deployWallet(wallet.address);
      await market.local.mintUsdc(account, DEPOSIT);
      await giveCredit(market, wallet, DEPOSIT, account);
      for (const from of ["wallet", "credit"] as const) {
        const { jobId, opening } = await signOpening(market, desk, wallet, { account, from });
        await desk.relay.openJob(opening);
        expect(await statusOf(jobId)).to.equal("open");
      }
      expect(await market.chain.getUsdc(account)).to.equal(0n);
      expect(await market.chain.getCredit(account)).to.equal(0n);
    });

    it("takes an opening that is open already for success, and sends nothing", async () => {
      const { opening } = await signed();
      const { tx } = await desk.relay.openJob(opening);
      const spent = await nodeSpent(async () => {
        expect((await desk.relay.openJob(opening)).tx).to.equal(tx);
      });
      expect(spent).to.equal(0n);
    });

    it("sends one transaction for an opening that is asked for twice at once", async () => {
      const { opening } = await signed();
      const [first, second] = await Promise.all([desk.relay.openJob(opening), desk.relay.openJob(opening)]);
      expect(first).to.deep.equal(second);
      expect(side.of("relayed")).to.have.length(1);
    });

    it("charges no fee for a job that somebody else's transaction opened", async () => {
      const { jobId, opening } = await signed();
      const { job, amount, by } = opening;
      if (by.kind !== "authorization") throw new Error("not from the wallet");
      const call = market.chain.calls.openWithAuthorization(job, amount, by);
      const tx = await market.local.sendAs(market.stranger, call);
      expect((await desk.relay.openJob(opening)).tx).to.equal(tx);
      await side.intake.poke();
      expect(side.ledger.findJob(jobId)).to.include({ openingFee: 0n });
      expect(side.ledger.jobCharge(jobId)).to.equal(0n);
    });

    it("takes for success that the requester was faster, and charges no fee", async () => {
      const { jobId, opening } = await signed();
      const { job, amount, by } = opening;
      if (by.kind !== "authorization") throw new Error("not from the wallet");
      const call = market.chain.calls.openWithAuthorization(job, amount, by);
      let first = true;
      const chain = {
        ...market.chain,
        async getJobState(id: `0x${string}`) {
          const state = await market.chain.getJobState(id);
          if (first) await market.local.sendAs(market.stranger, call);
          first = false;
          return state;
        },
      };
      await restart({ chain });
      const { tx } = await desk.relay.openJob(opening);
      expect((await market.chain.getOpened(jobId))?.tx).to.equal(tx);
      expect(side.ledger.findJob(jobId)?.openingFee).to.equal(0n);
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
        refuses("relay-refused", { validBefore: side.clock.now + 30 }));
      it("a receipt that is none", async () => {
        const { opening } = await signed();
        expect((await refusalOf(desk.relay.openJob({ ...opening, receipt: "1;2;3" }))).code).to.equal(
          "bad-receipt",
        );
      });
    });

    describe("refuses at no gas", () => {
      it("a payee that the Registry does not name", () =>
        refuses("job-not-funded", { job: { payee: market.stranger } }));
      it("a deposit under the minimum", async () => {
        await restart({}, {}, { minDeposit: DEPOSIT + 1n });
        await refuses("job-not-funded", {});
      });
      it("a deadline that is too near", () =>
        refuses("job-not-funded", { job: { deadline: side.clock.now + 700 } }));
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
        const error = await refusalOf(desk.relay.openJob({ ...opening, by: other.by }));
        expect(error.data.error).to.equal("EscrowBadSignature");
      });
      it("a job that is closed", async () => {
        const { jobId, opening } = await signed();
        await desk.relay.openJob(opening);
        side.ledger.finishJob(jobId);
        await side.settlement.review();
        expect((await refusalOf(desk.relay.openJob(opening))).code).to.equal("job-closed");
      });
      it("everything while the node is switched off", async () => {
        await market.asPayee(market.chain.calls.deactivate(market.node.address));
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
        await market.local.rpc("hardhat_setBalance", [market.node.address, "0x0"]);
        const error = await refuses("relay-refused", {});
        expect(error.message).to.not.contain(market.node.address);
        expect(side.of("error").map(({ code }) => code)).to.deep.equal(["insufficient-funds"]);
      });
    });

    describe("limits", () => {
      it("a requester's transactions, not those of others, and fills up again", async () => {
        await restart({}, { perRequester: { burst: 1, perHour: 60 } });
        const wallet = await gaslessSigner(market, { usdc: 4n * DEPOSIT });
        const next = async () => (await signOpening(market, desk, wallet)).opening;
        await desk.relay.openJob(await next());
        const error = await refusalOf(desk.relay.openJob(await next()));
        expect([error.code, error.data.retryAfterSeconds]).to.deep.equal(["rate-limited", 60]);
        await desk.relay.openJob((await signed()).opening);
        desk.time.ms += 60_000;
        await desk.relay.openJob(await next());
      });

      it("the transactions of all", async () => {
        await restart({}, { overall: { burst: 1, perHour: 60 } });
        await desk.relay.openJob((await signed()).opening);
        await refuses("rate-limited", {});
      });

      it("what costs only calls of the RPC, without touching a requester's transactions", async () => {
        await restart(
          {},
          { simulations: { burst: 2, perHour: 3600 }, perRequester: { burst: 1, perHour: 1 } },
        );
        const wallet = await gaslessSigner(market, { usdc: DEPOSIT });
        const dear = await signOpening(market, desk, wallet, { amount: 2n * DEPOSIT });
        const good = await signOpening(market, desk, wallet);
        expect((await refusalOf(desk.relay.openJob(dear.opening))).code).to.equal("relay-refused");
        await desk.relay.openJob(good.opening);
        expect((await refusalOf(desk.relay.openJob(dear.opening))).code).to.equal("rate-limited");
      });
    });

    describe("after a crash", () => {
      const crash = async (options: { late?: boolean }) => {
        await restart({ chain: faultyChain(market.chain, "eth_sendRawTransaction", options) });
        const { jobId, opening } = await signed();
        await desk.relay.openJob(opening).catch(() => {});
        expect(side.relays.pending().map(({ subject }) => subject)).to.deep.equal([jobId]);
        return { jobId, opening };
      };

      it("between signing and broadcast, the same transaction is sent at the next start", async () => {
        const { jobId } = await crash({});
        expect(await statusOf(jobId)).to.equal("none");
        const [{ tx }] = side.relays.pending() as [ReturnType<typeof side.relays.pending>[0]];
        await restart();
        await desk.relay.resume();
        expect((await market.chain.getOpened(jobId))?.tx).to.equal(tx.hash);
        await side.intake.poke();
        expect(side.ledger.findJob(jobId)).to.include({ openingFee: OPENING_FEE });
        expect(side.ledger.findJob(jobId)?.receipt?.amount).to.equal(OPENING_FEE);
        expect(side.relays.pending()).to.deep.equal([]);
      });

      it("between broadcast and recording, what was mined is found, and the fee and receipt are held", async () => {
        const { jobId } = await crash({ late: true });
        expect(await statusOf(jobId)).to.equal("open");
        await restart();
        await side.intake.poke();
        expect(side.ledger.findJob(jobId)).to.include({ openingFee: OPENING_FEE });
        expect(side.ledger.findJob(jobId)?.receipt?.amount).to.equal(OPENING_FEE);
        expect(await nodeSpent(() => desk.relay.resume())).to.equal(0n);
        expect(side.relays.pending()).to.deep.equal([]);
      });

      it("a requester that asks again finishes what was begun, by the same transaction", async () => {
        const { opening } = await crash({});
        const [{ tx }] = side.relays.pending() as [ReturnType<typeof side.relays.pending>[0]];
        await restart();
        expect((await desk.relay.openJob(opening)).tx).to.equal(tx.hash);
      });

      it("forgets a transaction whose nonce another one took, and sends a new one when asked again", async () => {
        const { jobId, opening } = await crash({});
        await restart();
        await side.sender.send(market.chain.calls.setEndpoint("https://127.0.0.1:9443"));
        await desk.relay.resume();
        expect(await statusOf(jobId)).to.equal("none");
        expect(side.relays.pending()).to.deep.equal([]);
        await desk.relay.openJob(opening);
        expect(await statusOf(jobId)).to.equal("open");
      });
    });
  });

  describe("of a deposit", () => {
    it("turns a wallet's USDC into its credit, once", async () => {
      const wallet = await gaslessSigner(market, { usdc: 3n * DEPOSIT });
      const move = await signDeposit(market, wallet, DEPOSIT);
      const { tx } = await desk.relay.move(move);
      expect(tx).to.match(/^0x/);
      expect(await desk.relay.move(move)).to.deep.equal({ tx });
      expect(await market.chain.getCredit(wallet.address)).to.equal(DEPOSIT);
      expect(await market.chain.getUsdc(wallet.address)).to.equal(2n * DEPOSIT);
    });

    it("is refused when it is forged, or too small to be moved for nothing", async () => {
      const wallet = await gaslessSigner(market, { usdc: DEPOSIT });
      const move = await signDeposit(market, wallet, DEPOSIT);
      expect((await refusalOf(desk.relay.move({ ...move, amount: DEPOSIT - 1n }))).code).to.equal(
        "relay-refused",
      );
      await restart({}, { leastMove: DEPOSIT + 1n });
      expect((await refusalOf(desk.relay.move(move))).message).to.match(/moves no less/);
      expect(await market.chain.getUsdc(wallet.address)).to.equal(DEPOSIT);
    });
  });

  describe("of a withdrawal", () => {
    it("sends the credit to where its owner said, and the fee to the node, once", async () => {
      const wallet = await gaslessSigner(market, { credit: DEPOSIT });
      const before = await market.chain.getUsdc(market.node.address);
      const move = await signWithdrawal(market, wallet, { amount: DEPOSIT - RELAY_FEE });
      const { tx } = await desk.relay.move(move);
      expect(await desk.relay.move(move)).to.deep.equal({ tx });
      expect(await market.chain.getUsdc(wallet.address)).to.equal(DEPOSIT - RELAY_FEE);
      expect(await market.chain.getUsdc(market.node.address)).to.equal(before + RELAY_FEE);
      expect(await market.chain.getCredit(wallet.address)).to.equal(0n);
      expect(await market.chain.getNative(wallet.address)).to.equal(0n);
    });

    it("is refused for a lower fee, saying which, and when it is about to expire", async () => {
      const wallet = await gaslessSigner(market, { credit: DEPOSIT });
      const cheap = await signWithdrawal(market, wallet, { amount: 1_000n, fee: RELAY_FEE - 1n });
      const error = await refusalOf(desk.relay.move(cheap));
      expect(error).to.deep.include({ code: "relay-refused", data: { relayFee: RELAY_FEE.toString() } });
      const validBefore = side.clock.now + 30;
      const late = await signWithdrawal(market, wallet, { amount: 1_000n, validBefore });
      expect((await refusalOf(desk.relay.move(late))).code).to.equal("relay-refused");
      expect(await market.chain.getCredit(wallet.address)).to.equal(DEPOSIT);
    });

    it("after a crash is sent once", async () => {
      const wallet = await gaslessSigner(market, { credit: DEPOSIT });
      const move = await signWithdrawal(market, wallet, { amount: 1_000n });
      await restart({ chain: faultyChain(market.chain, "eth_sendRawTransaction", {}) });
      await desk.relay.move(move).catch(() => {});
      await restart();
      await desk.relay.resume();
      expect((await desk.relay.move(move)).tx).to.match(/^0x/);
      expect(await market.chain.getUsdc(wallet.address)).to.equal(1_000n);
    });
  });

  describe("of a refund", () => {
    const refundOf = ({ job }: { job: Extract<RelayedMove, { kind: "refund" }>["job"] }): RelayedMove => ({
      kind: "refund",
      job,
    });
    const pastDeadline = async () => {
      await market.local.increaseTime(7300);
      side.clock.now = (await market.chain.getBlock("latest")).timestamp;
    };

    it("gives back what nobody claimed of a job that the node never saw", async () => {
      const opened = await openJob(market);
      await pastDeadline();
      const { tx } = await desk.relay.move(refundOf(opened));
      expect(tx).to.match(/^0x/);
      expect(await statusOf(opened.jobId)).to.equal("closed");
      expect(await desk.relay.move(refundOf(opened))).to.deep.equal({ tx });
    });

    it("settles in the same transaction what the node earned", async () => {
      const opened = await openJob(market);
      await serveJob(market, side, opened, { signed: 900n, tokens: 60 });
      await pastDeadline();
      const { tx } = await desk.relay.move(refundOf(opened));
      expect(tx).to.match(/^0x/);
      expect(await market.chain.getJobState(opened.jobId)).to.include({ status: "closed", claimed: 500n });
    });

    it("gives back the whole deposit of a job that earned nothing", async () => {
      const opened = await openJob(market);
      await side.intake.ensureFunded(opened.jobId, opened.terms, market.offer);
      side.ledger.bindTerms(opened.jobId, opened.terms);
      side.ledger.acceptReceipt(signReceipt(market, opened.jobId, 50n));
      await pastDeadline();
      await desk.relay.move(refundOf(opened));
      expect(await market.chain.getJobState(opened.jobId)).to.include({ status: "closed", claimed: 0n });
    });

    it("gives back what another node left, which may have gone away", async () => {
      const { address: node } = createSigner(generatePrivateKey());
      const opened = await openJob(market, { node });
      await pastDeadline();
      expect((await desk.relay.move(refundOf(opened))).tx).to.match(/^0x/);
      expect(await statusOf(opened.jobId)).to.equal("closed");
    });

    it("is refused for an unknown job, and before the deadline, saying when", async () => {
      const opened = await openJob(market);
      const { job } = opened;
      const codeOf = async (changes: Partial<typeof job>) =>
        (await refusalOf(desk.relay.move(refundOf({ job: { ...job, ...changes } })))).code;
      expect(await codeOf({ jobHash: word(5) })).to.equal("job-not-found");
      const early = await refusalOf(desk.relay.move(refundOf(opened)));
      expect(early).to.deep.include({ code: "job-unconfirmed", data: { deadline: job.deadline } });
      expect(await statusOf(opened.jobId)).to.equal("open");
    });
  });
});
