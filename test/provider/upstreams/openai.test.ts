import { inspect } from "node:util";
import { expect } from "chai";
import OpenAI from "openai";
import { ZERO_WORD } from "../../../protocol/bytes.ts";
import { openEmbedded } from "../../../provider/upstreams/embedded.ts";
import { openOpenAi } from "../../../provider/upstreams/openai.ts";
import type { Upstream } from "../../../provider/upstreams/upstream.ts";
import { type OPENAI_FAULTS, startFaultyOpenAiServer } from "../../support/faulty-openai-server.ts";
import { COMPLETION_PATH, chatBody, generate, type Outcome, rejectionOf } from "../../support/generation.ts";
import { answerJson, startLoopbackServer } from "../../support/loopback-server.ts";
import { type OpenAiServer, startOpenAiServer } from "../../support/openai-server.ts";
import { tinyModelFile } from "../../support/tiny-model.ts";

const ALL_BUT_CONTINUE = ["chat", "completions", "embeddings", "tools", "json", "images"];
const API_KEY = "sk-canary-0123456789";

describe("the OpenAI-compatible upstream", () => {
  let model: Upstream;
  let server: OpenAiServer;
  let upstream: Upstream;

  before(async () => {
    model = await openEmbedded({
      modelFile: tinyModelFile(),
      modelName: "tiny",
      threads: 1,
      contextLength: 512,
    });
    server = await startOpenAiServer(model, { apiKey: API_KEY });
    upstream = openOpenAi({ url: server.url, apiKey: API_KEY });
  });

  after(async () => {
    await upstream.close();
    await server.close();
    await model.close();
  });

  it("says the same as the model behind the server, with the server's own counts", async () => {
    const body = chatBody("tiny", "hello wörld", { max_tokens: 30, temperature: 0.5, seed: 4, stop: ["!!"] });
    const direct = await generate(model, body);
    const through = await generate(upstream, { ...body, stream: false });
    const compared = ({ text, finishReason, usage, chunkTokens }: Outcome) => ({
      text,
      finishReason,
      usage,
      chunkTokens,
    });
    expect(compared(through)).to.deep.equal(compared(direct));
    expect(through.usage?.final).to.equal(true);
  });

  it("passes completions through as well", async () => {
    const body = { model: "tiny", prompt: "hello", max_tokens: 12, temperature: 0 };
    const direct = await generate(model, body, { path: COMPLETION_PATH });
    const through = await generate(upstream, body, { path: COMPLETION_PATH });
    expect(through.text).to.equal(direct.text);
    expect(through.usage).to.deep.equal(direct.usage);
  });

  it("asks for a stream with usage whatever the request says, and passes on members that it does not know", async () => {
    await generate(upstream, chatBody("tiny", "hello", { max_tokens: 1, stream: false, mirostat: 2 }));
    expect(server.requests.at(-1)).to.deep.include({
      stream: true,
      stream_options: { include_usage: true },
      mirostat: 2,
    });
  });

  it("leaves out of its pieces what the node writes itself", async () => {
    const { events } = await generate(upstream, chatBody("tiny", "hello", { max_tokens: 2 }));
    for (const event of events) {
      if (event.type === "chunk") expect(event.chunk).to.have.all.keys("choices");
    }
  });

  it("counts one token a delta where the server tells no usage", async () => {
    const silent = await startOpenAiServer(model, { usage: "never" });
    const through = openOpenAi({ url: `${silent.url}/v1/` });
    const { usage, chunkTokens } = await generate(
      through,
      { model: "tiny", prompt: "hello", max_tokens: 20, temperature: 0 },
      { path: COMPLETION_PATH },
    );
    expect(usage).to.equal(undefined);
    expect(chunkTokens).to.be.within(15, 20);
    await through.close();
    await silent.close();
  });

  it("passes running usage on while the answer streams", async () => {
    const vllm = await startOpenAiServer(model, { usage: "running" });
    const through = openOpenAi({ url: vllm.url });
    const body = { model: "tiny", prompt: "hello", max_tokens: 10, temperature: 0 };
    const { events, usage } = await generate(through, body, { path: COMPLETION_PATH });
    const running = events
      .filter((event) => event.type === "usage")
      .map(({ completionTokens }) => completionTokens);
    expect(running).to.deep.equal(running.toSorted((one, other) => one - other));
    expect(running.length).to.be.greaterThan(8);
    expect(usage).to.deep.include({ completionTokens: 10, final: true });
    await through.close();
    await vllm.close();
  });

  it("lists models with their context lengths and no digest", async () => {
    expect(await upstream.listModels()).to.deep.equal([
      { name: "tiny", digest: ZERO_WORD, contextLength: 512, features: ALL_BUT_CONTINUE },
    ]);
    const other = openOpenAi({ url: server.url, apiKey: API_KEY, modelName: "other" });
    expect(await other.listModels()).to.deep.equal([]);
    await other.close();
  });

  it("promises of its models what the settings say", async () => {
    const told = openOpenAi({ url: server.url, apiKey: API_KEY, features: ["chat", "continue"] });
    expect((await told.listModels())[0]?.features).to.deep.equal(["chat", "continue"]);
    await told.close();
  });

  it("takes the context length from wherever servers put it, else from its settings", async () => {
    const data = [
      { id: "a", context_length: 1 },
      { id: "b", meta: { n_ctx: 2 } },
      { id: "c", n_ctx: 3, meta: null },
      { id: "d", max_model_len: "?" },
    ];
    const lister = await startLoopbackServer((_request, response) => answerJson(response, { data }));
    const through = openOpenAi({ url: lister.url, contextLength: 9 });
    expect((await through.listModels()).map(({ contextLength }) => contextLength)).to.deep.equal([
      1, 2, 3, 9,
    ]);
    await through.close();
    await lister.close();
  });

  it("ends the server's work when told to stop, and throws the reason", async () => {
    const controller = new AbortController();
    const before = server.abandoned;
    const onEvent = () => controller.abort(new Error("enough"));
    const run = generate(upstream, chatBody("tiny", "hello", { max_tokens: 400 }), {
      signal: controller.signal,
      onEvent,
    });
    expect(await rejectionOf(run)).to.have.property("message", "enough");
    await generate(upstream, chatBody("tiny", "hello", { max_tokens: 1 }));
    await generate(upstream, chatBody("tiny", "hello", { max_tokens: 1 }));
    expect(server.abandoned).to.equal(before + 1);
  });

  it("makes embeddings with their counts", async () => {
    const data = [{ object: "embedding", index: 0, embedding: [0.5] }];
    const embedder = await startLoopbackServer((_request, response) =>
      answerJson(response, { data, usage: { prompt_tokens: 7, total_tokens: 7 } }),
    );
    const through = openOpenAi({ url: embedder.url });
    const { events } = await generate(through, { model: "m", input: "a" }, { path: "/v1/embeddings" });
    expect(events).to.deep.equal([
      { type: "chunk", chunk: { data }, tokens: 0 },
      { type: "usage", promptTokens: 7, completionTokens: 0, final: true },
    ]);
    await through.close();
    await embedder.close();
  });

  it("is tested against a server that OpenAI's own client takes for its own", async () => {
    const client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: API_KEY });
    const answer = await client.chat.completions.create({
      model: "tiny",
      messages: [{ role: "user", content: "hello" }],
      max_tokens: 5,
    });
    expect(answer.usage?.completion_tokens).to.be.at.most(5);
    expect(answer.choices[0]?.message.content).to.be.a("string");
  });
});

