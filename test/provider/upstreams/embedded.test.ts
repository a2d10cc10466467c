import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import {
  type ChatHistoryItem,
  getLlama,
  type Llama,
  type LlamaModel,
  resolveChatWrapper,
} from "node-llama-cpp";
import { openEmbedded } from "../../../provider/upstreams/embedded.ts";
import type { Upstream } from "../../../provider/upstreams/upstream.ts";
import { CHAT_PATH, COMPLETION_PATH, chatBody, generate, rejectionOf } from "../../support/generation.ts";
import { tinyModelFile } from "../../support/tiny-model.ts";

describe("the embedded upstream", () => {
  const modelFile = tinyModelFile();
  let upstream: Upstream;
  /** The same model's tokenizer, opened apart from the upstream to count on its own. */
  let llama: Llama;
  let tokenizer: LlamaModel;

  before(async () => {
    upstream = await openEmbedded({
      modelFile,
      modelName: "tiny",
      threads: 1,
      parallel: 2,
      contextLength: 512,
    });
    llama = await getLlama({ gpu: false, build: "never", skipDownload: true, progressLogs: false });
    tokenizer = await llama.loadModel({ modelPath: modelFile, vocabOnly: true });
  });

  after(async () => {
    await upstream.close();
    await llama.dispose();
  });

  it("names its model by the SHA-256 of its file and tells the context that it really has", async () => {
    const digest = createHash("sha256").update(readFileSync(modelFile)).digest("hex");
    expect(await upstream.listModels()).to.deep.equal([
      {
        name: "tiny",
        digest: `0x${digest}`,
        contextLength: 512,
        features: ["chat", "completions", "tools", "json", "continue"],
      },
    ]);
  });

  it("counts as prompt every token of the rendered chat, the beginning-of-text token included", async () => {
    const history: ChatHistoryItem[] = [
      { type: "system", text: "be" },
      { type: "user", text: "hello wörld" },
      { type: "model", response: ["the"] },
      { type: "user", text: "who <s> is" },
      { type: "model", response: [] },
    ];
    const { contextText } = resolveChatWrapper(tokenizer).generateContextState({ chatHistory: history });
    const messages = [
      { role: "system", content: "be" },
      {
        role: "user",
        content: [
          { type: "text", text: "hello " },
          { type: "text", text: "wörld" },
        ],
      },
      { role: "assistant", content: "the" },
      { role: "user", content: "who <s> is" },
    ];
    const { usage } = await generate(upstream, { model: "tiny", messages, max_tokens: 1 });
    expect(usage?.promptTokens).to.equal(1 + contextText.tokenize(tokenizer.tokenizer).length);
  });

  it("counts a completion's prompt as its tokenizer does", async () => {
    const prompt = "the world is a token 漢字";
    const { usage } = await generate(
      upstream,
      { model: "tiny", prompt, max_tokens: 1 },
      { path: COMPLETION_PATH },
    );
    expect(usage?.promptTokens).to.equal(1 + tokenizer.tokenize(prompt).length);
  });

  it("tells the prompt's tokens before the first text, and the final counts last", async () => {
    const { events, usage } = await generate(upstream, chatBody("tiny", "hello", { max_tokens: 8, seed: 3 }));
    expect(events[0]).to.deep.equal({
      type: "usage",
      promptTokens: usage?.promptTokens,
      completionTokens: 0,
      final: false,
    });
    expect(events.at(-1)).to.deep.include({ type: "usage", final: true });
  });

  it("makes as many tokens as asked for, one chunk each, and counts just those", async () => {
    const body = { model: "tiny", prompt: "hello world", max_tokens: 40, temperature: 0 };
    const { events, usage, chunkTokens, finishReason } = await generate(upstream, body, {
      path: COMPLETION_PATH,
    });
    expect(usage?.completionTokens).to.equal(40);
    expect(chunkTokens).to.equal(40);
    expect(finishReason).to.equal("length");
    expect(events.filter((event) => event.type === "chunk" && event.tokens === 1).length).to.be.greaterThan(
      35,
    );
  });

  it("never counts more tokens than it sends bytes, not even for bytes that are no text", async () => {
    for (let seed = 0; seed < 6; seed++) {
      const body = chatBody("tiny", "hello", {
        max_tokens: 60,
        temperature: 5,
        top_k: 0,
        top_p: 1,
        min_p: 0,
        seed,
      });
      for (const event of (await generate(upstream, body)).events) {
        if (event.type !== "chunk") continue;
        const text = event.chunk.choices?.[0]?.delta?.content ?? "";
        expect(event.tokens).to.be.at.most(Buffer.byteLength(text));
      }
    }
  });

  it("gives the same text for the same seed, and another for another", async () => {
    const run = async (seed: number) =>
      (
        await generate(
          upstream,
          chatBody("tiny", "hello", { max_tokens: 40, temperature: 1, seed, stop: [] }),
        )
      ).text;
    const first = await run(11);
    expect(await run(11)).to.equal(first);
    expect(await run(12)).not.to.equal(first);
  });

  it("always takes the likeliest token at temperature zero", async () => {
    const run = async (seed: number) =>
      (await generate(upstream, chatBody("tiny", "hello", { max_tokens: 20, temperature: 0, seed }))).text;
    expect(await run(1)).to.equal(await run(2));
  });

  it("repeats less under a frequency penalty", async () => {
    const run = async (frequency_penalty: number) => {
      const body = { model: "tiny", prompt: "hello", max_tokens: 60, temperature: 0, frequency_penalty };
      const { text } = await generate(upstream, body, { path: COMPLETION_PATH });
      return new Set(text).size;
    };
    expect(await run(2)).to.be.greaterThan(await run(0));
  });

  it("stops before a stop text and sends nothing of it", async () => {
    const body = { model: "tiny", prompt: "hello", max_tokens: 60, temperature: 0 };
    const whole = await generate(upstream, body, { path: COMPLETION_PATH });
    const stop = whole.text.slice(20, 23);
    const cut = await generate(upstream, { ...body, stop: [stop] }, { path: COMPLETION_PATH });
    expect(cut.text).to.equal(whole.text.slice(0, whole.text.indexOf(stop)));
    expect(cut.finishReason).to.equal("stop");
    expect(cut.usage?.completionTokens).to.be.lessThan(60);
  });

  it("runs generations side by side, and more of them than it has room for in turn", async () => {
    const order: number[] = [];
    const runs = [0, 1, 2, 3].map((run) =>
      generate(
        upstream,
        { model: "tiny", prompt: `hello ${run}`, max_tokens: 50, seed: run },
        {
          path: COMPLETION_PATH,
          onEvent: () => order.push(run),
        },
      ),
    );
    for (const { usage } of await Promise.all(runs)) expect(usage?.completionTokens).to.equal(50);
    expect(order.indexOf(1), "the second starts before the first ends").to.be.lessThan(order.lastIndexOf(0));
    expect(order.indexOf(2), "the third waits for a free place").to.be.greaterThan(
      Math.min(order.lastIndexOf(0), order.lastIndexOf(1)),
    );
  });

  it("stops at once when told, throws the reason and is free for the next", async () => {
    const reason = new Error("enough");
    for (let round = 0; round < 3; round++) {
      const controller = new AbortController();
      let eventsAfter = 0;
      const onEvent = () => {
        if (controller.signal.aborted) eventsAfter++;
        controller.abort(reason);
      };
      const body = chatBody("tiny", "hello", { max_tokens: 400 });
      expect(await rejectionOf(generate(upstream, body, { signal: controller.signal, onEvent }))).to.equal(
        reason,
      );
      expect(eventsAfter).to.equal(0);
    }
    expect((await generate(upstream, chatBody("tiny", "hello", { max_tokens: 3 }))).usage?.final).to.equal(
      true,
    );
  });

  it("gives up waiting for a free place when told", async () => {
    const controller = new AbortController();
    const long = { model: "tiny", prompt: "hello", max_tokens: 200 };
    const busy = [0, 1].map(() => generate(upstream, long, { path: COMPLETION_PATH }));
    const waiting = rejectionOf(
      generate(upstream, long, { path: COMPLETION_PATH, signal: controller.signal }),
    );
    controller.abort(new Error("gone"));
    expect(await waiting).to.have.property("message", "gone");
    await Promise.all(busy);
  });

  it("is free again when its reader leaves early", async () => {
    for (let round = 0; round < 3; round++) {
      const signal = new AbortController().signal;
      for await (const event of upstream.generate({
        path: CHAT_PATH,
        body: chatBody("tiny", "hello"),
        signal,
      })) {
        if (event.type === "chunk") break;
      }
    }
    expect((await generate(upstream, chatBody("tiny", "hello", { max_tokens: 2 }))).usage?.final).to.equal(
      true,
    );
  });

  it("ends with finish reason length where the context ends", async () => {
    const prompt = "the world ".repeat(100);
    const { usage, finishReason } = await generate(
      upstream,
      { model: "tiny", prompt },
      { path: COMPLETION_PATH },
    );
    expect(finishReason).to.equal("length");
    expect(usage!.promptTokens + usage!.completionTokens).to.be.at.most(512);
  });

  it("refuses a prompt that fills the context, and says how long it is", async () => {
    const body = chatBody("tiny", "the ".repeat(600));
    const error = await rejectionOf(generate(upstream, body));
    expect(error).to.have.property("code", "bad-request");
    expect(error)
      .to.have.property("message")
      .that.matches(/^the prompt has \d{3,4} tokens, .* share 512$/);
  });

  const refused: [string, object][] = [
    ["functions", { functions: [{ name: "f" }] }],
    ["response_format", { response_format: { type: "odd" } }],
    ["logprobs", { logprobs: true }],
    ["logit_bias", { logit_bias: { 5: 1 } }],
  ];
  for (const [member, members] of refused) {
    it(`refuses ${member} instead of selling an answer without it`, async () => {
      const error = await rejectionOf(generate(upstream, chatBody("tiny", "hello", members)));
      expect(error).to.have.property("code", "bad-request");
      expect(error).to.have.property("message").that.includes(member);
    });
  }

  it("refuses embeddings, images and a model that it does not run", async () => {
    const image = [{ type: "image_url", image_url: { url: "data:image/png;base64,AA" } }];
    const codes = await Promise.all(
      [
        generate(upstream, { model: "tiny", input: "a" }, { path: "/v1/embeddings" }),
        generate(upstream, { model: "tiny", messages: [{ role: "user", content: image }] }),
        generate(upstream, chatBody("other", "hello")),
      ].map(async (run) => ((await rejectionOf(run)) as { code: string }).code),
    );
    expect(codes).to.deep.equal(["unsupported", "unsupported", "model-not-found"]);
  });

  it("says what is wrong with a model file that is missing or is none", async () => {
    const folder = mkdtempSync(join(tmpdir(), "infernet-"));
    const broken = join(folder, "broken.gguf");
    writeFileSync(broken, "not a model");
    try {
      expect(await rejectionOf(openEmbedded({ modelFile: join(folder, "none.gguf") }))).to.have.property(
        "code",
        "model-not-found",
      );
      expect(await rejectionOf(openEmbedded({ modelFile: broken }))).to.have.property("code", "bad-config");
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
