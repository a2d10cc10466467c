import { expect } from "chai";
import fc from "fast-check";
import { InfernetError } from "../../protocol/errors.ts";
import { chunkPayload, foldChunks, type OpenAiChunk, usagePayload } from "../../protocol/openai-answer.ts";
import { readGenerationRequest } from "../../protocol/openai-request.ts";
import type { ModelPath } from "../../protocol/wire.ts";

const CHAT: ModelPath = "/v1/chat/completions";
const meta = { path: CHAT, id: "chatcmpl-1", created: 1_700_000_000, model: "tiny" };
const counts = { promptTokens: 3, completionTokens: 2 };

function read(path: ModelPath, body: unknown) {
  return readGenerationRequest(path, Buffer.from(typeof body === "string" ? body : JSON.stringify(body)));
}

function chat(extra: object = {}) {
  return { model: "tiny", messages: [{ role: "user", content: "hi" }], ...extra };
}

function textChunk(content: string, finish_reason: string | null = null): OpenAiChunk {
  return { choices: [{ index: 0, delta: { content }, finish_reason }] };
}

describe("reading an OpenAI request", () => {
  it("tells model, stream, limits and prompt size, and keeps members that it does not know", () => {
    const request = read(
      CHAT,
      chat({ stream: true, stream_options: { include_usage: true }, max_tokens: 5, mirostat: 2 }),
    );
    expect(request).to.include({
      model: "tiny",
      stream: true,
      includeUsage: true,
      maxTokens: 5,
      promptTextBytes: 2,
    });
    expect(request.body.mirostat).to.equal(2);
  });

  it("takes a limit by its newer or its older name, and no two that differ", () => {
    expect(read(CHAT, chat({ max_tokens: 5 })).maxTokens).to.equal(5);
    expect(read(CHAT, chat({ max_completion_tokens: 9, max_tokens: 9 })).maxTokens).to.equal(9);
    expect(read(CHAT, chat()).maxTokens).to.equal(undefined);
    expect(() => read(CHAT, chat({ max_completion_tokens: 1, max_tokens: 9 }))).to.throw(
      InfernetError,
      /differ/,
    );
  });

  it("takes null for absent, as OpenAI does", () => {
    const request = read(
      CHAT,
      chat({ max_tokens: null, stream: null, n: null, stop: null, stream_options: null }),
    );
    expect(request).to.include({ stream: false, includeUsage: false, maxTokens: undefined });
  });

  it("never streams embeddings", () => {
    expect(read("/v1/embeddings", { model: "m", input: ["a"], stream: true }).stream).to.equal(false);
  });

  const wrong: [string, ModelPath, unknown, RegExp][] = [
    ["text that is not JSON", CHAT, "{", /not JSON/],
    ["a body that is no object", CHAT, "[]", /malformed/],
    ["no model", CHAT, { messages: [{ role: "user", content: "x" }] }, /at model/],
    ["no messages", CHAT, { model: "m" }, /at messages/],
    ["an empty list of messages", CHAT, { model: "m", messages: [] }, /at messages/],
    [
      "content that is a number",
      CHAT,
      { model: "m", messages: [{ role: "user", content: 1 }] },
      /at messages\.0\.content/,
    ],
    ["several answers", CHAT, chat({ n: 2 }), /at n: a job pays for one answer/],
    ["a stream flag that is text", CHAT, chat({ stream: "yes" }), /at stream/],
    ["a limit of zero", CHAT, chat({ max_tokens: 0 }), /at max_tokens/],
    ["a limit that is a fraction", CHAT, chat({ max_completion_tokens: 1.5 }), /at max_completion_tokens/],
    [
      "several prompts",
      "/v1/completions",
      { model: "m", prompt: ["a", "b"] },
      /at prompt: expected one text/,
    ],
    ["a prompt of token numbers", "/v1/completions", { model: "m", prompt: [1, 2] }, /at prompt/],
    ["inputs that are numbers", "/v1/embeddings", { model: "m", input: [1] }, /at input/],
    [
      "an image that the node would have to fetch",
      CHAT,
      chat({
        messages: [
          { role: "user", content: [{ type: "image_url", image_url: { url: "http://10.0.0.1/x" } }] },
        ],
      }),
      /data: URL/,
    ],
  ];
  for (const [what, path, body, message] of wrong) {
    it(`refuses ${what}`, () => {
      expect(() => read(path, body))
        .to.throw(InfernetError, message)
        .with.property("code", "bad-request");
    });
  }

  it("refuses bytes that are not UTF-8", () => {
    expect(() => readGenerationRequest(CHAT, Uint8Array.of(0x22, 0xff, 0x22))).to.throw(
      InfernetError,
      /UTF-8/,
    );
  });

  it("answers any bytes with a request or with bad-request, never with a crash", () => {
    const members = fc.dictionary(
      fc.constantFrom("model", "messages", "n", "stream", "prompt"),
      fc.jsonValue(),
    );
    fc.assert(
      fc.property(
        fc.oneof(
          members.map((body) => JSON.stringify(body)),
          fc.string(),
        ),
        (text) => {
          try {
            read(CHAT, text);
          } catch (error) {
            expect(error).to.be.instanceOf(InfernetError).with.property("code", "bad-request");
          }
        },
      ),
      { seed: 20, numRuns: 300 },
    );
  });
});

