// OpenAI's own client buys on a real market through the gateway: each part a process of its own, the model a real one.
import { expect } from "chai";
import OpenAI from "openai";
import { costMillionths } from "../../protocol/price.ts";
import { openEmbedded } from "../../provider/upstreams/embedded.ts";
import type { Upstream } from "../../provider/upstreams/upstream.ts";
import { type GatewayProcess, startGatewayProcess } from "../support/gateway-process.ts";
import { chatBody, generate } from "../support/generation.ts";
import {
  ALLOWANCE,
  baseUnits,
  EMBEDDED,
  INPUT_PRICE,
  type Market,
  MODEL,
  OUTPUT_PRICE,
  openMarket,
  type Worker,
} from "../support/market.ts";
import { tinyModelFile } from "../support/tiny-model.ts";

const PROMPT = "tell the world of tokens";
const MESSAGES = [{ role: "user" as const, content: PROMPT }];
const CHAT = { model: MODEL, messages: MESSAGES, max_tokens: 40, temperature: 0, seed: 1 };
const SCHEMA = {
  type: "object",
  properties: { mood: { type: "string", enum: ["good", "bad"] }, count: { type: "integer" } },
  required: ["mood", "count"],
  additionalProperties: false,
};
const TOOL = { type: "function" as const, function: { name: "set_mood", parameters: SCHEMA } };
const TWELVE_PLACES = 10n ** 12n;

