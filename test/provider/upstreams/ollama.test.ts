import { inspect } from "node:util";
import { expect } from "chai";
import { openOllama } from "../../../provider/upstreams/ollama.ts";
import { FAKE_DIGEST, type FakeAnswer, type FakeOllama, startFakeOllama } from "../../support/fake-ollama.ts";
import { COMPLETION_PATH, chatBody, generate, rejectionOf } from "../../support/generation.ts";

const saying = (message: object) => ({
  model: "fake",
  message: { role: "assistant", content: "", ...message },
  done: false,
});
const LAST = { ...saying({}), done: true, done_reason: "stop", prompt_eval_count: 9, eval_count: 4 };
const COMPLETING = ["chat", "completions", "json"];
const HELLO = [saying({ content: "Hel" }), saying({ content: "lo" }), LAST];

describe("the Ollama upstream's wire", () => {
  const closers: (() => Promise<void>)[] = [];

  async function play(answer: FakeAnswer, options: { parameters?: string; contextLength?: number } = {}) {
    const server: FakeOllama = await startFakeOllama(answer, options.parameters);
    const upstream = openOllama({
      url: server.url,
      silenceTimeoutMs: 300,
      contextLength: options.contextLength,
    });
    closers.push(() => upstream.close(), server.close);
    return { server, upstream };
  }

  afterEach(async () => {
    for (const close of closers.splice(0)) await close();
  });

  it("names each model's digest, and the context that it is run with", async () => {
    const { upstream } = await play({ lines: [] });
    expect(await upstream.listModels()).to.deep.equal([
      { name: "fake", digest: `0x${FAKE_DIGEST}`, contextLength: 4096, features: COMPLETING },
    ]);
    const contexts = [
      { parameters: 'num_ctx                        512\nstop "x"' },
      { contextLength: 100_000 },
    ];
    for (const [index, expected] of [512, 8192].entries()) {
      const [model] = await (await play({ lines: [] }, contexts[index])).upstream.listModels();
      expect(model?.contextLength).to.equal(expected);
    }
  });

  it("tells what a model does from the capabilities that Ollama names", async () => {
    for (const [capabilities, expected] of [
      [undefined, COMPLETING],
      [
        ["completion", "tools", "vision", "thinking"],
        [...COMPLETING, "tools", "images"],
      ],
      [["embedding"], ["embeddings"]],
      [["image", "audio"], []],
    ] as const) {
      const { server, upstream } = await play({ lines: [] });
      server.capabilities = capabilities;
      const [model] = await upstream.listModels();
      expect(model?.features).to.deep.equal(expected);
    }
  });

  it("streams deltas at one token each, and ends with the counts that Ollama made", async () => {
    const { upstream } = await play({ lines: HELLO });
    const outcome = await generate(upstream, chatBody("fake", "hi"));
    expect(outcome).to.deep.include({ text: "Hello", finishReason: "stop", chunkTokens: 2 });
    expect(outcome.usage).to.deep.include({ promptTokens: 9, completionTokens: 4, final: true });
    expect(outcome.events.at(-1)).to.deep.include({ type: "usage", final: true });
  });

  it("counts no completion where nothing was said", async () => {
    const { upstream } = await play({ lines: [{ ...LAST, eval_count: 1 }] });
    expect((await generate(upstream, chatBody("fake", "hi"))).usage).to.deep.include({
      promptTokens: 9,
      completionTokens: 0,
    });
  });

  it("tells Ollama of sampling, limits, stop texts and the context, and never to cut a prompt", async () => {
    const { upstream, server } = await play({ lines: HELLO });
    const members = {
      temperature: 0,
      top_p: 0.5,
      seed: 7,
      stop: "x",
      max_completion_tokens: 5,
      frequency_penalty: 1,
    };
    await generate(upstream, chatBody("fake", "hi", members));
    const options = {
      temperature: 0,
      top_p: 0.5,
      seed: 7,
      stop: ["x"],
      num_predict: 5,
      frequency_penalty: 1,
      num_ctx: 4096,
    };
    expect(server.requests).to.deep.equal([
      {
        model: "fake",
        messages: [{ role: "user", content: "hi" }],
        stream: true,
        keep_alive: 86_400,
        truncate: false,
        shift: false,
        options,
      },
    ]);
  });

  it("continues a completion's prompt as it is, without the chat template", async () => {
    const { upstream, server } = await play({
      lines: [
        { response: "a", done: false },
        { ...LAST, message: undefined, response: "" },
      ],
    });
    const { text, usage } = await generate(
      upstream,
      { model: "fake", prompt: ["once"] },
      { path: COMPLETION_PATH },
    );
    expect(text).to.equal("a");
    expect(usage?.completionTokens).to.equal(4);
    expect(server.requests[0]).to.deep.include({ prompt: "once", raw: true });
  });

  it("passes thinking and tool calls through as OpenAI deltas", async () => {
    const call = { function: { name: "add", arguments: { a: 1 } } };
    const { upstream, server } = await play({
      lines: [saying({ thinking: "hm" }), saying({ tool_calls: [call] }), LAST],
    });
    const tools = [{ type: "function", function: { name: "add", parameters: {} } }];
    const { events, finishReason } = await generate(
      upstream,
      chatBody("fake", "hi", { tools, reasoning_effort: "low" }),
    );
    const deltas = events.flatMap((event) =>
      event.type === "chunk" ? [event.chunk.choices?.[0]?.delta] : [],
    );
    expect(deltas[1]).to.deep.equal({ reasoning_content: "hm" });
    expect(deltas[2]?.tool_calls?.[0]).to.deep.include({
      index: 0,
      type: "function",
      function: { name: "add", arguments: '{"a":1}' },
    });
    expect(deltas[2]?.tool_calls?.[0]?.id).to.match(/^call_/);
    expect(finishReason).to.equal("tool_calls");
    expect(server.requests[0]).to.deep.include({ tools, think: true });
  });

  it("translates a conversation with images, tool calls and their results", async () => {
    const { upstream, server } = await play({ lines: HELLO });
    const image = { type: "image_url", image_url: { url: "data:image/png;base64,AAAA" } };
    const call = { id: "call_1", type: "function", function: { name: "add", arguments: '{"a":1}' } };
    const messages = [
      { role: "developer", content: "be brief" },
      { role: "user", content: [{ type: "text", text: "what is " }, { type: "text", text: "this" }, image] },
      { role: "assistant", content: null, tool_calls: [call] },
      { role: "tool", tool_call_id: "call_1", content: "2" },
    ];
    await generate(upstream, { model: "fake", messages, response_format: { type: "json_object" } });
    expect(server.requests[0]).to.deep.include({ format: "json" });
    expect(server.requests[0]?.messages).to.deep.equal([
      { role: "system", content: "be brief" },
      { role: "user", content: "what is this", images: ["AAAA"] },
      { role: "assistant", content: "", tool_calls: [{ function: { name: "add", arguments: { a: 1 } } }] },
      { role: "tool", content: "2", tool_name: "add" },
    ]);
  });

  it("makes embeddings with their count, as numbers or in base64", async () => {
    const answer = { lines: [{ embeddings: [[0.5, -1]], prompt_eval_count: 3 }] };
    const { upstream } = await play(answer);
    const body = { model: "fake", input: "a" };
    const { events } = await generate(upstream, body, { path: "/v1/embeddings" });
    expect(events).to.deep.equal([
      {
        type: "chunk",
        chunk: { data: [{ object: "embedding", index: 0, embedding: [0.5, -1] }] },
        tokens: 0,
      },
      { type: "usage", promptTokens: 3, completionTokens: 0, final: true },
    ]);
    const coded = await generate(
      upstream,
      { ...body, encoding_format: "base64" },
      { path: "/v1/embeddings" },
    );
    expect(inspect(coded.events, { depth: null })).to.include(
      Buffer.from(Float32Array.of(0.5, -1).buffer).toString("base64"),
    );
  });

  const faults: [string, FakeAnswer, string][] = [
    [
      "does not know the model",
      { status: 404, lines: [{ error: "model 'fake' not found" }] },
      "model-not-found",
    ],
    [
      "refuses the request",
      { status: 400, lines: [{ error: "fake does not support tools" }] },
      "bad-request",
    ],
    ["cannot load the model", { status: 500, lines: [{ error: "out of memory" }] }, "upstream-failed"],
    ["reports an error in the middle", { lines: [HELLO[0]!, { error: "runner died" }] }, "upstream-failed"],
    ["ends without a last line", { lines: [HELLO[0]!] }, "upstream-failed"],
    ["breaks the connection", { lines: [HELLO[0]!], end: "break" }, "upstream-failed"],
    ["sends a line that is not JSON", { lines: [HELLO[0]!, "SECRET text", LAST] }, "upstream-failed"],
    ["counts in fractions", { lines: [HELLO[0]!, { ...LAST, eval_count: 1.5 }] }, "upstream-failed"],
    ["falls silent", { lines: [HELLO[0]!], end: "silence" }, "upstream-timeout"],
  ];
  for (const [what, answer, code] of faults) {
    it(`throws ${code} when Ollama ${what}, and writes nothing to the console`, async () => {
      const written: unknown[] = [];
      const { log, warn, error: write } = console;
      console.log = console.warn = console.error = (...words) => written.push(words);
      try {
        const { upstream } = await play(answer);
        const error = await rejectionOf(generate(upstream, chatBody("fake", "SECRET")));
        expect(error).to.have.property("code", code);
        expect(inspect(error, { depth: null })).not.to.include("SECRET");
      } finally {
        Object.assign(console, { log, warn, error: write });
      }
      expect(written).to.deep.equal([]);
    });
  }

  it("says that nobody answers, and what to do", async () => {
    const { upstream, server } = await play({ lines: [] });
    await server.close();
    for (const run of [upstream.listModels(), generate(upstream, chatBody("fake", "hi"))]) {
      expect(await rejectionOf(run)).to.have.property("code", "upstream-unreachable");
    }
  });

  it("hangs up on Ollama when told to stop, on that stream alone", async () => {
    const { upstream, server } = await play({ lines: [HELLO[0]!], end: "silence" });
    const controller = new AbortController();
    const onEvent = () => controller.abort(new Error("enough"));
    const stopped = generate(upstream, chatBody("fake", "hi"), { signal: controller.signal, onEvent });
    const other = rejectionOf(generate(upstream, chatBody("fake", "hi")));
    expect(await rejectionOf(stopped)).to.have.property("message", "enough");
    await server.abandoned;
    expect(await other, "the other stream runs into its own time-out").to.have.property(
      "code",
      "upstream-timeout",
    );
  });

  it("hangs up on Ollama when its reader leaves early", async () => {
    const { upstream, server } = await play({ lines: HELLO.slice(0, 1), end: "silence" });
    const signal = new AbortController().signal;
    for await (const event of upstream.generate({
      path: "/v1/chat/completions",
      body: chatBody("fake", "hi"),
      signal,
    })) {
      if (event.type === "chunk" && event.tokens > 0) break;
    }
    await server.abandoned;
  });
});
