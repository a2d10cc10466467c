// What a request needs of its model, and the refusal of a model that lacks it.
import { expect } from "chai";
import { checkFeatures, featuresOf } from "../../protocol/features.ts";
import { failureOf } from "../support/machine.ts";

const CHAT = "/v1/chat/completions";
const USER = { role: "user", content: "hi" };
const TOOL = { type: "function", function: { name: "f" } };
const ANSWER = { role: "assistant", content: "Once upon" };
const CALL = { role: "assistant", tool_calls: [{ id: "1", function: { name: "f", arguments: "{}" } }] };
const IMAGE = { type: "image_url", image_url: { url: "data:image/png;base64,AA==" } };

describe("the features that a request needs", () => {
  const cases: [string, object, string[]][] = [
    ["a plain chat", { messages: [USER] }, ["chat"]],
    ["an earlier answer", { messages: [USER, ANSWER, USER] }, ["chat"]],
    ["an answer at its end", { messages: [USER, ANSWER] }, ["chat", "continue"]],
    ["tools", { messages: [USER], tools: [TOOL] }, ["chat", "tools"]],
    [
      "tools that it forbids to use",
      { messages: [USER], tools: [TOOL], tool_choice: "none" },
      ["chat", "tools"],
    ],
    ["functions of the old form", { messages: [USER], functions: [{ name: "f" }] }, ["chat", "tools"]],
    ["an empty list of tools", { messages: [USER], tools: [] }, ["chat"]],
    ["a tool's answer", { messages: [USER, CALL, { role: "tool", content: "1" }] }, ["chat", "tools"]],
    ["an object of JSON", { messages: [USER], response_format: { type: "json_object" } }, ["chat", "json"]],
    ["a schema", { messages: [USER], response_format: { type: "json_schema" } }, ["chat", "json"]],
    ["a form that nobody knows", { messages: [USER], response_format: { type: "odd" } }, ["chat", "json"]],
    ["plain text as its form", { messages: [USER], response_format: { type: "text" } }, ["chat"]],
    ["an image", { messages: [{ role: "user", content: [IMAGE] }] }, ["chat", "images"]],
    ["parts of text", { messages: [{ role: "user", content: [{ type: "text", text: "x" }] }] }, ["chat"]],
    ["messages that are none", { messages: [null, 3] }, ["chat"]],
    ["no messages", {}, ["chat"]],
  ];
  for (const [what, body, expected] of cases) {
    it(`of ${what}: ${expected.join(", ")}`, () => {
      expect(featuresOf(CHAT, body as Record<string, unknown>)).to.deep.equal(expected);
    });
  }

  it("follow the route", () => {
    expect(featuresOf("/v1/completions", { prompt: "x" })).to.deep.equal(["completions"]);
    expect(featuresOf("/v1/completions", { response_format: { type: "json_object" } })).to.deep.equal([
      "completions",
      "json",
    ]);
    expect(featuresOf("/v1/embeddings", { input: "x", messages: [ANSWER] })).to.deep.equal(["embeddings"]);
  });
});

describe("a model's features", () => {
  it("let a request pass that needs no other", () => {
    checkFeatures({ name: "m", features: ["chat", "tools", "a word of the future"] }, ["chat", "tools"]);
  });

  it("refuse one that needs more, and name all that is missing", async () => {
    const model = { name: "m", features: ["chat"] };
    const failure = await failureOf(() => checkFeatures(model, ["chat", "tools", "json"]));
    expect(failure.code).to.equal("unsupported");
    expect(failure.message).to.contain("tools, json");
    expect(failure.data).to.deep.equal({ missing: "tools,json" });
    expect(failure.hint).to.contain("chat");
  });

  it("that are empty mean nothing, not all", async () => {
    const failure = await failureOf(() => checkFeatures({ name: "m", features: [] }, ["chat"]));
    expect(failure.code).to.equal("unsupported");
  });
});
