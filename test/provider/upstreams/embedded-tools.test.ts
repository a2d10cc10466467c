// Tools, JSON and continued answers on a real model of random weights: the grammar alone makes them valid.
import { expect } from "chai";
import * as llamaPackage from "node-llama-cpp";
import {
  type ChatHistoryItem,
  getLlama,
  type Llama,
  type LlamaModel,
  resolveChatWrapper,
  type Token,
} from "node-llama-cpp";
import { foldChunks } from "../../../protocol/openai-answer.ts";
import { openEmbedded } from "../../../provider/upstreams/embedded.ts";
import { answer } from "../../../provider/upstreams/embedded-answer.ts";
import { type Reader, renderPrompt } from "../../../provider/upstreams/embedded-request.ts";
import type { Upstream, UpstreamEvent } from "../../../provider/upstreams/upstream.ts";
import { CHAT_PATH, COMPLETION_PATH, chatBody, generate, rejectionOf } from "../../support/generation.ts";
import { tinyModelFile } from "../../support/tiny-model.ts";

type Message = {
  content: string;
  tool_calls?: { id: string; function: { name: string; arguments: string } }[];
};

const UNITS = { type: "string", enum: ["celsius", "fahrenheit"] };
const WEATHER = {
  type: "function",
  function: {
    name: "get_weather",
    description: "The weather of a city",
    parameters: {
      type: "object",
      properties: {
        city: { type: "string", maxLength: 12 },
        unit: UNITS,
        days: { type: "integer", minimum: 1, maximum: 14 },
      },
      required: ["city", "days"],
    },
  },
};
const TIME = {
  type: "function",
  function: { name: "get_time", parameters: { type: "object", properties: { unit: UNITS } } },
};
const SEEDS = [1, 2, 3, 4, 5, 6];

