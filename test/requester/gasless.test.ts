import { expect } from "chai";
import type { Hex } from "../../protocol/bytes.ts";
import { InfernetError } from "../../protocol/errors.ts";
import { chargeOf } from "../../protocol/price.ts";
import { RELAY_SECONDS } from "../../protocol/relay.ts";
import type { GasChoice } from "../../requester/gas.ts";
import { createSigner, generatePrivateKey, type Signer } from "../../runtime/signers/secp256k1.ts";
import { failureOf } from "../support/machine.ts";
import { type LyingNode, PRICES, startLyingNode } from "./lying-node.ts";
import { type Buyer, chatBody, ETHER, startBuyer, startWorld, type World } from "./world.ts";

// The branches of an opening that a node broadcasts, each a test:
//
// who pays the gas: auto with gas, auto without, own without gas, node with gas
// from the wallet; from the credit; for a smart wallet; for a wallet whose code refuses, with gas and without
// fee: budgeted before anything leaves; above what the job may cost; charged and accepted once
// answer: lost after the broadcast; lost before it, then given; refused; refused though sent; said but not done
// unknown: the same request again hands over the same consent; the money is not free until the consent expires;
//   then the job is dropped and the day gets its money back; opened late, the job is found and brought to its end

const FEE = 40n;
const TOKENS = 20;
const USDC = 10_000_000n;

