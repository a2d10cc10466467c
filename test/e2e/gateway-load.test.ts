// Sessions under load through the gateway: 20 requests at once and 200 in a row out of one job, and jobs that take turns.
import { expect } from "chai";
import type OpenAI from "openai";
import { costMillionths, roundCharge } from "../../protocol/price.ts";
import { type GatewayProcess, startGatewayProcess } from "../support/gateway-process.ts";
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
import { jsonLines } from "../support/watched-process.ts";

const ASKED = { model: MODEL, max_tokens: 16, temperature: 0 };

describe("the gateway under load", function () {
  this.timeout(120_000);
  let market: Market;
  let worker: Worker;
  /** What all answers so far cost by the formula over the counts that they show, in millionths. */
  let cost = 0n;

  before(async () => {
    market = await openMarket();
    worker = await market.startWorker("--log-level", "error");
    // A node that has not delivered yet would get a small session first.
    await market.buyerJson("config", "set", "requester.maxUsdcPerNewNode", "1");
  });
  after(() => market?.close());

  const ask = async ({ client }: GatewayProcess, index: number) => {
    const messages = [{ role: "user" as const, content: `tell the world of token ${index}` }];
    const answer = await client.chat.completions.create({ ...ASKED, messages });
    cost += costOf(answer.usage!);
    expect(answer.choices[0]!.message.content).not.to.equal("");
  };
  /** The jobs that the node has seen funded, from this one on. */
  const jobsSince = (first: number) =>
    jsonLines(worker.said.stdout)
      .filter(({ event }) => event === "jobFunded")
      .map(({ jobId }) => jobId)
      .slice(first);
  const stop = async (gateway: GatewayProcess) => {
    gateway.child.kill("SIGTERM");
    const { exitCode, stderr } = await gateway.ended;
    expect(exitCode, stderr).to.equal(0);
  };

  it("pays for 20 requests at once and 200 in a row out of one session", async () => {
    const gateway = await startGatewayProcess(market);
    await Promise.all(Array.from({ length: 20 }, (_, index) => ask(gateway, index)));
    for (let index = 0; index < 200; index += 1) await ask(gateway, index);
    const { port } = new URL(gateway.url);
    const { sessions } = await market.buyerJson("gateway", "status", "--port", port);
    expect(sessions).to.have.length(1);
    const [{ jobId, requests, chargedUsdc }] = sessions;
    expect({ requests, charged: baseUnits(chargedUsdc) }).to.deep.equal({
      ...{ requests: 220, charged: roundCharge(cost) },
    });
    await stop(gateway);
    const { claimedUsdc } = await worker.event("settled", jobId);
    expect(baseUnits(claimedUsdc)).to.equal(roundCharge(cost));
    const { requester, payee } = await market.holdings();
    expect({ payee, requester }).to.deep.equal({
      ...{ payee: roundCharge(cost), requester: ALLOWANCE - roundCharge(cost) },
    });
  });

  it("goes from one session to the next while requests run, and pays each token once", async () => {
    cost = 0n;
    const before = await market.holdings();
    const first = jobsSince(0).length;
    const gateway = await startGatewayProcess(market, "--session-usdc", "0.01");
    const lanes = Array.from({ length: 6 }, async (_, lane) => {
      for (let turn = 0; turn < 10; turn += 1) await ask(gateway, lane * 10 + turn);
    });
    await Promise.all(lanes);
    await stop(gateway);
    const jobs = jobsSince(first);
    expect(jobs.length).to.be.above(2);
    const settled = await Promise.all(jobs.map((jobId) => worker.event("settled", jobId)));
    const claimed = settled.reduce((sum, { claimedUsdc }) => sum + baseUnits(claimedUsdc), 0n);
    const after = await market.holdings();
    expect(after.payee - before.payee).to.equal(claimed);
    expect(before.requester - after.requester).to.equal(claimed);
    // Each session's charge is rounded up once.
    const exact = roundCharge(cost);
    expect(claimed >= exact && claimed < exact + BigInt(jobs.length)).to.equal(true);
  });
});

function costOf({ prompt_tokens, completion_tokens }: OpenAI.CompletionUsage): bigint {
  const counts = { promptTokens: prompt_tokens, completionTokens: completion_tokens };
  return costMillionths(counts, { inputPrice: INPUT_PRICE, outputPrice: OUTPUT_PRICE });
}
