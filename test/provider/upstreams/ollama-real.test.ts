// The Ollama upstream on a real Ollama: its counts, its streams, and what its models do.
import { expect } from "chai";
import { openEmbedded } from "../../../provider/upstreams/embedded.ts";
import { openOllama } from "../../../provider/upstreams/ollama.ts";
import type { Upstream, UpstreamEvent } from "../../../provider/upstreams/upstream.ts";
import { COMPLETION_PATH, chatBody, generate, rejectionOf } from "../../support/generation.ts";
import { callOllama, createOllamaModel, ROLES_TEMPLATE } from "../../support/ollama-model.ts";
import { findOllama, type RealOllama, startRealOllama } from "../../support/real-ollama.ts";
import { tinyModelFile } from "../../support/tiny-model.ts";

/** Leaves an assistant's last message open, as templates do that let a model go on with it. */
const UNFINISHED_TEMPLATE =
  "{{ range $index, $_ := .Messages }}{{ $last := eq (len (slice $.Messages $index)) 1 }}{{ .Role }}: {{ .Content }}" +
  '{{ if not (and $last (eq .Role "assistant")) }}\n{{ end }}' +
  '{{ if and $last (ne .Role "assistant") }}assistant: {{ end }}{{ end }}';
const THINKING_TEMPLATE =
  "{{ range .Messages }}{{ if .Thinking }}<think>{{ .Thinking }}</think>{{ end }}{{ .Role }}: {{ .Content }}\n{{ end }}" +
  "assistant: {{ if .Think }}<think>{{ end }}";

const program = findOllama();
const describeReal = program === undefined ? describe.skip : describe;
const why = program === undefined ? " (pending: no Ollama here; npm run test:docker builds one)" : "";

