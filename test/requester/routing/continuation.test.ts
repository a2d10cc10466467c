import { expect } from "chai";
import { canContinue, continueBody } from "../../../requester/routing/continuation.ts";
import { changeBody } from "../../../requester/routing/request-body.ts";

const bytes = (body: object | string) => Buffer.from(typeof body === "string" ? body : JSON.stringify(body));
const textOf = (body: Uint8Array | undefined) => Buffer.from(body!).toString();
const user = { role: "user", content: "Count." };
const chat = { model: "m", stream: true, messages: [user] };
const begun = { text: "One, two,", tokens: 4, isPlain: true };

describe("a request that goes on", () => {
  it("keeps every number as it was written, and changes what it is told to", () => {
    const body = bytes('{"model":"a","seed":12345678901234567890,"temperature":1.0,"messages":[{"n":1e3}]}');
    expect(textOf(changeBody(body, () => ({ model: "b" })))).to.equal(
      '{"model":"b","seed":12345678901234567890,"temperature":1.0,"messages":[{"n":1e3}]}',
    );
  });

  it("asks for the rest of a chat behind what was said, and for as many tokens less", () => {
    const body = bytes({ ...chat, max_tokens: 10, max_completion_tokens: 9 });
    expect(JSON.parse(textOf(continueBody("/v1/chat/completions", body, begun)))).to.deep.equal({
      ...{ model: "m", stream: true, max_tokens: 6, max_completion_tokens: 5 },
      messages: [user, { role: "assistant", content: "One, two," }],
    });
  });

  it("extends an answer that the client had begun itself", () => {
    const body = bytes({ ...chat, messages: [user, { role: "assistant", content: "Well: ", name: "x" }] });
    const { messages } = JSON.parse(textOf(continueBody("/v1/chat/completions", body, begun)));
    expect(messages).to.deep.equal([user, { role: "assistant", content: "Well: One, two,", name: "x" }]);
  });

  it("asks for the rest of a completion behind its prompt, and for nothing when all was said", () => {
    const body = bytes({ model: "m", stream: true, prompt: "Count: ", max_tokens: 5 });
    expect(JSON.parse(textOf(continueBody("/v1/completions", body, begun)))).to.deep.equal({
      ...{ model: "m", stream: true, prompt: "Count: One, two,", max_tokens: 1 },
    });
    const all = { ...begun, tokens: 5 };
    expect(continueBody("/v1/completions", body, all)).to.equal(undefined);
  });

  it("goes on with text that streams, and with nothing that only means something whole", () => {
    const can = (
      changes: object,
      path: "/v1/chat/completions" | "/v1/completions" = "/v1/chat/completions",
    ) => canContinue(path, bytes({ ...chat, ...changes }), begun);
    const harmless = { tools: [], stop: null, logprobs: false, response_format: { type: "text" }, seed: 1 };
    expect(can({})).to.equal(true);
    expect(can({ ...harmless, tool_choice: "none" })).to.equal(true);
    expect(can({ prompt: "p" }, "/v1/completions")).to.equal(true);
    const refused = [
      ...[{ stream: false }, { tools: [{}] }, { functions: [{}] }, { tool_choice: "auto" }],
      ...[{ response_format: { type: "json_object" } }, { logprobs: true }, { logprobs: 3 }, { stop: "\n" }],
      ...[{ stop: ["x"] }, { echo: true }, { suffix: "end" }, { messages: "text" }],
      { messages: [user, { role: "assistant", content: [{ type: "text", text: "x" }] }] },
    ];
    for (const changes of refused) expect(can(changes), JSON.stringify(changes)).to.equal(false);
    expect(can({ prompt: ["a", "b"] }, "/v1/completions")).to.equal(false);
    expect(canContinue("/v1/chat/completions", bytes(chat), { ...begun, isPlain: false })).to.equal(false);
  });
});
