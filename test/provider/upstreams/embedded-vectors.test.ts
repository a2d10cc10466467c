// Embeddings of a model in this process: exact counts, both encodings, and what is refused.
import { expect } from "chai";
import { getLlama, type Llama } from "node-llama-cpp";
import { openEmbedded } from "../../../provider/upstreams/embedded.ts";
import type { Upstream } from "../../../provider/upstreams/upstream.ts";
import { chatBody, generate, rejectionOf } from "../../support/generation.ts";
import { tinyModelFile } from "../../support/tiny-model.ts";

const EMBEDDINGS = "/v1/embeddings";

describe("an embedded model that makes embeddings", function () {
  this.timeout(30_000);
  let upstream: Upstream;
  let llama: Llama;

  before(async () => {
    const settings = { modelFile: tinyModelFile(), modelName: "tiny", threads: 1, contextLength: 256 };
    upstream = await openEmbedded({ ...settings, embeddings: true });
    llama = await getLlama({
      gpu: false,
      build: "never",
      skipDownload: true,
      progressLogs: false,
      maxThreads: 0,
    });
  });
  after(async () => {
    await upstream.close();
    await llama.dispose();
  });

  const embed = async (input: string | string[], members: object = {}) => {
    const { events, usage } = await generate(
      upstream,
      { model: "tiny", input, ...members },
      { path: EMBEDDINGS },
    );
    const [first] = events;
    const data =
      first?.type === "chunk" ? (first.chunk.data as { index: number; embedding: number[] | string }[]) : [];
    return { data, usage };
  };

  it("offers them beside its answers, and goes on answering", async () => {
    expect((await upstream.listModels())[0]!.features).to.include.members(["chat", "embeddings"]);
    expect((await generate(upstream, chatBody("tiny", "hello", { max_tokens: 3 }))).usage?.final).to.equal(
      true,
    );
  });

  it("makes a vector of length one of each text, the same one for the same text", async () => {
    const { data } = await embed(["hello world", "the price", "hello world"]);
    expect(data.map(({ index }) => index)).to.deep.equal([0, 1, 2]);
    const [first, second, third] = data.map(({ embedding }) => embedding as number[]);
    expect(first).to.have.length(64);
    expect(Math.abs(Math.hypot(...first!) - 1) < 1e-6).to.equal(true);
    expect(third).to.deep.equal(first);
    expect(second).to.not.deep.equal(first);
  });

  it("gives in base64 the same numbers as single floats", async () => {
    const plain = (await embed("hello", { encoding_format: "float" })).data[0]!.embedding as number[];
    const packed = (await embed("hello", { encoding_format: "base64" })).data[0]!.embedding as string;
    const numbers = new Float32Array(new Uint8Array(Buffer.from(packed, "base64")).buffer);
    expect([...numbers]).to.deep.equal([...Float32Array.from(plain)]);
  });

  it("counts every token that the tokenizer makes of the texts, marks included", async () => {
    const tokenizer = await llama.loadModel({ modelPath: tinyModelFile(), vocabOnly: true });
    const inputs = ["hello world, 漢字", "é"];
    const expected = inputs.reduce((sum, input) => sum + tokenizer.tokenize(input).length + 1, 0);
    const { usage } = await embed(inputs);
    expect(usage).to.include({ promptTokens: expected, completionTokens: 0, final: true });
  });

  it("takes a size that is the model's own, and refuses others, an odd encoding and a text that is too long", async () => {
    expect((await embed("hello", { dimensions: 64 })).data).to.have.length(1);
    for (const [input, members, message] of [
      ["hello", { dimensions: 32 }, /64 dimensions/],
      ["hello", { encoding_format: "int8" }, /encoding_format/],
      ["the ".repeat(300), {}, /reads 255/],
    ] as const) {
      const error = await rejectionOf(embed(input, members));
      expect(error).to.have.property("code", "bad-request");
      expect(error).to.have.property("message").that.matches(message);
    }
  });

  it("stops between two texts when told", async () => {
    const controller = new AbortController();
    const body = { model: "tiny", input: Array.from({ length: 200 }, () => "hello world ".repeat(10)) };
    const run = rejectionOf(generate(upstream, body, { path: EMBEDDINGS, signal: controller.signal }));
    controller.abort(new Error("enough"));
    expect(await run).to.have.property("message", "enough");
    expect((await embed("hello")).data).to.have.length(1);
  });
});