describe("a requester without gas", function () {
  this.timeout(30_000);
  let world: World;
  let node: LyingNode;
  let base: string;
  before(async () => {
    world = await startWorld();
  });
  after(() => world.stop());
  beforeEach(async () => {
    base = await world.local.snapshot();
    node = await startLyingNode(world);
    node.offerChanges = { openingFee: FEE };
  });
  afterEach(async () => {
    await node.stop();
    await world.local.revert(base);
  });

  const gaslessWallet = async (usdc = USDC): Promise<Signer> => {
    const wallet = createSigner(generatePrivateKey());
    await world.local.mintUsdc(wallet.address, usdc);
    return wallet;
  };
  const startGasless = async (usdc = USDC) => startBuyer(world, { wallet: await gaslessWallet(usdc) });
  const submit = (
    { requester }: Buyer,
    wish: { gas?: GasChoice; body?: Uint8Array; maxCharge?: bigint } = {},
  ) =>
    requester.submit({
      path: "/v1/chat/completions",
      body: chatBody({ max_tokens: 64 }),
      node: node.signer.address,
      settlementTimeoutMs: 10_000,
      ...wish,
    });
  const charge = chargeOf([{ promptTokens: 5, completionTokens: TOKENS }], PRICES, FEE);
  const isUntouched = async ({ wallet }: Buyer) => {
    expect(await world.chain.getNative(wallet.address)).to.equal(0n);
    expect(await world.local.rpc("eth_getTransactionCount", [wallet.address, "latest"])).to.equal("0x0");
  };
  const away = new InfernetError("chain-unreachable", "the node's RPC is away");

  it("has its node open the job straight from its USDC, and pays the fee of the offer once", async () => {
    const buyer = await startGasless();
    const bill = await submit(buyer);
    expect(bill.charge).to.equal(charge);
    expect(bill.settled).to.deep.equal({ charge, returned: bill.deposit - charge });
    expect(node.seen.openings.map(({ by }) => by.kind)).to.deep.equal(["authorization"]);
    expect(await world.chain.getUsdc(buyer.wallet.address)).to.equal(USDC - bill.deposit);
    await isUntouched(buyer);
  });

  it("opens the next job from the credit that came back", async () => {
    const buyer = await startGasless();
    await submit(buyer);
    await submit(buyer);
    const usdc = await world.chain.getUsdc(buyer.wallet.address);
    await submit(buyer);
    const kinds = ["authorization", "authorization", "credit"];
    expect(node.seen.openings.map(({ by }) => by.kind)).to.deep.equal(kinds);
    expect(await world.chain.getUsdc(buyer.wallet.address)).to.equal(usdc);
    await isUntouched(buyer);
  });

  it("signs no receipt above the fee before the job is open", async () => {
    const buyer = await startGasless();
    await submit(buyer);
    expect(node.seen.openings[0]!.receipt.split(";")[0]).to.equal(FEE.toString());
  });

  it("sends its own transaction when it owns gas, unless a node is asked for", async () => {
    const wallet = await gaslessWallet();
    await world.local.fundNative(wallet.address, ETHER);
    const buyer = await startBuyer(world, { wallet });
    expect((await submit(buyer)).charge).to.equal(charge - FEE);
    expect(node.seen.openings).to.have.length(0);
    expect((await submit(buyer, { gas: "node" })).charge).to.equal(charge);
    expect(node.seen.openings).to.have.length(1);
  });

  it("sends nothing when it is to pay gas that it does not own", async () => {
    const buyer = await startGasless();
    expect((await failureOf(() => submit(buyer, { gas: "own" }))).code).to.equal("insufficient-funds");
    expect(node.seen.openings).to.have.length(0);
    expect(buyer.requester.listJobs()[0]?.phase).to.equal("dropped");
  });

  it("hands over nothing when the fee is above what the job may cost", async () => {
    const buyer = await startGasless();
    node.offerChanges = { openingFee: 2_000n };
    expect((await failureOf(() => submit(buyer, { maxCharge: 1_000n }))).code).to.equal("over-budget");
    expect(node.seen.openings).to.have.length(0);
  });

  describe("that owns a smart wallet", () => {
    it("opens jobs with the smart wallet's USDC and credit, by its key's signature", async () => {
      const wallet = createSigner(generatePrivateKey());
      const account = await world.local.deployWallet(wallet.address);
      await world.local.mintUsdc(account, USDC);
      const buyer = await startBuyer(world, { wallet, account });
      for (let jobs = 0; jobs < 3; jobs += 1) await submit(buyer);
      expect(node.seen.openings.map(({ by, job }) => [by.kind, job.requester])).to.deep.equal([
        ["authorization", account],
        ["authorization", account],
        ["credit", account],
      ]);
      await isUntouched(buyer);
    });

    it("hands over nothing when the wallet's code refuses its signature, and says what helps", async () => {
      const account = await world.local.deployWallet(node.signer.address);
      await world.local.mintUsdc(account, USDC);
      const buyer = await startBuyer(world, { wallet: createSigner(generatePrivateKey()), account });
      const error = await failureOf(() => submit(buyer));
      expect(error.code).to.equal("insufficient-funds");
      expect(error.hint).to.contain("--account").and.to.contain("--gas own");
      expect(node.seen.openings).to.have.length(0);
      expect(buyer.requester.listJobs()[0]?.phase).to.equal("dropped");
    });
  });

  describe("whose own address has code that refuses its signatures", () => {
    const delegated = async (wei: bigint) => {
      const wallet = await gaslessWallet();
      await world.local.fundNative(wallet.address, wei);
      const code = await world.local.deployWallet(node.signer.address);
      await world.local.rpc("hardhat_setCode", [wallet.address, `0xef0100${code.slice(2)}`]);
      return startBuyer(world, { wallet });
    };

    it("falls back to its own transactions when it owns gas", async () => {
      const buyer = await delegated(ETHER);
      const bill = await submit(buyer, { gas: "node" });
      expect(bill.charge).to.equal(charge - FEE);
      expect(node.seen.openings).to.have.length(0);
    });

    it("says what helps when it owns none", async () => {
      const buyer = await delegated(0n);
      expect((await failureOf(() => submit(buyer))).hint).to.contain("--gas own");
      expect(node.seen.openings).to.have.length(0);
    });
  });

  describe("whose node", () => {
    it("loses its answer after the broadcast: the chain tells", async () => {
      const buyer = await startGasless();
      node.relay = async (opening) => {
        await node.broadcast(opening);
        throw away;
      };
      expect((await submit(buyer)).charge).to.equal(charge);
      expect(node.seen.openings).to.have.length(1);
    });

    it("cannot broadcast at first: the same opening is handed over again", async () => {
      const buyer = await startGasless();
      let asked = 0;
      node.relay = async (opening) => {
        asked += 1;
        if (asked < 3) throw away;
        return await node.broadcast(opening);
      };
      await submit(buyer);
      const bodies = new Set(
        node.seen.openings.map((opening) =>
          JSON.stringify(opening, (_k, v) => (String(v) === "[object Object]" ? v : String(v))),
        ),
      );
      expect([node.seen.openings.length, bodies.size]).to.deep.equal([3, 1]);
    });

    it("says no although it sends it: the job is used", async () => {
      const buyer = await startGasless();
      node.relay = async (opening) => {
        await node.broadcast(opening);
        throw new InfernetError("relay-refused", "no");
      };
      expect((await submit(buyer)).charge).to.equal(charge);
    });

    it("says no, and keeps what was signed: that money is not free until the consent expires", async () => {
      const buyer = await startGasless(1_500n);
      node.relay = async () => {
        throw new InfernetError("relay-refused", "the gas is too dear");
      };
      const error = await failureOf(() => submit(buyer, { maxCharge: 2_000n }));
      expect(error.code).to.equal("relay-refused");
      expect(error.message).to.contain("too dear");
      expect(error.hint).to.contain("--gas own").and.to.contain("may still open it until");
      expect(buyer.requester.listJobs()[0]).to.include({ phase: "opening", signed: FEE });
      const [dayLeft] = [buyer.requester.snapshot().dayLeft];

      node.relay = (opening) => node.broadcast(opening);
      const second = await failureOf(() => submit(buyer, { maxCharge: 2_000n }));
      expect(second.code).to.equal("insufficient-funds");
      expect(node.seen.openings).to.have.length(1);
      await buyer.requester.tend();
      expect(buyer.requester.listJobs().filter(({ phase }) => phase === "opening")).to.have.length(1);

      await world.local.increaseTime(RELAY_SECONDS + 1);
      await buyer.requester.tend();
      expect(buyer.requester.listJobs().filter(({ phase }) => phase === "opening")).to.have.length(0);
      expect(buyer.requester.snapshot().dayLeft).to.equal(dayLeft + FEE);
      const failed = await failureOf(() => node.broadcast(node.seen.openings[0]!));
      expect(failed.code).to.equal("transaction-failed");
    });

    it("does not answer: the same request again hands over the same consent, and opens one job", async () => {
      const buyer = await startGasless();
      node.relay = async () => {
        throw away;
      };
      const body = chatBody({ max_tokens: 64 });
      const error = await failureOf(() => submit(buyer, { body }));
      expect(error.code).to.equal("job-unconfirmed");
      node.relay = (opening) => node.broadcast(opening);
      const bill = await submit({ ...buyer, requester: await buyer.restart() }, { body });
      expect(bill.charge).to.equal(charge);
      expect(new Set(node.seen.openings.map(({ job }) => job.jobHash)).size).to.equal(1);
      expect(buyer.requester.listJobs()).to.have.length(1);
    });

    it("opens the job late: it is found, and brought to its end", async () => {
      const buyer = await startGasless();
      node.relay = async () => {
        throw new InfernetError("relay-refused", "no");
      };
      await failureOf(() => submit(buyer));
      await node.broadcast(node.seen.openings[0]!);
      const { jobId } = buyer.requester.listJobs()[0]!;
      expect((await buyer.requester.status(jobId)).phase).to.equal("open");
      const opened = await world.chain.getOpened(jobId as Hex);
      expect(buyer.requester.listJobs()[0]).to.include({ openTx: opened!.tx });
      await world.local.increaseTime(4_000);
      await world.local.fundNative(buyer.wallet.address, ETHER);
      await buyer.requester.tend();
      expect(buyer.requester.listJobs()[0]).to.include({ phase: "refunded", charge: 0n });
    });
  });
});
