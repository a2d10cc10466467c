import { expect } from "chai";
import { promptTextBytes, promptTokenBound } from "../../protocol/prompt.ts";

describe("the size of a prompt", () => {
  it("is the UTF-8 bytes of every message's text, parts and names included", () => {
    const messages = [
      { role: "system", content: "é" },
      {
        role: "user",
        name: "ann",
        content: [
          { type: "text", text: "漢字" },
          { type: "text", text: "ab" },
        ],
      },
      { role: "assistant", content: null },
    ];
    expect(promptTextBytes({ messages })).to.equal(2 + 3 + 6 + 2);
  });

  it("counts tool calls, tools and response schemas as the JSON that the model reads", () => {
    const tools = [{ type: "function", function: { name: "add" } }];
    const calls = [{ id: "1", type: "function", function: { name: "add", arguments: "{}" } }];
    const format = { type: "json_object" };
    const body = { messages: [{ role: "assistant", tool_calls: calls }], tools, response_format: format };
    const expected = [tools, calls, format].reduce((sum, value) => sum + JSON.stringify(value).length, 0);
    expect(promptTextBytes(body)).to.equal(expected);
  });

  it("counts an image with all its bytes", () => {
    const part = { type: "image_url", image_url: { url: "data:image/png;base64,AAAA" } };
    expect(promptTextBytes({ messages: [{ role: "user", content: [part] }] })).to.equal(
      JSON.stringify(part).length,
    );
  });

  it("counts prompts and inputs, one text or several", () => {
    expect(promptTextBytes({ prompt: "abc" })).to.equal(3);
    expect(promptTextBytes({ input: ["abc", "de"] })).to.equal(5);
    expect(promptTextBytes({})).to.equal(0);
  });

  it("bounds a node's count by the text's bytes and what a template adds to each message and around all", () => {
    const messages = [
      { role: "system", content: "é" },
      { role: "user", content: "abc" },
    ];
    expect(promptTokenBound({ messages })).to.equal(5 + 2 * 16 + 32);
    expect(promptTokenBound({ prompt: "abc" })).to.equal(3 + 16 + 32);
    expect(promptTokenBound({ input: ["a", "b", "c"] })).to.equal(3 + 3 * 16 + 32);
    const tools = [{ type: "function" }];
    expect(promptTokenBound({ messages, tools })).to.equal(
      5 + JSON.stringify(tools).length + 2 * 16 + 32 + 256,
    );
  });
});