describe("writing OpenAI answers", () => {
  it("writes a piece with the members that all pieces share", () => {
    expect(JSON.parse(chunkPayload(textChunk("a"), meta))).to.deep.equal({
      id: "chatcmpl-1",
      object: "chat.completion.chunk",
      created: 1_700_000_000,
      model: "tiny",
      choices: [{ index: 0, delta: { content: "a" }, finish_reason: null }],
    });
  });

  it("keeps a payload on one line whatever the text", () => {
    expect(chunkPayload(textChunk("a\r\nb\u2028"), meta)).not.to.match(/[\r\n]/);
  });

  it("writes usage with no choices", () => {
    const payload = JSON.parse(usagePayload(counts, meta));
    expect(payload.choices).to.deep.equal([]);
    expect(payload.usage).to.deep.equal({ prompt_tokens: 3, completion_tokens: 2, total_tokens: 5 });
  });

  it("folds a chat stream into the message that it spells, however it was cut", () => {
    fc.assert(
      fc.property(fc.array(fc.string()), (pieces) => {
        const chunks: OpenAiChunk[] = [
          { choices: [{ index: 0, delta: { role: "assistant", content: "" }, finish_reason: null }] },
          ...pieces.map((piece) => textChunk(piece)),
          { choices: [{ index: 0, delta: {}, finish_reason: "stop" }] },
        ];
        expect(foldChunks(chunks, counts, meta)).to.deep.include({
          object: "chat.completion",
          choices: [
            {
              index: 0,
              message: { role: "assistant", content: pieces.join("") },
              logprobs: null,
              finish_reason: "stop",
            },
          ],
        });
      }),
      { seed: 21 },
    );
  });

  it("folds tool calls by index and joins their arguments", () => {
    const call = (index: number, args: string, id?: string) => ({
      choices: [
        {
          index: 0,
          delta: {
            tool_calls: [
              {
                index,
                ...(id ? { id, type: "function" } : {}),
                function: { ...(id ? { name: `f${index}` } : {}), arguments: args },
              },
            ],
          },
          finish_reason: null,
        },
      ],
    });
    const folded = foldChunks([call(0, '{"a"', "x"), call(0, ":1}"), call(1, "{}", "y")], counts, meta);
    expect(folded).to.deep.nested.include({
      "choices[0].message.content": null,
      "choices[0].message.tool_calls": [
        { id: "x", type: "function", function: { name: "f0", arguments: '{"a":1}' } },
        { id: "y", type: "function", function: { name: "f1", arguments: "{}" } },
      ],
    });
  });

  it("joins reasoning text and log probabilities beside the content", () => {
    const piece = (token: string) => ({
      choices: [
        {
          index: 0,
          delta: { reasoning_content: token },
          logprobs: { content: [{ token }] },
          finish_reason: null,
        },
      ],
    });
    expect(foldChunks([piece("a"), piece("b")], counts, meta)).to.deep.nested.include({
      "choices[0].message.reasoning_content": "ab",
      "choices[0].logprobs.content": [{ token: "a" }, { token: "b" }],
    });
  });

  it("folds completions into text and embeddings into vectors", () => {
    const text = foldChunks(
      ["a", "b"].map((piece) => ({ choices: [{ index: 0, text: piece, finish_reason: null }] })),
      counts,
      { ...meta, path: "/v1/completions" },
    );
    expect(text).to.deep.nested.include({ "choices[0].text": "ab" });
    const vectors = foldChunks(
      [{ data: [{ index: 0, embedding: [1] }] }],
      { promptTokens: 4, completionTokens: 0 },
      { ...meta, path: "/v1/embeddings" },
    );
    expect(vectors).to.deep.equal({
      object: "list",
      data: [{ index: 0, embedding: [1] }],
      model: "tiny",
      usage: { prompt_tokens: 4, total_tokens: 4 },
    });
  });
});
