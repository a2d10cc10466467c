// Clients that know nothing of Infernet buy through the gateway: the Vercel AI SDK and curl, each as it comes.
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { embedMany, generateText, jsonSchema, Output, streamText, tool } from "ai";
import { expect } from "chai";
import { openEmbedded } from "../../provider/upstreams/embedded.ts";
import { type GatewayProcess, startGatewayProcess } from "../support/gateway-process.ts";
import { chatBody, generate } from "../support/generation.ts";
import { EMBEDDED, type Market, MODEL, openMarket } from "../support/market.ts";
import { tinyModelFile } from "../support/tiny-model.ts";

const run = promisify(execFile);
const PROMPT = "tell the world of tokens";
const SAMPLING = { temperature: 0, seed: 1 };
const SCHEMA = {
  type: "object" as const,
  properties: {
    mood: { type: "string" as const, enum: ["good", "bad"] },
    count: { type: "integer" as const },
  },
  required: ["mood", "count"],
  additionalProperties: false,
};

describe("clients that know nothing of Infernet", function () {
  this.timeout(60_000);
  let market: Market;
  let gateway: GatewayProcess;
  /** What the model says when it is asked directly. */
  let expected: string;

  before(async () => {
    const direct = await openEmbedded({ modelFile: tinyModelFile(), modelName: MODEL, threads: 1 });
    try {
      expected = (await generate(direct, chatBody(MODEL, PROMPT, { max_tokens: 40, ...SAMPLING }))).text;
    } finally {
      await direct.close();
    }
    market = await openMarket({ upstream: [...EMBEDDED, "--embeddings"] });
    await market.startWorker("--log-level", "error");
    gateway = await startGatewayProcess(market);
  });
  after(() => market?.close());

  describe("the Vercel AI SDK", () => {
    const provider = () =>
      createOpenAICompatible({
        ...{ name: "infernet", baseURL: `${gateway.url}/v1` },
        ...{ includeUsage: true, supportsStructuredOutputs: true },
      });
    const request = () => ({
      ...{ model: provider().chatModel(MODEL), prompt: PROMPT, ...SAMPLING },
      maxRetries: 0,
    });

    it("streams what the model says when asked directly, with the counts", async () => {
      const { textStream, usage, finishReason } = streamText({ ...request(), maxOutputTokens: 40 });
      let text = "";
      for await (const piece of textStream) text += piece;
      expect(text).to.equal(expected);
      expect(await finishReason).to.be.oneOf(["length", "stop"]);
      expect((await usage).outputTokens).to.be.within(1, 40);
    });

    it("gets a whole text", async () => {
      expect((await generateText({ ...request(), maxOutputTokens: 40 })).text).to.equal(expected);
    });

    it("has a tool called with arguments that fit its schema", async () => {
      const { toolCalls } = await generateText({
        ...{ ...request(), maxOutputTokens: 200 },
        tools: { setMood: tool({ description: "Sets the mood", inputSchema: jsonSchema(SCHEMA) }) },
        toolChoice: { type: "tool", toolName: "setMood" },
      });
      expect(toolCalls).to.have.length(1);
      expect(toolCalls[0]!.toolName).to.equal("setMood");
      expect(toolCalls[0]!.input).to.have.all.keys("mood", "count");
    });

    it("gets an object of a schema", async () => {
      const { output } = await generateText({
        ...{ ...request(), maxOutputTokens: 200 },
        output: Output.object({ schema: jsonSchema<{ mood: string; count: number }>(SCHEMA) }),
      });
      expect(output.mood).to.be.oneOf(["good", "bad"]);
      expect(Number.isInteger(output.count)).to.equal(true);
    });

    it("gets embeddings", async () => {
      const model = provider().embeddingModel(MODEL);
      const { embeddings, usage } = await embedMany({ model, values: ["one", "two"], maxRetries: 0 });
      expect(embeddings).to.have.length(2);
      expect(embeddings[0]!.length).to.equal(embeddings[1]!.length).and.above(0);
      expect(usage.tokens).to.be.above(0);
    });
  });

  describe("curl", () => {
    const curl = async (path: string, ...args: string[]) =>
      (await run("curl", ["--silent", "--show-error", "--max-time", "30", ...args, gateway.url + path]))
        .stdout;
    const post = (path: string, body: object, ...args: string[]) =>
      curl(path, ...args, "-H", "content-type: application/json", "-d", JSON.stringify(body));
    const chat = {
      ...{ model: MODEL, messages: [{ role: "user", content: PROMPT }], max_tokens: 40 },
      ...SAMPLING,
    };

    it("streams events that end with [DONE]", async () => {
      const events = (await post("/v1/chat/completions", { ...chat, stream: true }, "--no-buffer"))
        .split("\n\n")
        .flatMap((event) => (event.startsWith("data: ") ? [event.slice("data: ".length)] : []));
      expect(events.pop()).to.equal("[DONE]");
      const said = events.map((event) => JSON.parse(event).choices[0]?.delta?.content ?? "");
      expect(said.join("")).to.equal(expected);
    });

    it("gets one body, with node and charge in its headers", async () => {
      const answer = await post("/v1/chat/completions", chat, "--include");
      const [head, body] = answer.split("\r\n\r\n") as [string, string];
      expect(head).to.match(/^HTTP\/1\.1 200/);
      expect(head.toLowerCase()).to.contain(`x-infernet-node: ${market.node}`);
      expect(head).to.match(/^x-infernet-charge: 0\.\d+\r?$/im);
      expect(JSON.parse(body).choices[0].message.content).to.equal(expected);
    });

    it("lists the models", async () => {
      const { data } = JSON.parse(await curl("/v1/models"));
      expect(data.map(({ id }: { id: string }) => id)).to.include(MODEL);
    });

    it("is told what is wrong, in the API's own shape, before anything is paid", async () => {
      const before = await curl("/infernet/status");
      const { error } = JSON.parse(await post("/v1/chat/completions", { ...chat, n: 3 }));
      expect(error).to.include.keys("message", "type", "code");
      expect(JSON.parse(await curl("/infernet/status")).spending).to.deep.equal(JSON.parse(before).spending);
    });
  });
});
