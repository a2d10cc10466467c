// Money for a real model in a real container: the answer and its counts are Ollama's own, and when the container dies or
// loses the model, what was delivered is paid, nothing more, and the node says at once what it has to sell.
import { expect } from "chai";
import { Agent, request } from "undici";
import { parseServedOffer } from "../../protocol/offer.ts";
import { chargeOf } from "../../protocol/price.ts";
import { fetchDemoModel } from "../../tools/demo/model.ts";
import { type DockerGround, standOnDocker } from "../support/docker-ground.ts";
import { fillVolume, inspectContainer } from "../support/docker-ollama.ts";
import {
  baseUnits,
  INPUT_PRICE,
  type Market,
  OUTPUT_PRICE,
  openMarket,
  type Worker,
} from "../support/market.ts";
import { CHATML_TEMPLATE, callOllama } from "../support/ollama-model.ts";
import { bookedRequests } from "../support/seller-book.ts";
import { jsonLines } from "../support/watched-process.ts";

const NAME = "infernet-test-trader";
const MODEL = "smollm2";
const QUESTION = "What is the capital of France?";
const LONG_QUESTION = "Tell me a very long story about a bridge, a river and a bear.";
const SAMPLING = { temperature: 0, seed: 7 };
const SAMPLING_FLAGS = ["--temperature", "0", "--seed", "7"];
/** From what happens to Ollama until the node tells it. */
const SECONDS = 10;

