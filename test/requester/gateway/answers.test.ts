// How answers that are bought reach clients: OpenAI's own client and bare HTTP, streams, whole answers and their bills.
import { request as httpRequest } from "node:http";
import { expect } from "chai";
import OpenAI from "openai";
import {
  COST_MILLIONTHS,
  NODE,
  type Sale,
  type ScriptedGateway,
  SOLD,
  startScriptedGateway,
  streamLines,
} from "../../support/scripted-gateway.ts";

const MODEL = SOLD.name;
const CHARGE = "0.000012000005";
const MESSAGES = [{ role: "user" as const, content: "hi" }];
const CHAT = { model: MODEL, messages: MESSAGES };

describe("answers of the gateway", () => {
  let gateway: ScriptedGateway;
  let client: OpenAI;
  let play: (sale: Sale) => Promise<void> | void;

  before(async () => {
    gateway = await startScriptedGateway((sale) => play(sale));
    client = new OpenAI({ baseURL: `${gateway.url}/v1`, apiKey: "none", maxRetries: 0 });
  });
  after(() => gateway.stop(0));
  beforeEach(() => {
    play = (sale) => {
      sale.say({ role: "assistant", content: "" });
      sale.say({ content: "Hello" });
      sale.say({ content: " world" }, "stop");
      sale.finish(3, 2);
    };
  });
  const lastSale = () => gateway.sales.at(-1)!;

  describe("as streams", () => {
    it("are the node's own payloads, and the client's bytes are what is bought", async () => {
      const body = `{ "stream":true,"model":"${MODEL}",  "messages":[{"role":"user","content":"h\\u0069"}], "seed": 7 }`;
      const answer = await gateway.post("/v1/chat/completions", body);
      expect(Buffer.from(lastSale().input.body).toString()).to.equal(body);
      expect(answer.headers.get("content-type")).to.equal("text/event-stream; charset=utf-8");
      expect(answer.headers.get("x-infernet-node")).to.equal(NODE);
      const data = streamLines(await answer.text()).filter((line) => line.startsWith("data: "));
      expect(data.map((line) => line.slice(0, 28))).to.deep.equal([
        ...Array(3).fill('data: {"id":"chatcmpl-1","ob'),
        "data: [DONE]",
      ]);
    });

    it("end with what they cost: a comment before the end, and trailers", async () => {
      const { trailers, text } = await readWithTrailers(gateway.url, { ...CHAT, stream: true });
      const lines = streamLines(text);
      expect(lines.at(-2)).to.equal(`: x-infernet-node=${NODE} x-infernet-charge=${CHARGE}`);
      expect(lines.at(-1)).to.equal("data: [DONE]");
      expect(trailers).to.deep.equal({ "x-infernet-node": NODE, "x-infernet-charge": CHARGE });
    });

    it("count only when asked to, and then on every chunk as OpenAI does", async () => {
      const read = async (stream_options?: { include_usage: boolean }) => {
        const stream = await client.chat.completions.create({
          ...{ ...CHAT, stream: true },
          ...(stream_options ? { stream_options } : {}),
        });
        const chunks = [];
        for await (const chunk of stream) chunks.push(chunk);
        return chunks;
      };
      for (const chunks of [await read(), await read({ include_usage: false })]) {
        expect(chunks).to.have.length(3);
        expect(chunks.every((chunk) => !("usage" in chunk))).to.equal(true);
      }
      const counted = await read({ include_usage: true });
      expect(counted.map(({ usage }) => usage)).to.deep.equal([
        ...[null, null, null],
        { prompt_tokens: 3, completion_tokens: 2, total_tokens: 5 },
      ]);
      expect(counted.at(-1)!.choices).to.deep.equal([]);
    });

    it("are kept alive by comments while the first token is far", async () => {
      const patient = await startScriptedGateway((sale) => play(sale), { patience: { openAfterMs: 20 } });
      try {
        const opened = Promise.withResolvers<void>();
        play = async (sale) => {
          await opened.promise;
          sale.say({ content: "late" }, "stop");
          sale.finish();
        };
        const answer = await patient.post("/v1/chat/completions", { ...CHAT, stream: true });
        expect(answer.status).to.equal(200);
        opened.resolve();
        expect(await answer.text())
          .to.contain("late")
          .and.to.contain("data: [DONE]");
      } finally {
        await patient.stop(0);
      }
    });
  });

  describe("as one object", () => {
    it("are bought as a stream, which risks two chunks and not all tokens, and say the same", async () => {
      const { data, response } = await client.chat.completions
        .create({ ...CHAT, max_tokens: 9 })
        .withResponse();
      expect(lastSale().body).to.deep.equal({ ...CHAT, max_tokens: 9, stream: true });
      expect(data).to.deep.include({
        ...{ id: "chatcmpl-1", object: "chat.completion", created: 1_800_000_000, model: MODEL },
        usage: { prompt_tokens: 3, completion_tokens: 2, total_tokens: 5 },
      });
      expect(data.choices).to.deep.equal([
        {
          ...{ index: 0, logprobs: null, finish_reason: "stop" },
          message: { role: "assistant", content: "Hello world" },
        },
      ]);
      expect(response.headers.get("x-infernet-node")).to.equal(NODE);
      expect(response.headers.get("x-infernet-charge")).to.equal(CHARGE);
      expect(response.headers.get("x-request-id")).to.match(/^[0-9a-f-]{36}$/);
    });

    it("join tool calls, thoughts and log probabilities", async () => {
      play = (sale) => {
        sale.say({ role: "assistant", reasoning: "Hm" });
        sale.say({ reasoning: "m." });
        sale.say({
          tool_calls: [
            { index: 0, id: "call_1", type: "function", function: { name: "add", arguments: '{"a"' } },
          ],
        });
        sale.say({ tool_calls: [{ index: 0, function: { arguments: ":1}" } }] });
        sale.say(
          { tool_calls: [{ index: 1, id: "call_2", function: { name: "sub", arguments: "{}" } }] },
          "tool_calls",
        );
        sale.finish();
      };
      const { choices } = await client.chat.completions.create(CHAT);
      expect(choices[0]).to.deep.include({
        finish_reason: "tool_calls",
        message: {
          ...{ role: "assistant", content: null, reasoning: "Hmm." },
          tool_calls: [
            { id: "call_1", type: "function", function: { name: "add", arguments: '{"a":1}' } },
            { id: "call_2", type: "function", function: { name: "sub", arguments: "{}" } },
          ],
        },
      });
    });

    it("are completions, too", async () => {
      play = ({ input }) => {
        const piece = { id: "cmpl-1", object: "text_completion", created: 1, model: MODEL };
        input.onPayload(
          JSON.stringify({ ...piece, choices: [{ index: 0, text: "a b", finish_reason: null }] }),
        );
        input.onPayload(
          JSON.stringify({ ...piece, choices: [{ index: 0, text: " c", finish_reason: "length" }] }),
        );
        input.onPayload("[DONE]");
      };
      const { choices, object } = await client.completions.create({ model: MODEL, prompt: "x" });
      expect([object, choices[0]!.text, choices[0]!.finish_reason]).to.deep.equal([
        "text_completion",
        "a b c",
        "length",
      ]);
    });

    it("are embeddings as numbers or, as OpenAI's client asks, as base64", async () => {
      const vectors = [
        [0.5, -0.25, 1],
        [3, 0, -0.125],
      ];
      const data = vectors.map((embedding, index) => ({ object: "embedding", index, embedding }));
      const whole = JSON.stringify({
        object: "list",
        data,
        model: MODEL,
        usage: { prompt_tokens: 2, total_tokens: 2 },
      });
      play = ({ input }) => input.onPayload(whole);
      const body = { model: MODEL, input: ["a", "b"] };
      const answer = await client.embeddings.create(body);
      expect(answer.data.map(({ embedding }) => [...embedding])).to.deep.equal(vectors);
      expect(await (await gateway.post("/v1/embeddings", body)).text()).to.equal(whole);
      expect(lastSale().body).to.deep.equal(body);
      const inFloats = await client.embeddings.create({ ...body, encoding_format: "float" });
      expect(inFloats.data.map(({ embedding }) => embedding)).to.deep.equal(vectors);
    });
  });

  it("list what is sold, under names with slashes and colons, and the names that stand for it", async () => {
    const named = await startScriptedGateway(() => {}, { aliases: { "gpt-4o": MODEL, gone: "not-sold" } });
    try {
      const models = new OpenAI({ baseURL: `${named.url}/v1`, apiKey: "none", maxRetries: 0 }).models;
      const ids = [];
      for await (const model of models.list()) ids.push(model.id);
      expect(ids).to.deep.equal([MODEL, "gpt-4o", "auto:cheap", "auto:fast"]);
      for (const id of ids) expect((await models.retrieve(id)).id).to.equal(id);
      expect(await models.retrieve("gpt-4o")).to.deep.include({
        ...{ object: "model", owned_by: "infernet", root: MODEL, context_length: 2048, nodes: 1 },
        pricing: { input: "0.100000", output: "0.400000" },
      });
      expect((await named.post("/healthz", "")).status).to.equal(404);
      expect(await (await fetch(`${named.url}/healthz`)).json()).to.deep.equal({ status: "ok" });
    } finally {
      await named.stop(0);
    }
  });

  it("tell whoever watches what was served, and what it cost", async () => {
    await client.chat.completions.create(CHAT);
    expect(gateway.events.at(-1)).to.deep.equal({
      ...{ type: "served", path: "/v1/chat/completions", model: MODEL, node: NODE },
      ...{ promptTokens: 3, completionTokens: 2, charge: COST_MILLIONTHS / 1_000_000n + 1n, firstTokenMs: 1 },
    });
    const status = (await (await fetch(`${gateway.url}/infernet/status`)).json()) as { requests: object };
    expect(status.requests).to.deep.include({ running: 0, failed: 0, served: gateway.events.length });
  });
});

/** A stream read to its end with the trailers behind it, which fetch does not show. */
function readWithTrailers(url: string, body: object): Promise<{ trailers: object; text: string }> {
  return new Promise((resolve, reject) => {
    const headers = { "content-type": "application/json" };
    const request = httpRequest(`${url}/v1/chat/completions`, { method: "POST", headers }, (answer) => {
      let text = "";
      answer.setEncoding("utf8").on("data", (part: string) => {
        text += part;
      });
      answer.on("end", () => resolve({ trailers: answer.trailers, text }));
    });
    request.on("error", reject).end(JSON.stringify(body));
  });
}
