// Tokens reach the requester while the model still works: the model says no next word before the last one was shown.
import { expect } from "chai";
import { type Market, MODEL, openMarket } from "../support/market.ts";
import { type ScriptedOpenAiServer, startScriptedOpenAiServer } from "../support/scripted-openai-server.ts";
import type { WatchedProcess } from "../support/watched-process.ts";

const WORDS = Array.from({ length: 8 }, (_, index) => `word${index} `);

describe("the order in which an answer is made and shown", function () {
  this.timeout(60_000);
  let model: ScriptedOpenAiServer;
  let market: Market;
  let buyer: WatchedProcess;
  const order: string[] = [];

  before(async () => {
    model = await startScriptedOpenAiServer(MODEL, async ({ say, finish }) => {
      for (const word of WORDS) {
        order.push(`made ${word}`);
        await say(word);
        await buyer.until(({ stdout }) => stdout.endsWith(word));
        order.push(`shown ${word}`);
      }
      order.push("finished");
      finish(5, WORDS.length);
    });
    market = await openMarket({ upstream: ["--upstream", "openai", "--upstream-url", model.url] });
    await market.startWorker("--log-level", "error");
  });
  after(async () => {
    await market?.close();
    await model?.close();
  });

  it("is word by word: each one is on the requester's screen before the model makes the next", async () => {
    buyer = market.submit("Count", "--max-tokens", "64", "--wait");
    const { exitCode, stdout, stderr } = await buyer.ended;
    expect(exitCode, stderr).to.equal(0);
    expect(stdout).to.equal(`${WORDS.join("")}\n`);
    expect(order).to.deep.equal([...WORDS.flatMap((word) => [`made ${word}`, `shown ${word}`]), "finished"]);
    const { jobs } = await market.buyerJson("job", "list");
    expect(jobs[0].delivery).to.include({ promptTokens: 5, completionTokens: WORDS.length });
  });
});