describe("a paid job through a real model in a real container", function () {
  this.timeout(60_000);
  let ground: DockerGround;
  let market: Market;
  let worker: Worker;
  let url: string;
  const dispatcher = new Agent({ connect: { rejectUnauthorized: false } });

  before(async function () {
    this.timeout(900_000);
    ground = await standOnDocker(this);
    const file = await fetchDemoModel((line) => console.log(`  ${line}`));
    await fillVolume(ground, NAME, [
      { name: MODEL, file, template: CHATML_TEMPLATE, parameters: { num_thread: 1 } },
    ]);
    market = await openMarket({
      model: MODEL,
      upstream: ["--docker", "--image", ground.ollamaImage, "--container", NAME],
      sellerEnv: { DOCKER_HOST: ground.engine.host },
    });
    worker = await market.startWorker("--log-level", "error");
    const { HostPort } = (await inspectContainer(ground, NAME))!.HostConfig.PortBindings["11434/tcp"][0];
    url = `http://127.0.0.1:${HostPort}`;
  });
  after(async () => {
    await dispatcher.destroy();
    await market?.close();
    if (!ground) return;
    await ground.engine.docker(["rm", "--force", NAME]);
    await ground.engine.docker(["volume", "rm", "--force", NAME]);
  });

  /** Asks Ollama itself, past the node. */
  async function askDirectly(content: string, tokens: number) {
    const messages = [{ role: "user", content }];
    const body = { model: MODEL, stream: false, messages, options: { ...SAMPLING, num_predict: tokens } };
    const { message, prompt_eval_count, eval_count } = JSON.parse(
      await callOllama(url, "/api/chat", JSON.stringify(body)),
    );
    return { text: message.content, promptTokens: prompt_eval_count, completionTokens: eval_count };
  }

  const submit = (prompt: string, tokens: number, ...flags: string[]) =>
    market.submit(prompt, ...SAMPLING_FLAGS, "--max-tokens", String(tokens), ...flags);
  const priceOf = (counts: { promptTokens: number; completionTokens: number }) =>
    chargeOf([counts], { inputPrice: INPUT_PRICE, outputPrice: OUTPUT_PRICE });

  /** Resolves with the seconds from `since` until the light is what it should be; it is told as it changes. */
  async function lightTurns(live: boolean, since: number): Promise<number> {
    await worker.until(({ stdout }) => {
      const changes = jsonLines(stdout).filter(({ event }) => event === "live" || event === "notLive");
      return changes.at(-1)?.event === (live ? "live" : "notLive");
    });
    return (Date.now() - since) / 1000;
  }

  async function offered(): Promise<{ status: number; models: string[]; capacity: number }> {
    const health = await request(`${market.endpoint}/healthz`, { dispatcher });
    await health.body.dump();
    const served = await request(`${market.endpoint}/.well-known/infernet`, { dispatcher });
    const { offer } = parseServedOffer(await served.body.text());
    return {
      status: health.statusCode,
      models: offer.models.map(({ name }) => name),
      capacity: offer.capacity,
    };
  }

  /** Nobody sells the model now: said before anything is paid. */
  async function expectRefusal(): Promise<void> {
    const { exitCode, stderr } = await submit(QUESTION, 8, "--json").ended;
    const { error } = jsonLines(stderr).at(-1) as { error: Record<string, string> };
    expect(error).to.include({ code: "upstream-unreachable" });
    expect(exitCode).to.equal(6);
    expect(error.hint).to.not.equal(undefined);
    expect(stderr).to.not.contain("opened");
  }

  it("delivers the text and the counts that Ollama gives when it is asked directly", async () => {
    for (const [prompt, tokens] of [
      [QUESTION, 24],
      [LONG_QUESTION, 48],
    ] as const) {
      const { exitCode, stdout, stderr } = await submit(prompt, tokens, "--json", "--wait").ended;
      expect(exitCode, stderr).to.equal(0);
      const { text, promptTokens, completionTokens, estimated, chargeUsdc, settled } = JSON.parse(stdout);
      const own = await askDirectly(prompt, tokens);
      expect({ text, promptTokens, completionTokens, estimated }).to.deep.equal({ ...own, estimated: false });
      expect(baseUnits(chargeUsdc)).to.equal(priceOf(own));
      expect(settled.chargeUsdc).to.equal(chargeUsdc);
    }
  });

  it("charges what was released when the container is killed in mid-stream, and says that nothing is left to sell", async () => {
    const before = await market.holdings();
    const buyer = submit(LONG_QUESTION, 400, "--wait");
    await buyer.until(({ stdout }) => stdout.length > 200);
    const killedAt = Date.now();
    await ground.engine.docker(["kill", NAME]);
    const { exitCode, stdout, stderr } = await buyer.ended;
    expect(exitCode).to.equal(6);
    expect(stderr).to.match(/^error: /m);
    const [{ jobId }] = (await market.buyerJson("job", "list")).jobs;
    await worker.event("settled", jobId);
    const [booked] = bookedRequests(market.seller.home, jobId);
    expect(booked!.counts.completionTokens).to.be.within(20, 399);
    expect(booked!.text.trimEnd()).to.equal(stdout.trimEnd());
    const charge = priceOf(booked!.counts);
    const after = await market.holdings();
    expect(after).to.deep.equal({ requester: before.requester - charge, payee: before.payee + charge });
    expect(await lightTurns(false, killedAt)).to.be.lessThan(SECONDS);
    expect(await offered()).to.deep.equal({ status: 503, models: [], capacity: 0 });
    await expectRefusal();
    expect(await market.holdings()).to.deep.equal(after);
  });

  it("sells again when the container is back", async () => {
    const startedAt = Date.now();
    await ground.engine.docker(["start", NAME]);
    expect(await lightTurns(true, startedAt)).to.be.lessThan(SECONDS);
    expect(await offered()).to.deep.include({ status: 200, models: [MODEL] });
    expect((await submit(QUESTION, 24, "--json").ended).stdout).to.contain("Paris");
  });

  it("stops offering a model that was removed, and refuses what asks for it", async () => {
    const removedAt = Date.now();
    await callOllama(url, "/api/delete", JSON.stringify({ model: MODEL }), "DELETE");
    expect(await lightTurns(false, removedAt)).to.be.lessThan(SECONDS);
    expect(await offered()).to.deep.include({ status: 503, models: [] });
    await expectRefusal();
  });
});
