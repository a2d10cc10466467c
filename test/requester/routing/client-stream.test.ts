import { expect } from "chai";
import { createClientStream } from "../../../requester/routing/client-stream.ts";

const piece = (id: string, delta: object, finish: string | null = null, more: object = {}) =>
  JSON.stringify({
    id,
    object: "chat.completion.chunk",
    created: 1,
    model: `model-${id}`,
    ...more,
    choices: [{ index: 0, delta, finish_reason: finish }],
  });
const usage = (id: string, prompt: number, completion: number) =>
  JSON.stringify({
    id,
    model: `model-${id}`,
    choices: [],
    usage: { prompt_tokens: prompt, completion_tokens: completion, total_tokens: prompt + completion },
  });

describe("the one answer that a client sees", () => {
  let sent: string[];
  const open = (
    isStream = true,
    path: "/v1/chat/completions" | "/v1/completions" = "/v1/chat/completions",
  ) => {
    sent = [];
    return createClientStream({ path, isStream }, (payload) => sent.push(payload));
  };

  it("is one node's answer byte for byte, whatever it says, as long as one node gives it", () => {
    const stream = open();
    const payloads = [
      piece("a", { role: "assistant", content: "" }),
      piece("a", { content: "One" }, null, { odd: [1.0, { x: null }] }),
      "no JSON",
      piece("a", {}, "stop"),
      usage("a", 5, 1),
      "[DONE]",
    ];
    for (const payload of payloads) stream.accept(payload);
    expect(sent).to.deep.equal(payloads);
    expect(stream.snapshot()).to.include({ text: "One", tokens: 1, finishReason: "stop", isWhole: true });
  });

  it("goes on with another node under the same id, without a second role, and with the sum of usage", () => {
    const stream = open();
    for (const word of ["One ", "two ", "three "])
      stream.accept(piece("a", { role: "assistant", content: word }));
    expect(stream.snapshot()).to.include({
      text: "One two three ",
      tokens: 4,
      isPlain: true,
      isWhole: false,
    });
    stream.switchNode();
    const before = sent.length;
    stream.accept(piece("b", { role: "assistant", content: "" }));
    stream.accept(piece("b", { role: "assistant", content: "four" }));
    stream.accept(piece("b", {}, "stop"));
    stream.accept(usage("b", 16, 1));
    stream.accept("[DONE]");
    stream.end();
    const [four, stop, counts, done, ...rest] = sent.slice(before);
    expect(JSON.parse(four!)).to.deep.include({ id: "a", model: "model-a", created: 1 });
    expect(JSON.parse(four!).choices[0].delta).to.deep.equal({ content: "four" });
    expect(JSON.parse(stop!).choices[0]).to.include({ finish_reason: "stop" });
    expect(JSON.parse(counts!).usage).to.deep.equal({
      prompt_tokens: 12,
      completion_tokens: 5,
      total_tokens: 17,
    });
    expect([done, rest]).to.deep.equal(["[DONE]", []]);
    expect(stream.sumOf({ promptTokens: 16, completionTokens: 1 })).to.deep.equal({
      promptTokens: 12,
      completionTokens: 5,
    });
  });

  it("begins anew with another node while there is no text, under the first one's id", () => {
    const stream = open();
    stream.accept(piece("a", { role: "assistant", content: "" }));
    stream.switchNode();
    stream.accept(piece("b", { role: "assistant", content: "One" }));
    expect(sent.map((payload) => JSON.parse(payload).id)).to.deep.equal(["a", "a"]);
    expect(stream.sumOf({ promptTokens: 7, completionTokens: 1 }).promptTokens).to.equal(7);
  });

  it("is no plain text once it thinks, calls tools or tells probabilities", () => {
    for (const odd of [
      piece("a", { reasoning_content: "hm" }),
      piece("a", { tool_calls: [{ index: 0 }] }),
      JSON.stringify({ choices: [{ index: 0, delta: { content: "x" }, logprobs: { content: [] } }] }),
    ]) {
      const stream = open();
      stream.accept(odd);
      expect(stream.snapshot().isPlain, odd).to.equal(false);
    }
  });

  it("ends once, with a reason of its own where no node gave one", () => {
    const stream = open();
    stream.accept(piece("a", { content: "One" }));
    stream.end("length");
    stream.end();
    stream.accept("[DONE]");
    expect(JSON.parse(sent[1]!)).to.deep.include({ id: "a", object: "chat.completion.chunk" });
    expect(JSON.parse(sent[1]!).choices[0].finish_reason).to.equal("length");
    expect(sent.slice(2)).to.deep.equal(["[DONE]"]);
  });

  it("is whole at once when it does not stream", () => {
    const stream = open(false);
    expect(stream.snapshot().isWhole).to.equal(false);
    stream.accept(
      JSON.stringify({
        choices: [{ index: 0, message: { role: "assistant", content: "Yes" }, finish_reason: "stop" }],
      }),
    );
    stream.end();
    expect(sent).to.have.length(1);
    expect(stream.snapshot()).to.include({ isWhole: true, isPlain: true, text: "Yes" });
  });
});
