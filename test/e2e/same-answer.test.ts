// What is bought is what the model says: the same text as from the same model, asked directly in this process.
import { expect } from "chai";
import { openEmbedded } from "../../provider/upstreams/embedded.ts";
import type { Upstream } from "../../provider/upstreams/upstream.ts";
import { chatBody, generate } from "../support/generation.ts";
import { type Market, MODEL, openMarket } from "../support/market.ts";
import { tinyModelFile } from "../support/tiny-model.ts";

const PROMPT = "tell the world of tokens — and of the 漢 price";

describe("an answer that is bought", function () {
  this.timeout(60_000);
  let market: Market;
  let direct: Upstream;

  before(async () => {
    [market, direct] = await Promise.all([
      openMarket(),
      openEmbedded({ modelFile: tinyModelFile(), modelName: MODEL, threads: 1 }),
    ]);
    await market.startWorker("--log-level", "error");
  });
  after(async () => {
    await direct?.close();
    await market?.close();
  });

  for (const [temperature, seed] of [
    [0, 1],
    [0.8, 7],
    [1.5, 2_147_483_647],
  ] as const) {
    it(`equals what the model says when asked directly, at temperature ${temperature} and seed ${seed}`, async () => {
      const sampling = { max_tokens: 100, temperature, seed };
      const expected = await generate(direct, chatBody(MODEL, PROMPT, sampling));
      const flags = ["--max-tokens", "100", "--temperature", String(temperature), "--seed", String(seed)];
      const { exitCode, stdout, stderr } = await market.submit(PROMPT, ...flags).ended;
      expect(exitCode, stderr).to.equal(0);
      expect(stdout).to.equal(expected.text.endsWith("\n") ? expected.text : `${expected.text}\n`);
      expect(expected.chunkTokens).to.be.above(64, "it took more than one chunk");
    });
  }
});