describe("the OpenAI-compatible upstream, when the server fails", () => {
  const expected: Record<keyof typeof OPENAI_FAULTS, string> = {
    "refuses with 400": "bad-request",
    "does not know the model": "model-not-found",
    "is overloaded": "node-busy",
    "breaks the connection": "upstream-failed",
    "ends without a last piece": "upstream-failed",
    "sends an error piece": "upstream-failed",
    "sends what is not JSON": "upstream-failed",
    "counts in fractions": "upstream-failed",
    "falls silent": "upstream-timeout",
  };

  for (const [fault, code] of Object.entries(expected) as [keyof typeof OPENAI_FAULTS, string][]) {
    it(`throws ${code} when it ${fault}, after what came before`, async () => {
      const server = await startFaultyOpenAiServer(fault);
      const upstream = openOpenAi({ url: server.url, apiKey: API_KEY, silenceTimeoutMs: 200 });
      let text = "";
      const onEvent = (event: { type: string }) => {
        if (event.type === "chunk") text += "x";
      };
      const error = await rejectionOf(generate(upstream, chatBody("tiny", "SECRET"), { onEvent }));
      expect(error).to.have.property("code", code);
      const refuses = ["refuses with 400", "does not know the model", "is overloaded"].includes(fault);
      expect(text).to.equal(refuses ? "" : "x");
      expect(inspect(error, { depth: null, showHidden: true })).not.to.match(/SECRET|canary/);
      await upstream.close();
      await server.close();
    });
  }

  it("says when a server that has no room may be asked again: its own word, in seconds or as a date", async () => {
    const soon = new Date(Date.now() + 30_000).toUTCString();
    for (const [status, retryAfter, least, most] of [
      [429, "7", 7, 7],
      [503, undefined, 2, 2],
      [429, soon, 25, 31],
      [429, "999999", 3600, 3600],
      [503, "nonsense", 2, 2],
    ] as const) {
      const server = await startLoopbackServer((_request, response) => {
        response.writeHead(status, retryAfter ? { "retry-after": retryAfter } : {}).end("{}");
      });
      const upstream = openOpenAi({ url: server.url });
      const error = await rejectionOf(generate(upstream, chatBody("m", "a")));
      await upstream.close();
      await server.close();
      expect(error).to.have.property("code", "node-busy");
      expect(error).to.have.nested.property("data.retryAfterSeconds").that.is.within(least, most);
    }
  });

  it("says that nobody answers, and what to do", async () => {
    const gone = await startLoopbackServer(() => {});
    await gone.close();
    const upstream = openOpenAi({ url: gone.url });
    for (const run of [upstream.listModels(), generate(upstream, chatBody("m", "a"))]) {
      const error = await rejectionOf(run);
      expect(error).to.have.property("code", "upstream-unreachable");
      expect(error).to.have.property("hint").that.includes("Start the model server");
    }
    await upstream.close();
  });

  it("never shows the API key, not even one that the server repeats", async () => {
    const server = await startOpenAiServer({} as Upstream, { apiKey: "another" });
    const upstream = openOpenAi({ url: server.url, apiKey: API_KEY });
    const error = await rejectionOf(upstream.listModels());
    expect(error).to.have.property("message").that.includes("does not accept the node's API key");
    expect(inspect(error, { depth: null, showHidden: true })).not.to.include("canary");
    await upstream.close();
    await server.close();
  });

  it("refuses members that would cost the node more than tokens, and URLs that are none", async () => {
    const upstream = openOpenAi({ url: "http://127.0.0.1:9" });
    for (const members of [
      { service_tier: "priority" },
      { n_predict: -1 },
      { documents: [{ text: "long" }] },
    ]) {
      const error = await rejectionOf(generate(upstream, chatBody("m", "a", members)));
      expect(error).to.have.property("code", "bad-request");
    }
    await upstream.close();
    for (const url of ["", "ftp://a", "http://user:pass@a/v1", "localhost:8080"]) {
      expect(() => openOpenAi({ url }), url)
        .to.throw()
        .with.property("code", "bad-config");
    }
  });
});