describe("OpenAI's client on a real market", function () {
  this.timeout(60_000);
  let market: Market;
  let worker: Worker;
  let gateway: GatewayProcess;
  let client: OpenAI;
  let direct: Upstream;

  before(async () => {
    [market, direct] = await Promise.all([
      openMarket({ upstream: [...EMBEDDED, "--embeddings"] }),
      openEmbedded({ modelFile: tinyModelFile(), modelName: MODEL, threads: 1 }),
    ]);
    worker = await market.startWorker("--log-level", "error", "--capacity", "32");
    gateway = await startGatewayProcess(market, "--model-alias", `gpt-4o=${MODEL}`, "--at-exit", "keep");
    client = gateway.client;
  });
  after(async () => {
    await direct?.close();
    await market?.close();
  });

  const costOf = ({
    prompt_tokens,
    completion_tokens = 0,
  }: {
    prompt_tokens: number;
    completion_tokens?: number;
  }) =>
    costMillionths(
      { promptTokens: prompt_tokens, completionTokens: completion_tokens },
      { inputPrice: INPUT_PRICE, outputPrice: OUTPUT_PRICE },
    );
  const chargeIn = (response: Response) => {
    const [whole, places] = response.headers.get("x-infernet-charge")!.split(".");
    return BigInt(whole!) * TWELVE_PLACES + BigInt(places!);
  };

  it("streams what the model says when asked directly, and counts when asked to", async () => {
    const expected = await generate(
      direct,
      chatBody(MODEL, PROMPT, { max_tokens: 40, temperature: 0, seed: 1 }),
    );
    const { data, response } = await client.chat.completions
      .create({ ...CHAT, stream: true, stream_options: { include_usage: true } })
      .withResponse();
    let text = "";
    let usage: OpenAI.CompletionUsage | null | undefined;
    for await (const chunk of data) {
      text += chunk.choices[0]?.delta.content ?? "";
      usage = chunk.usage;
    }
    expect(text).to.equal(expected.text);
    expect(usage!.completion_tokens).to.be.within(1, 40);
    expect(response.headers.get("x-infernet-node")).to.equal(market.node);
  });

  it("gets one object, charged by the formula over the counts that it shows", async () => {
    const { data, response } = await client.chat.completions.create(CHAT).withResponse();
    const expected = await generate(
      direct,
      chatBody(MODEL, PROMPT, { max_tokens: 40, temperature: 0, seed: 1 }),
    );
    expect(data.choices[0]!.message.content).to.equal(expected.text);
    expect(response.headers.get("x-infernet-node")).to.equal(market.node);
    expect(chargeIn(response)).to.equal(costOf(data.usage!));
  });

  it("has a function called with arguments that the grammar holds to its schema", async () => {
    const { choices } = await client.chat.completions.create({
      ...{ ...CHAT, max_tokens: 200, tools: [TOOL] },
      tool_choice: { type: "function", function: { name: "set_mood" } },
    });
    const [call] = choices[0]!.message.tool_calls!;
    if (call?.type !== "function") return expect.fail("no function was called");
    expect(call.function.name).to.equal("set_mood");
    const args = JSON.parse(call.function.arguments);
    expect(args.mood).to.be.oneOf(["good", "bad"]);
    expect(Number.isInteger(args.count)).to.equal(true);
  });

  it("gets JSON of a schema, streamed, by chat and by Responses", async () => {
    const json_schema = { name: "mood", schema: SCHEMA, strict: true };
    const stream = await client.chat.completions.create({
      ...{ ...CHAT, max_tokens: 200, stream: true, response_format: { type: "json_schema", json_schema } },
    });
    let text = "";
    for await (const chunk of stream) text += chunk.choices[0]?.delta.content ?? "";
    expect(JSON.parse(text)).to.have.all.keys("mood", "count");
    const response = await client.responses.create({
      ...{ model: MODEL, input: PROMPT, max_output_tokens: 200, temperature: 0 },
      text: { format: { type: "json_schema", name: "mood", schema: SCHEMA } },
    });
    expect(JSON.parse(response.output_text)).to.have.all.keys("mood", "count");
  });

  it("streams a Response that its own helper puts together", async () => {
    const input = [{ role: "user" as const, content: PROMPT }];
    const stream = client.responses.stream({ model: MODEL, input, max_output_tokens: 12, temperature: 0 });
    let text = "";
    for await (const event of stream) if (event.type === "response.output_text.delta") text += event.delta;
    const response = await stream.finalResponse();
    expect(response.output_text).to.equal(text).and.not.to.equal("");
    expect(response.usage!.output_tokens).to.be.within(1, 12);
  });

  it("completes a prompt, and gets embeddings", async () => {
    const { choices, usage } = await client.completions.create({
      model: MODEL,
      prompt: PROMPT,
      max_tokens: 5,
    });
    expect(choices[0]!.text).not.to.equal("");
    expect(usage!.completion_tokens).to.be.within(1, 5);
    const { data, response } = await client.embeddings
      .create({ model: MODEL, input: ["one", "two"] })
      .withResponse();
    expect(data.data).to.have.length(2);
    expect(data.data[0]!.embedding.length).to.equal(data.data[1]!.embedding.length).and.above(0);
    expect(data.data.flatMap(({ embedding }) => embedding).every(Number.isFinite)).to.equal(true);
    expect(chargeIn(response)).to.equal(costOf(data.usage));
  });

  it("lists what is sold, and asks by alias and for the cheapest", async () => {
    const models = (await client.models.list()).data.map(({ id }) => id);
    expect(models).to.deep.equal([MODEL, "gpt-4o", "auto:cheap", "auto:fast"]);
    for (const model of ["gpt-4o", "auto:cheap", "auto:fast"]) {
      const answer = await client.chat.completions.create({ ...CHAT, model, max_tokens: 3 });
      expect(answer.model).to.equal(MODEL);
    }
  });

  it("meets errors as the classes that it knows", async () => {
    const failures: [() => Promise<unknown>, new (...args: never[]) => Error, number][] = [
      [() => client.chat.completions.create({ ...CHAT, n: 2 }), OpenAI.BadRequestError, 400],
      [() => client.chat.completions.create({ ...CHAT, max_tokens: 1_000_000 }), OpenAI.BadRequestError, 400],
      [
        () => client.chat.completions.create({ ...CHAT, model: "nobody-sells-this" }),
        OpenAI.NotFoundError,
        404,
      ],
      [() => client.models.retrieve("nobody/sells:this"), OpenAI.NotFoundError, 404],
    ];
    for (const [ask, kind, status] of failures) {
      const error = await ask().then(
        () => undefined,
        (caught: unknown) => caught,
      );
      expect(error).to.be.instanceOf(kind);
      expect(error).to.include({ status });
    }
  });

  it("asks twenty times at once", async () => {
    const prompts = Array.from({ length: 20 }, (_, index) => `${PROMPT} (${index})`);
    const answers = await Promise.all(
      prompts.map((content) =>
        client.chat.completions.create({ ...CHAT, max_tokens: 8, messages: [{ role: "user", content }] }),
      ),
    );
    expect(answers.every(({ usage }) => usage!.completion_tokens > 0)).to.equal(true);
  });

  it("paid out of one session, which the status shows, and which the next gateway goes on with", async () => {
    const { port } = new URL(gateway.url);
    const second = market.watch("buyer", ["gateway", "--port", port]);
    expect((await second.ended).exitCode, second.said.stderr).to.equal(8);
    const status = await market.buyerJson("gateway", "status", "--port", port);
    expect(status.requests).to.deep.include({ running: 0, served: gateway.events("served").length });
    expect(status.sessions).to.have.length(1);
    expect(status.sessions[0]).to.include({ node: market.node, model: MODEL, state: "open", active: 0 });
    expect(status.routes[0]).to.include({ node: market.node, model: MODEL, dropped: null });
    await stop();
    const [stopped] = gateway.events("stopped");
    expect(stopped).to.include({ closed: 0, lockedUsdc: status.lockedUsdc, returnsAt: status.returnsAt });
    gateway = await startGatewayProcess(market, "--at-exit", "keep");
    await gateway.client.chat.completions.create({ ...CHAT, max_tokens: 3 });
    expect(gateway.events("sessionOpened")).to.deep.equal([]);
  });

  it("leaves in mid-stream, pays for what the node had released, and asks the next at once", async () => {
    const stream = await gateway.client.chat.completions.create({ ...CHAT, max_tokens: 1000, stream: true });
    for await (const _chunk of stream) break;
    const failed = await gateway.event("failed", ({ code }) => code === "interrupted");
    const all = costOf({ prompt_tokens: 100, completion_tokens: 1000 }) / 1_000_000n;
    expect(baseUnits(failed.chargeUsdc) < all).to.equal(true);
    for (let index = 0; index < 3; index += 1) {
      const next = await gateway.client.chat.completions.create({ ...CHAT, max_tokens: 1000, stream: true });
      for await (const _chunk of next) break;
    }
    const answer = await gateway.client.chat.completions.create({ ...CHAT, max_tokens: 3 });
    expect(answer.usage!.completion_tokens).to.be.within(1, 3);
  });

  it("is answered at once by the next gateway, too, while the node still counts for what was left", async () => {
    await stop();
    gateway = await startGatewayProcess(market);
    const answer = await gateway.client.chat.completions.create({ ...CHAT, max_tokens: 3 });
    expect(answer.usage!.completion_tokens).to.be.within(1, 3);
  });

  it("gets what is left at the end, to the base unit", async () => {
    const { sessions } = await market.buyerJson("gateway", "status", "--port", new URL(gateway.url).port);
    await stop();
    expect(gateway.events("stopped")[0]).to.include({ closed: sessions.length });
    const settled = await Promise.all(
      sessions.map(({ jobId }: { jobId: string }) => worker.event("settled", jobId)),
    );
    const claimed = settled.reduce((sum, { claimedUsdc }) => sum + baseUnits(claimedUsdc), 0n);
    const after = await market.holdings();
    expect(after.payee).to.equal(claimed);
    expect(ALLOWANCE - after.requester).to.equal(claimed);
  });

  async function stop(): Promise<void> {
    gateway.child.kill("SIGTERM");
    const { exitCode, stderr } = await gateway.ended;
    expect(exitCode, stderr).to.equal(0);
  }
});
