// A line that breaks again and again costs nothing: the answer goes on after the last event that came, and runs once.
import { expect } from "chai";
import { openEmbedded } from "../../provider/upstreams/embedded.ts";
import type { Upstream } from "../../provider/upstreams/upstream.ts";
import { freePort } from "../../tools/demo/processes.ts";
import { type CuttingProxy, startCuttingProxy } from "../support/cutting-proxy.ts";
import { type Market, MODEL, openMarket } from "../support/market.ts";
import { type OpenAiServer, startOpenAiServer } from "../support/openai-server.ts";
import { createRandom } from "../support/random.ts";
import { tinyModelFile } from "../support/tiny-model.ts";

const SEED = 4;
/** Few enough that even cuts of which none lets an event through are over before a requester's patience is. */
const CUTS = 5;
/** Five such cuts are fewer bytes than an answer of 400 tokens has. They fall into handshakes and into its middle. */
const MOST_BYTES_A_CUT = 12_000;
const ASKED = ["--max-tokens", "400", "--temperature", "0", "--seed", "1", "--json", "--wait"];

describe(`a line that breaks ${CUTS} times in one answer (seed ${SEED})`, function () {
  this.timeout(120_000);
  let model: Upstream;
  let server: OpenAiServer;
  let market: Market;
  let proxy: CuttingProxy;
  // biome-ignore lint/suspicious/noExplicitAny: bills as JSON carries them.
  let whole: Record<string, any>;
  // biome-ignore lint/suspicious/noExplicitAny: as above.
  let broken: Record<string, any>;

  before(async () => {
    model = await openEmbedded({ modelFile: tinyModelFile(), modelName: MODEL, threads: 1 });
    server = await startOpenAiServer(model);
    const workerPort = await freePort();
    market = await openMarket({
      upstream: ["--upstream", "openai", "--upstream-url", server.url],
      workerPort,
    });
    proxy = await startCuttingProxy(Number(new URL(market.endpoint).port), workerPort);
    await market.startWorker("--log-level", "error");
    whole = await ask(() => {});
    const random = createRandom(SEED);
    const byteCounts = Array.from({ length: CUTS }, () => 1 + random.below(MOST_BYTES_A_CUT));
    broken = await ask(() => proxy.cutAfter(byteCounts));
  });
  after(async () => {
    await market?.close();
    await proxy?.close();
    await server?.close();
    await model?.close();
  });

  /** Buys the same answer; `onOpened` is called when its job is open and nothing is asked yet. */
  async function ask(onOpened: () => void) {
    const buyer = market.submit("tell a long story of the world", ...ASKED);
    await buyer.until(({ stderr }) => stderr.includes('"event":"opened"'));
    onOpened();
    const { exitCode, stdout, stderr } = await buyer.ended;
    expect(exitCode, stderr).to.equal(0);
    return JSON.parse(stdout);
  }

  it("broke as often as it should", () => {
    expect(proxy.cuts).to.equal(CUTS);
  });

  it("brings the same answer at the same charge as a line that holds", () => {
    // An event that comes twice or is missing would have ended the answer with node-misbehaved.
    for (const figure of [
      "text",
      "promptTokens",
      "completionTokens",
      "chargeUsdc",
      "finishReason",
      "estimated",
    ])
      expect(broken[figure], figure).to.equal(whole[figure]);
    expect(broken.settled.chargeUsdc).to.equal(whole.chargeUsdc);
  });

  it("lets the model run once for each answer", () => {
    expect(broken.jobId).not.to.equal(whole.jobId);
    expect(server.requests).to.have.length(2);
    expect(server.abandoned).to.equal(0);
  });
});
