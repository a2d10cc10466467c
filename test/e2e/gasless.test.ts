// A requester that owns USDC and nothing else does everything through the real command line; the books add up to the unit.
import { expect } from "chai";
import type { Hex } from "../../protocol/bytes.ts";
import { chargeOf } from "../../protocol/price.ts";
import {
  ALLOWANCE,
  baseUnits,
  INPUT_PRICE,
  type Market,
  OUTPUT_PRICE,
  openMarket,
  type Worker,
} from "../support/market.ts";
import { jsonLines } from "../support/watched-process.ts";

const OPENING_FEE = 2_000n;
const RELAY_FEE = 1_000n;
const FEES = ["--opening-fee", "0.002", "--relay-fee", "0.001", "--log-level", "error"];
const PROMPT = "hello world, what has the model to say of the price?";
const SAMPLING = ["--max-tokens", "100", "--temperature", "0", "--seed", "1"];
/** The shortest life that the node's offer allows, and a little more than it. */
const LIFE = ["--deadline", "20m"];
const PAST_LIFE_SECONDS = 1_400;
const PRICES = { inputPrice: INPUT_PRICE, outputPrice: OUTPUT_PRICE };

describe("a requester that never owns gas", function () {
  this.timeout(120_000);
  let market: Market;
  let worker: Worker;
  // biome-ignore lint/suspicious/noExplicitAny: the bill as JSON carries it.
  let bill: Record<string, any>;

  before(async () => {
    market = await openMarket({ requesterWei: 0n });
    worker = await market.startWorker(...FEES);
  });
  after(() => market?.close());

  const nonceOf = (address: Hex) => market.chain.rpc<Hex>("eth_getTransactionCount", [address, "latest"]);
  const nodeUsdc = () => market.view.getUsdc(market.node);
  afterEach(async () => {
    expect(await market.view.getNative(market.requester)).to.equal(0n);
    expect(await nonceOf(market.requester)).to.equal("0x0");
  });

  it("runs a job that its node opens, for the fee of the offer", async () => {
    const ended = await market.submit(PROMPT, ...SAMPLING, "--json", "--wait").ended;
    expect(ended.exitCode, ended.stderr).to.equal(0);
    bill = JSON.parse(ended.stdout);
    const charge = chargeOf(
      [{ promptTokens: bill.promptTokens, completionTokens: bill.completionTokens }],
      PRICES,
      OPENING_FEE,
    );
    expect(baseUnits(bill.chargeUsdc)).to.equal(charge);
    expect(bill.openTx).to.equal((await worker.event("relayed")).tx);
    await worker.event("settled", bill.jobId);
    const after = await market.holdings();
    expect(ALLOWANCE - after.requester).to.equal(charge);
    expect(after.payee).to.equal(charge);
  });

  it("deposits, and runs a job from the credit alone", async () => {
    const deposited = await market.buyerJson("wallet", "deposit", "1");
    expect(deposited).to.include({ node: market.node, amountUsdc: "1.000000" });
    const ended = await market.submit(
      `${PROMPT} Again?`,
      ...SAMPLING,
      "--json",
      "--wait",
      "--max-usdc",
      "0.02",
    ).ended;
    expect(ended.exitCode, ended.stderr).to.equal(0);
    const usdc = baseUnits((await market.buyerJson("wallet", "balance")).walletUsdc);
    expect(usdc).to.equal(ALLOWANCE - 1_000_000n - baseUnits(bill.depositUsdc));
  });

  it("refunds what a job left, of which the node keeps what it earned", async () => {
    const submitted = market.submit("Say on and on", "--max-tokens", "1000", ...LIFE, "--json");
    const opened = await submitted.until(({ stderr }) =>
      jsonLines(stderr).find(({ event }) => event === "opened"),
    );
    await submitted.until(({ stderr }) => stderr.includes('"event":"text"'));
    await Promise.all([worker.kill(), submitted.kill()]);
    worker = await market.startWorker(...FEES, "--settle", "worth");
    const jobId = String(opened.jobId);
    const early = await market.buyer.run(["job", "refund", jobId]);
    expect(early.exitCode).to.equal(4);
    await market.chain.increaseTime(PAST_LIFE_SECONDS);
    const before = await market.holdings();
    const refund = await market.buyerJson("job", "refund", jobId);
    expect(refund).to.deep.include({ refunded: true, node: market.node, gasUsed: null });
    const { status, deposit, claimed } = await market.view.getJobState(jobId as Hex);
    expect(status).to.equal("closed");
    expect(claimed >= OPENING_FEE).to.equal(true);
    const after = await market.holdings();
    expect(after.requester - before.requester).to.equal(deposit - claimed);
    expect(after.payee - before.payee).to.equal(claimed);
  });

  it("withdraws all of its credit for the node's fee, and nothing is missing in the end", async () => {
    expect(await nodeUsdc()).to.equal(0n);
    const withdrawn = await market.buyerJson("wallet", "withdraw", "all");
    expect(withdrawn).to.include({ node: market.node, creditUsdc: "0.000000", feeUsdc: "0.001000" });
    expect(await nodeUsdc()).to.equal(RELAY_FEE);
    const { requester, payee } = await market.holdings();
    expect(await market.view.getUsdc(market.requester)).to.equal(requester);
    expect(requester + payee + RELAY_FEE).to.equal(ALLOWANCE);
  });

  it("is told the ways on when no node does it", async () => {
    await worker.kill();
    const { exitCode, stderr } = await market.buyer.run(["wallet", "deposit", "1", "--json"]);
    expect(exitCode).to.equal(5);
    const { error } = JSON.parse(stderr.trim().split("\n").at(-1)!);
    expect(error.code).to.equal("relay-refused");
    expect(error.hint).to.contain(market.requester).and.to.contain("--gas own");
    const own = await market.submit(PROMPT, "--gas", "own").ended;
    expect(own.exitCode).to.be.oneOf([3, 5]);
  });
});
