// One sale through the real command line: the bill is the formula over the model's own counts, to the base unit.
import { expect } from "chai";
import { getLlama, LlamaLogLevel, resolveChatWrapper } from "node-llama-cpp";
import { chargeOf, formatUsdc } from "../../protocol/price.ts";
import type { Ended } from "../support/command-line.ts";
import {
  ALLOWANCE,
  baseUnits,
  INPUT_PRICE,
  type Market,
  MODEL,
  OUTPUT_PRICE,
  openMarket,
  type Worker,
} from "../support/market.ts";
import { tinyModelFile } from "../support/tiny-model.ts";

const PROMPT = "hello world, what has the model to say of the price?";
const MAX_TOKENS = 150;
const SAMPLING = ["--max-tokens", String(MAX_TOKENS), "--temperature", "0", "--seed", "1"];

describe("the trip of one job, every part a process of its own", function () {
  this.timeout(60_000);
  let market: Market;
  let worker: Worker;
  let ended: Ended;
  // biome-ignore lint/suspicious/noExplicitAny: the bill as JSON carries it.
  let bill: Record<string, any>;

  before(async () => {
    market = await openMarket();
    worker = await market.startWorker("--log-level", "error");
    ended = await market.submit(PROMPT, ...SAMPLING, "--json", "--wait").ended;
    bill = JSON.parse(ended.stdout);
  });
  after(() => market?.close());

  it("ends with 0 and one JSON document on stdout", () => {
    expect(ended.exitCode, ended.stderr).to.equal(0);
    expect(ended.stdout.trim().split("\n")).to.have.length(1);
    expect(bill).to.include({ model: MODEL, node: market.node, estimated: false });
  });

  it("charges the formula over counts that the model's own tokenizer and sampler give again", async () => {
    const counted = await countAgain();
    expect(bill.promptTokens).to.equal(counted.promptTokens);
    expect(bill.completionTokens).to.equal(counted.completionTokens);
    expect(bill.text).to.equal(counted.text);
    const charge = chargeOf([counted], { inputPrice: INPUT_PRICE, outputPrice: OUTPUT_PRICE });
    expect(bill.chargeUsdc).to.equal(formatUsdc(charge));
  });

  it("takes from the requester what it charges, and gives it to the payee, to the base unit", async () => {
    await worker.event("settled", bill.jobId);
    const after = await market.holdings();
    const charge = baseUnits(bill.chargeUsdc);
    expect(ALLOWANCE - after.requester).to.equal(charge);
    expect(after.payee).to.equal(charge);
    expect(await market.view.getJobState(bill.jobId)).to.include({ status: "closed", claimed: charge });
  });

  it("says the same in the bill, the job's status, the list of jobs and the worker's events", async () => {
    const figures = { jobId: bill.jobId, chargeUsdc: bill.chargeUsdc, signedUsdc: bill.signedUsdc };
    const returnedUsdc = formatUsdc(baseUnits(bill.depositUsdc) - baseUnits(bill.chargeUsdc));
    expect(bill.settled).to.deep.equal({ chargeUsdc: bill.chargeUsdc, returnedUsdc });
    const status = await market.buyerJson("job", "status", bill.jobId);
    expect(status).to.include({ ...figures, returnedUsdc, phase: "closed", openTx: bill.openTx });
    const { promptTokens, completionTokens } = bill;
    expect(status.delivery).to.include({ promptTokens, completionTokens, jobChargeUsdc: bill.chargeUsdc });
    expect((await market.buyerJson("job", "list")).jobs).to.deep.equal([status]);
    const settled = await worker.event("settled", bill.jobId);
    expect(settled).to.include({ claimedUsdc: bill.chargeUsdc, returnedUsdc });
  });

  it("signed receipts while the answer came, never beyond what it may cost", () => {
    expect(baseUnits(bill.chargeUsdc) <= baseUnits(bill.signedUsdc)).to.equal(true);
    expect(baseUnits(bill.signedUsdc) <= baseUnits(bill.depositUsdc)).to.equal(true);
    expect(ended.stderr.split("\n").filter((line) => line.includes('"event":"receipt"')).length).to.be.above(
      1,
    );
  });

  it("writes nothing but the answer to stdout when JSON is not asked for", async () => {
    const plain = await market.submit(PROMPT, ...SAMPLING).ended;
    expect(plain.exitCode, plain.stderr).to.equal(0);
    expect(plain.stdout.replace(/\n$/, "")).to.equal(bill.text.replace(/\n$/, ""));
    expect(plain.stderr).to.contain(`for ${bill.chargeUsdc} USDC`);
  });

  it("ends with the exit code that the mistake has, and takes nothing", async () => {
    const before = await market.holdings();
    const exitCodeOf = async (...args: string[]) =>
      (await market.buyer.run(["job", "submit", ...args])).exitCode;
    expect(await exitCodeOf("--model", "nobody-has-this", "--prompt", "Hello")).to.equal(5);
    expect(await exitCodeOf("--model", MODEL, "--prompt", "Hello", "--max-usdc", "0.000001")).to.equal(3);
    expect(await exitCodeOf("--model", MODEL, "--prompt", " ")).to.equal(2);
    expect((await market.holdings()).requester).to.equal(before.requester);
  });

  it("pays out what was earned when the worker is asked to end", async () => {
    const before = await market.holdings();
    worker.child.kill("SIGTERM");
    expect((await worker.ended).exitCode).to.equal(0);
    expect(await market.view.getEarned(market.payee)).to.equal(0n);
    expect(await market.view.getUsdc(market.payee)).to.equal(before.payee);
  });
});

/** The same generation by llama.cpp alone, without any of our code: prompt tokenized, every sampled token counted. */
async function countAgain() {
  const llama = await getLlama({
    gpu: false,
    build: "never",
    skipDownload: true,
    logLevel: LlamaLogLevel.error,
    maxThreads: 1,
  });
  try {
    const model = await llama.loadModel({ modelPath: tinyModelFile() });
    const context = await model.createContext({ contextSize: model.trainContextSize, sequences: 1 });
    const chatHistory = [
      { type: "user" as const, text: PROMPT },
      { type: "model" as const, response: [] },
    ];
    const { contextText } = resolveChatWrapper(model, { warningLogs: false }).generateContextState({
      chatHistory,
    });
    const prompt = [model.tokens.bos!, ...contextText.tokenize(model.tokenizer)];
    const sampled: typeof prompt = [];
    for await (const token of context.getSequence().evaluate(prompt, { temperature: 0, seed: 1 })) {
      if (model.isEogToken(token) || sampled.push(token) === MAX_TOKENS) break;
    }
    return {
      promptTokens: prompt.length,
      completionTokens: sampled.length,
      text: model.detokenize(sampled, false, prompt),
    };
  } finally {
    await llama.dispose();
  }
}