describeReal(`the Ollama upstream on a real Ollama${why}`, function () {
  this.timeout(60_000);
  let ollama: RealOllama;
  let upstream: Upstream;
  /** The same weights in llama.cpp itself: its counts must be the same. */
  let embedded: Upstream;
  const prompt = "hello world, the price is 漢字 é";

  before(async () => {
    ollama = await startRealOllama(program!);
    await createOllamaModel(ollama.url, {
      ...{ name: "tiny", file: tinyModelFile(), template: ROLES_TEMPLATE },
      parameters: { num_ctx: 512, num_thread: 1 },
    });
    upstream = openOllama({ url: ollama.url });
    embedded = await openEmbedded({
      modelFile: tinyModelFile(),
      modelName: "tiny",
      threads: 1,
      contextLength: 512,
    });
  });

  after(async () => {
    await embedded.close();
    await upstream.close();
    await ollama.stop();
  });

  it("names the model, its digest and its context", async () => {
    const [model] = await upstream.listModels();
    expect(model).to.deep.include({ name: "tiny", contextLength: 512 });
    expect(model?.digest).to.match(/^0x(?!0{64})[0-9a-f]{64}$/);
  });

  it("counts a prompt as llama.cpp does, again and again, cached or not", async () => {
    const body = { model: "tiny", prompt, max_tokens: 10, temperature: 0 };
    const { usage } = await generate(embedded, body, { path: COMPLETION_PATH });
    for (let round = 0; round < 2; round++) {
      const outcome = await generate(upstream, body, { path: COMPLETION_PATH });
      expect(outcome.usage).to.deep.equal(usage);
      expect(outcome.finishReason).to.equal("length");
    }
  });

  it("gives the same text for the same seed", async () => {
    const run = async (seed: number) =>
      (await generate(upstream, chatBody("tiny", "hello", { seed, max_tokens: 16 }))).text;
    expect(await run(3)).to.equal(await run(3));
  });

  it("stops when told, and serves the next", async () => {
    const controller = new AbortController();
    const onEvent = () => controller.abort(new Error("enough"));
    const run = generate(upstream, chatBody("tiny", "hello"), { signal: controller.signal, onEvent });
    expect(await rejectionOf(run)).to.have.property("message", "enough");
    expect((await generate(upstream, chatBody("tiny", "hello", { max_tokens: 2 }))).usage?.final).to.equal(
      true,
    );
  });

  it("refuses a prompt that does not fit instead of cutting it", async () => {
    const error = await rejectionOf(
      generate(upstream, chatBody("tiny", "x".repeat(2_000), { max_tokens: 2 })),
    );
    expect(error).to.have.property("code", "bad-request");
  });

  it("says that it does not have a model", async () => {
    expect(await rejectionOf(generate(upstream, chatBody("none", "hello")))).to.have.property(
      "code",
      "model-not-found",
    );
  });

  it("ends one of three streams when told, and the others end well", async () => {
    const controllers = [1, 2, 3].map(() => new AbortController());
    const counts = [0, 0, 0];
    const begun = Promise.withResolvers<void>();
    const runs = controllers.map(({ signal }, index) => {
      const onEvent = (event: UpstreamEvent) => {
        counts[index]! += event.type === "chunk" ? event.tokens : 0;
        // The second is told to stop once the others have begun, or while they wait for their turn.
        if (index === 1 && counts[1]! > 3) controllers[1]!.abort(new Error("enough"));
        if (counts[1]! > 0) begun.resolve();
      };
      const body = {
        model: "tiny",
        prompt,
        max_tokens: index === 1 ? 400 : 40,
        temperature: 1.5,
        top_k: 400,
        seed: index,
      };
      return generate(upstream, body, { path: COMPLETION_PATH, signal, onEvent });
    });
    await begun.promise;
    const [first, second, third] = await Promise.allSettled(runs);
    expect(second).to.have.nested.property("reason.message", "enough");
    for (const run of [first!, third!]) {
      if (run.status === "rejected") throw run.reason;
      expect(run.value.finishReason).to.be.oneOf(["length", "stop"]);
      expect(run.value.usage).to.include({ final: true });
    }
  });

  it("holds an answer to JSON and to a schema", async () => {
    const schema = { type: "object", properties: { unit: { enum: ["c", "f"] } }, required: ["unit"] };
    const form = { type: "json_schema", json_schema: { name: "u", schema } };
    const body = chatBody("tiny", "hello", { response_format: form, seed: 2, max_tokens: 60 });
    const { text, finishReason } = await generate(upstream, body);
    if (finishReason === "stop") expect(JSON.parse(text).unit).to.be.oneOf(["c", "f"]);
    expect(text.trimStart()).to.match(/^\{/);
    expect((await upstream.listModels())[0]?.features).to.include("json");
  });

  it("loads models before anybody asks, keeps them, and learns whether they go on with an unfinished answer", async () => {
    await createOllamaModel(ollama.url, {
      ...{ name: "going-on", file: tinyModelFile(), template: UNFINISHED_TEMPLATE },
      parameters: { num_ctx: 256, num_thread: 1 },
    });
    const fresh = openOllama({ url: ollama.url, keepAliveSeconds: -1 });
    await fresh.listModels();
    expect(await fresh.warmUp!(["going-on"], AbortSignal.timeout(30_000))).to.deep.equal(["going-on"]);
    const { models } = JSON.parse(await callOllama(ollama.url, "/api/ps", null, "GET"));
    const loaded = models.find(({ name }: { name: string }) => name === "going-on:latest");
    expect(loaded.context_length).to.equal(256);
    expect(Date.parse(loaded.expires_at)).to.be.greaterThan(Date.now() + 365 * 86_400_000);
    await fresh.warmUp!(["tiny"], AbortSignal.timeout(30_000));
    const features = new Map((await fresh.listModels()).map((model) => [model.name, model.features]));
    expect(features.get("going-on")).to.include("continue");
    expect(features.get("tiny")).to.include("chat").and.not.include("continue");
    // What it says of itself is so: the same words come as from the rendered text alone.
    const messages = [
      { role: "user", content: "hello" },
      { role: "assistant", content: "the price of" },
    ];
    const goneOn = await generate(fresh, { model: "going-on", messages, max_tokens: 8, temperature: 0 });
    const rendered = "user: hello\nassistant: the price of";
    const plain = { model: "going-on", prompt: rendered, max_tokens: 8, temperature: 0 };
    expect(goneOn.text).to.equal((await generate(fresh, plain, { path: COMPLETION_PATH })).text);
    await fresh.close();
  });

  it("passes thoughts on, and lets the model think or not as it is asked", async () => {
    await createOllamaModel(ollama.url, {
      ...{ name: "thinking", file: tinyModelFile(), template: THINKING_TEMPLATE },
      parameters: { num_ctx: 512, num_thread: 1 },
    });
    const ask = async (effort: string) => {
      const members = { max_tokens: 12, temperature: 0, reasoning_effort: effort };
      const { events, usage } = await generate(upstream, chatBody("thinking", "hello", members));
      const deltas = events.flatMap((event) =>
        event.type === "chunk" ? [event.chunk.choices![0]!.delta ?? {}] : [],
      );
      const textOf = (member: string) => deltas.map((delta) => String(delta[member] ?? "")).join("");
      return { thoughts: textOf("reasoning_content"), text: textOf("content"), usage };
    };
    const thinking = await ask("high");
    expect(thinking.thoughts).to.not.equal("");
    expect(thinking.usage).to.include({ completionTokens: 12, final: true });
    const plain = await ask("none");
    expect(plain.thoughts).to.equal("");
    expect(plain.text).to.not.equal("");
  });

  it("says so when a model cannot be pulled, and what may be wrong", async () => {
    const pulled = upstream.pull!("127.0.0.1:9/library/none:latest", () => {}, AbortSignal.timeout(30_000));
    const error = await rejectionOf(pulled);
    expect(error).to.have.property("code", "upstream-failed");
    expect(error).to.have.property("message").that.includes("cannot pull");
  });

  it("makes embeddings with their count", async () => {
    const { usage, events } = await generate(
      upstream,
      { model: "tiny", input: [prompt] },
      { path: "/v1/embeddings" },
    );
    expect(usage?.promptTokens).to.be.greaterThan(10);
    expect(events[0]).to.have.nested.property("chunk.data[0].embedding").with.length(64);
  });
});