describe("an embedded model that is given tools or a form", function () {
  this.timeout(30_000);
  let upstream: Upstream;
  let llama: Llama;
  let model: LlamaModel;

  before(async () => {
    const modelFile = tinyModelFile();
    upstream = await openEmbedded({ modelFile, modelName: "tiny", threads: 1, contextLength: 2048 });
    llama = await getLlama({
      gpu: false,
      build: "never",
      skipDownload: true,
      progressLogs: false,
      maxThreads: 0,
    });
    model = await llama.loadModel({ modelPath: modelFile });
  });
  after(async () => {
    await upstream.close();
    await llama.dispose();
  });

  const messageOf = (events: readonly UpstreamEvent[]): Message => {
    const chunks = events.flatMap((event) => (event.type === "chunk" ? [event.chunk] : []));
    const meta = { path: CHAT_PATH, id: "i", created: 1, model: "tiny" };
    const { choices } = foldChunks(chunks, { promptTokens: 0, completionTokens: 0 }, meta);
    return (choices as { message: Message }[])[0]!.message;
  };

  it("calls the tool that it must, with arguments that the tool's schema allows, whatever the seed", async () => {
    for (const seed of SEEDS) {
      const tool_choice = { type: "function", function: { name: "get_weather" } };
      const outcome = await generate(
        upstream,
        chatBody("tiny", "hello", { tools: [WEATHER, TIME], tool_choice, seed, max_tokens: 100 }),
      );
      const [call, ...others] = messageOf(outcome.events).tool_calls!;
      expect(others).to.deep.equal([]);
      expect(outcome).to.include({ text: "", finishReason: "tool_calls" });
      expect(call!.function.name).to.equal("get_weather");
      expect(call!.id).to.match(/^call_[0-9a-f]{32}$/);
      const { city, unit = "celsius", days, ...rest } = JSON.parse(call!.function.arguments);
      expect([...city].length).to.be.at.most(12);
      expect(UNITS.enum).to.contain(unit);
      expect(days).to.be.within(1, 14);
      expect(rest).to.deep.equal({});
      expect(outcome.usage).to.include({ completionTokens: outcome.chunkTokens, final: true });
    }
  });

  it("chooses among several where it must call one, and counts the name that it chose", async () => {
    const called = new Set<string>();
    for (const seed of SEEDS) {
      const body = chatBody("tiny", "hello", {
        tools: [WEATHER, TIME],
        tool_choice: "required",
        seed,
        max_tokens: 120,
      });
      const outcome = await generate(upstream, body);
      const [call] = messageOf(outcome.events).tool_calls!;
      JSON.parse(call!.function.arguments);
      called.add(call!.function.name);
      expect(outcome.chunkTokens).to.equal(outcome.usage!.completionTokens).and.to.be.greaterThan(3);
    }
    expect([...called].every((name) => ["get_weather", "get_time"].includes(name))).to.equal(true);
  });

  it("streams a call as OpenAI does: id and name first, then arguments piece by piece", async () => {
    const { events } = await generate(
      upstream,
      chatBody("tiny", "hello", { tools: [WEATHER], tool_choice: "required", seed: 1, max_tokens: 100 }),
    );
    const deltas = events.flatMap((event) =>
      event.type === "chunk" ? [event.chunk.choices![0]!.delta ?? {}] : [],
    );
    expect(deltas[0]).to.include({ role: "assistant" });
    const calls = deltas.flatMap(({ tool_calls }) => tool_calls ?? []);
    expect(calls[0]).to.deep.include({ index: 0, type: "function" });
    expect(calls[0]!.function).to.deep.equal({ name: "get_weather", arguments: "" });
    expect(
      calls.slice(1).every((call) => call.id === undefined && call.function?.name === undefined),
    ).to.equal(true);
    expect(calls.length).to.be.greaterThan(5);
  });

  it("never counts more tokens than a call has bytes, nor more of the prompt than its text allows", async () => {
    const body = chatBody("tiny", "hello", {
      tools: [WEATHER],
      tool_choice: "required",
      seed: 2,
      max_tokens: 100,
    });
    const { events, usage } = await generate(upstream, body);
    const [call] = messageOf(events).tool_calls!;
    expect(usage!.completionTokens).to.be.at.most(Buffer.byteLength(call!.function.arguments));
    const { promptTokenBound } = await import("../../../protocol/prompt.ts");
    expect(usage!.promptTokens).to.be.at.most(promptTokenBound(body));
  });

  it("reads calls and their answers of earlier turns, and tools that it may not use cost nothing", async () => {
    const calls = [
      { id: "c1", type: "function", function: { name: "get_weather", arguments: '{"city":"x","days":1}' } },
    ];
    const messages = [
      { role: "user", content: "hello" },
      { role: "assistant", content: null, tool_calls: calls },
      { role: "tool", tool_call_id: "c1", content: "sunny" },
    ];
    const ask = (members: object) =>
      generate(upstream, { model: "tiny", max_tokens: 4, messages, ...members });
    const told = await ask({});
    const longer = await ask({
      messages: [...messages.slice(0, 2), { ...messages[2], content: "sunny and warm" }],
    });
    expect(longer.usage!.promptTokens).to.be.greaterThan(told.usage!.promptTokens);
    const none = await ask({ tools: [WEATHER], tool_choice: "none" });
    expect(none.usage!.promptTokens).to.equal(told.usage!.promptTokens);
    expect((await ask({ tools: [WEATHER] })).usage!.promptTokens).to.be.greaterThan(none.usage!.promptTokens);
  });

  it("is cut off at the limit, in the middle of a call or of JSON, and says so", async () => {
    const tools = { tools: [WEATHER], tool_choice: "required" };
    const schema = { type: "json_schema", json_schema: { name: "w", schema: WEATHER.function.parameters } };
    for (const members of [tools, { response_format: schema }]) {
      const outcome = await generate(upstream, chatBody("tiny", "hello", { ...members, max_tokens: 3 }));
      expect(outcome.finishReason).to.equal("length");
      expect(outcome.usage!.completionTokens).to.be.at.most(3);
    }
  });

  it("answers in JSON of the schema, and in any object of JSON, in chats and completions", async () => {
    const { parameters: schema } = WEATHER.function;
    for (const seed of SEEDS) {
      const form = {
        response_format: { type: "json_schema", json_schema: { name: "w", strict: true, schema } },
        seed,
      };
      const body = { model: "tiny", prompt: "hello", ...form, max_tokens: 100 };
      for (const outcome of [
        await generate(upstream, chatBody("tiny", "hello", { ...form, max_tokens: 100 })),
        await generate(upstream, body, { path: COMPLETION_PATH }),
      ]) {
        expect(outcome.finishReason).to.equal("stop");
        expect(JSON.parse(outcome.text).days).to.be.within(1, 14);
        expect(outcome.usage!.completionTokens).to.equal(outcome.chunkTokens);
      }
    }
    const free = { response_format: { type: "json_object" }, seed: 1, max_tokens: 300 };
    const outcome = await generate(upstream, chatBody("tiny", "hello", free));
    expect(outcome.finishReason).to.equal("stop");
    expect(JSON.parse(outcome.text)).to.be.an("object");
  });

  it("goes on with a last message of the assistant instead of answering it", async () => {
    const user = { role: "user", content: "hello" };
    const wrapper = resolveChatWrapper(model, { warningLogs: false });
    const response = ["the price of"];
    const { contextText } = wrapper.generateContextState({
      chatHistory: [
        { type: "user", text: "hello" },
        { type: "model", response },
      ],
    });
    expect(contextText.toString().endsWith("the price of"), contextText.toString()).to.equal(true);
    const messages = [user, { role: "assistant", content: response[0] }];
    const { usage, text } = await generate(upstream, {
      ...{ model: "tiny", messages, max_tokens: 12, temperature: 0 },
    });
    const tokens = [model.tokens.bos!, ...contextText.tokenize(model.tokenizer)];
    expect(usage!.promptTokens).to.equal(tokens.length);
    // The same tokens in llama.cpp itself are gone on with in the same words.
    const context = await model.createContext({ contextSize: 256, threads: 1 });
    const sampled: Token[] = [];
    for await (const token of context
      .getSequence()
      .evaluate(tokens, { temperature: 0, topK: 40, minP: 0.05 })) {
      if (sampled.push(token) === 12) break;
    }
    expect(text).to.equal(model.detokenize(sampled, false, tokens));
    await context.dispose();
  });

  it("begins a call by itself where it writes what begins one, and is held to it from there", async () => {
    // A model of random weights begins no call but by chance: here its template says that a call begins with what it
    // is known to write.
    const wrapper = resolveChatWrapper(model, { warningLogs: false });
    const free = await generate(
      upstream,
      chatBody("tiny", "hello", { seed: 5, temperature: 0, max_tokens: 40 }),
    );
    const trigger = free.text.slice(12, 15);
    const { functions } = wrapper.settings;
    const settings = {
      ...wrapper.settings,
      functions: { ...functions, call: { ...functions.call, prefix: trigger, prefixAlternateMatches: [] } },
    };
    Object.defineProperty(wrapper, "settings", { value: settings });
    wrapper.generateAvailableFunctionsSystemText = () => llamaPackage.LlamaText([]);
    wrapper.addAvailableFunctionsSystemMessageToHistory = (history: readonly ChatHistoryItem[]) => [
      ...history,
    ];
    const reader: Reader = { model, wrapper, package: llamaPackage };
    const context = await model.createContext({ contextSize: 1024, threads: 1 });
    const body = chatBody("tiny", "hello", { seed: 5, temperature: 0, max_tokens: 200, tools: [WEATHER] });
    const input = { path: CHAT_PATH, body, signal: new AbortController().signal };
    const events: UpstreamEvent[] = [];
    const place = { sequence: context.getSequence(), contextLength: 1024 };
    for await (const event of answer(reader, place, input, renderPrompt(reader, input))) events.push(event);
    const { content, tool_calls: calls } = messageOf(events);
    expect(content).to.equal(free.text.slice(0, free.text.indexOf(trigger.trim())));
    expect(calls).to.have.length(1);
    expect(JSON.parse(calls![0]!.function.arguments).days).to.be.within(1, 14);
    const tokens = events.reduce((sum, event) => sum + (event.type === "chunk" ? event.tokens : 0), 0);
    expect(events.at(-1)).to.include({ type: "usage", completionTokens: tokens, final: true });
    await context.dispose();
  });

  const call = (id: string) => ({
    role: "assistant",
    tool_calls: [{ id, function: { name: "f", arguments: "{}" } }],
  });
  const refused: [what: string, members: object, message: RegExp][] = [
    ["a tool without a name", { tools: [{ type: "function", function: {} }] }, /tools\.0/],
    [
      "a tool with a name that no call could spell",
      { tools: [{ type: "function", function: { name: "a b" } }] },
      /tools\.0/,
    ],
    ["two tools of one name", { tools: [TIME, TIME] }, /same name/],
    [
      "a choice of a tool that is not there",
      { tools: [TIME], tool_choice: { function: { name: "x" } } },
      /tool_choice/,
    ],
    [
      "a schema that it cannot be held to",
      {
        tools: [{ type: "function", function: { name: "f", parameters: { type: "string", pattern: "a" } } }],
      },
      /pattern/,
    ],
    [
      "JSON beside tools that it may call",
      { tools: [TIME], response_format: { type: "json_object" } },
      /between a tool and JSON/,
    ],
    ["a form that nobody knows", { response_format: { type: "xml" } }, /response_format/],
    ["a schema that is not there", { response_format: { type: "json_schema" } }, /response_format/],
    [
      "a call that nobody answered",
      { messages: [call("a"), { role: "user", content: "x" }] },
      /answer to each call/,
    ],
    ["a call at the end", { messages: [call("a")] }, /answer to each call/],
    [
      "an answer to no call",
      { messages: [call("a"), { role: "tool", tool_call_id: "b", content: "x" }] },
      /not there/,
    ],
    [
      "arguments that are not JSON",
      {
        messages: [{ role: "assistant", tool_calls: [{ id: "a", function: { name: "f", arguments: "{" } }] }],
      },
      /not JSON/,
    ],
  ];
  for (const [what, members, message] of refused) {
    it(`refuses ${what}`, async () => {
      const error = await rejectionOf(generate(upstream, chatBody("tiny", "hello", members)));
      expect(error).to.have.property("code", "bad-request");
      expect(error).to.have.property("message").that.matches(message);
    });
  }
});
