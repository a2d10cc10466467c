// Who stops gains nothing: a requester without receipts gets what it signed for, a silent node what it delivered.
import { expect } from "chai";
import { chargeOf, costMillionths, formatUsdc } from "../../protocol/price.ts";
import { openEmbedded } from "../../provider/upstreams/embedded.ts";
import { chatBody, generate } from "../support/generation.ts";
import { type HandWrittenAnswer, openJobByHand } from "../support/hand-written-client.ts";
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
import { type ScriptedOpenAiServer, startScriptedOpenAiServer } from "../support/scripted-openai-server.ts";
import { bookedRequests } from "../support/seller-book.ts";
import { tinyModelFile } from "../support/tiny-model.ts";
import { jsonLines } from "../support/watched-process.ts";

const PRICE = { inputPrice: INPUT_PRICE, outputPrice: OUTPUT_PRICE };
const WORDS = ["one ", "two ", "three ", "four ", "five "];

describe("who stops", function () {
  this.timeout(90_000);
  const body = chatBody(MODEL, "hello world", { max_tokens: 600, temperature: 0, seed: 1, stream: true });
  const deposit = 100_000n;
  /** A prompt of 3 tokens by estimate and two chunks: the least that the node starts for. */
  const signed = 3n * 10n + 128n * 40n;
  let impatient: Market;
  let impatientWorker: Worker;
  let job: Awaited<ReturnType<typeof openJobByHand>>;
  let asked: Promise<HandWrittenAnswer>;

  before(async () => {
    impatient = await openMarket();
    impatientWorker = await impatient.startWorker("--log-level", "error");
    job = await openJobByHand(impatient, body, deposit);
    // The node waits 30 s for the next receipt: the other stops are looked at meanwhile.
    asked = job.ask(signed);
    asked.catch(() => {});
  });
  after(() => impatient?.close());

  describe("a node that stops sending", () => {
    let model: ScriptedOpenAiServer;
    let market: Market;
    let worker: Worker;

    before(async () => {
      model = await startScriptedOpenAiServer(MODEL, async ({ say }) => {
        for (const word of WORDS) await say(word);
        // And not a word more, ever.
      });
      market = await openMarket({ upstream: ["--upstream", "openai", "--upstream-url", model.url] });
      worker = await market.startWorker("--log-level", "error");
    });
    after(async () => {
      await market?.close();
      await model?.close();
    });

    it("is paid for what it delivered, when the requester has enough of waiting", async () => {
      const buyer = market.submit("Count for me", "--max-tokens", "500", "--json");
      const signedUsdc = await buyer.until(({ stderr }) => {
        const told = jsonLines(stderr);
        const bytes = told
          .filter(({ event }) => event === "text")
          .reduce((sum, line) => sum + Number(line.bytes), 0);
        return (
          bytes === WORDS.join("").length && told.findLast(({ event }) => event === "receipt")?.amountUsdc
        );
      });
      buyer.child.kill("SIGINT");
      const { exitCode, stderr } = await buyer.ended;
      expect(exitCode, stderr).to.equal(130);
      const { jobs } = await market.buyerJson("job", "list");
      const { jobId } = jobs[0];
      await worker.event("settled", jobId);
      const [booked] = bookedRequests(market.seller.home, jobId);
      expect(booked).to.include({ text: WORDS.join("") });
      expect(booked!.counts.completionTokens).to.equal(WORDS.length);
      const charge = chargeOf([booked!.counts], PRICE);
      const { claimed } = await market.view.getJobState(jobId);
      expect(claimed).to.equal(charge);
      expect(claimed <= baseUnits(signedUsdc)).to.equal(true);
      expect(await market.holdings()).to.deep.equal({ requester: ALLOWANCE - charge, payee: charge });
      expect(await market.buyerJson("job", "status", jobId)).to.include({ chargeUsdc: formatUsdc(charge) });
    });

    it("is paid nothing when it never comes back: after the deadline the deposit returns whole", async () => {
      const before = await market.holdings();
      const buyer = market.submit("Count for me again", "--max-tokens", "500");
      await buyer.until(({ stdout }) => stdout === WORDS.join(""));
      await worker.kill();
      buyer.child.kill("SIGINT");
      expect((await buyer.ended).exitCode).to.equal(130);
      const { jobs } = await market.buyerJson("job", "list");
      const early = await market.buyer.run(["job", "refund", jobs[0].jobId, "--json"]);
      expect(early.exitCode, "before the deadline").to.equal(4);
      expect((await market.holdings()).requester < before.requester).to.equal(true);
      await market.chain.increaseTime(3600);
      expect(await market.buyerJson("job", "refund", jobs[0].jobId)).to.include({ refunded: true });
      expect(await market.holdings()).to.deep.equal(before);
    });
  });

  describe("a requester that stops signing", () => {
    let answer: HandWrittenAnswer;
    before(async () => {
      answer = await asked;
    });

    it("is asked for more, then told that the receipt did not come, and given a signed delivery", () => {
      const [need, problem, delivery] = answer.words;
      expect(answer.words.map(({ type }) => type)).to.deep.equal(["need", "error", "delivery"]);
      expect(need).to.satisfy((word: typeof need) => word?.type === "need" && word.need > signed);
      expect(problem).to.have.nested.property("problem.code", "receipt-timeout");
      expect(delivery).to.have.nested.property("delivery.jobId", job.jobId);
    });

    it("gets every token that its receipt covers, and not one more", async () => {
      const { counts, text } = bookedRequests(impatient.seller.home, job.jobId)[0]!;
      expect(answer.text).to.equal(text);
      const cost = costMillionths(counts, PRICE);
      expect(cost <= signed * 1_000_000n).to.equal(true);
      expect(cost + OUTPUT_PRICE > signed * 1_000_000n, "the next token was not signed for").to.equal(true);
      const direct = await openEmbedded({ modelFile: tinyModelFile(), modelName: MODEL, threads: 1 });
      const said = await generate(direct, { ...body, max_tokens: counts.completionTokens });
      await direct.close();
      expect(answer.text).to.equal(said.text);
    });

    it("pays what was released and has the rest back", async () => {
      await impatientWorker.event("settled", job.jobId);
      const { counts } = bookedRequests(impatient.seller.home, job.jobId)[0]!;
      const charge = chargeOf([counts], PRICE);
      const { claimed, status } = await impatient.view.getJobState(job.jobId);
      expect({ claimed, status }).to.deep.equal({ claimed: charge, status: "closed" });
      expect((await impatient.holdings()).payee).to.equal(charge);
      expect(await impatient.view.getCredit(job.requester)).to.equal(deposit - charge);
    });
  });
});
