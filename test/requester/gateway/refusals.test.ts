// What goes wrong at the gateway: refused before it is paid, told in OpenAI's shape, and never bought twice.
import { once } from "node:events";
import { connect } from "node:net";
import { expect } from "chai";
import OpenAI from "openai";
import { type ErrorCode, InfernetError } from "../../../protocol/errors.ts";
import {
  type Sale,
  type ScriptedGateway,
  SOLD,
  startScriptedGateway,
} from "../../support/scripted-gateway.ts";

const MODEL = SOLD.name;
const CHAT = { model: MODEL, messages: [{ role: "user" as const, content: "hi" }] };
const failWith = (code: ErrorCode, data: Record<string, string | number> = {}) => {
  throw new InfernetError(code, "it went wrong", { hint: "Do this.", data });
};

describe("what goes wrong at the gateway", () => {
  let gateway: ScriptedGateway;
  let client: OpenAI;
  let play: (sale: Sale) => Promise<void> | void;
  const refuse = async (act: () => PromiseLike<unknown>): Promise<InstanceType<typeof OpenAI.APIError>> => {
    try {
      await act();
    } catch (error) {
      return error as InstanceType<typeof OpenAI.APIError>;
    }
    throw new Error("it went well");
  };

  before(async () => {
    gateway = await startScriptedGateway((sale) => play(sale), { patience: { reconnectMs: 50 } });
    client = new OpenAI({ baseURL: `${gateway.url}/v1`, apiKey: "none", maxRetries: 0 });
  });
  after(() => gateway.stop(0));
  beforeEach(() => {
    gateway.sales.length = 0;
    play = (sale) => {
      sale.say({ role: "assistant", content: "Hello" }, "stop");
      sale.finish();
    };
  });

  describe("before anything is paid", () => {
    const image = { type: "image_url", image_url: { url: "https://example.org/cat.png" } };
    const sound = { type: "input_audio", input_audio: { data: "", format: "wav" } };
    for (const [what, body, param] of [
      ["two answers", { ...CHAT, n: 2 }, "n"],
      ["sound", { ...CHAT, modalities: ["text", "audio"] }, "modalities"],
      ["a voice", { ...CHAT, audio: { voice: "alloy", format: "wav" } }, "audio"],
      ["a spoken message", { ...CHAT, messages: [{ role: "user", content: [sound] }] }, "messages"],
      ["a remote image", { ...CHAT, messages: [{ role: "user", content: [image] }] }, null],
      ["what costs a node more", { ...CHAT, web_search_options: {} }, null],
      ["storing", { ...CHAT, store: true }, null],
      ["no messages", { model: MODEL, messages: [] }, "messages"],
      ["no model", { messages: CHAT.messages }, "model"],
    ] as const) {
      it(`refuses ${what} with 400`, async () => {
        const error = await refuse(() => client.chat.completions.create(body as never));
        expect(error).to.be.instanceOf(OpenAI.BadRequestError);
        expect(error).to.include({ status: 400, type: "invalid_request_error", code: "bad-request" });
        expect(error.param ?? null).to.equal(param);
        expect(gateway.sales).to.deep.equal([]);
      });
    }

    it("refuses what is no JSON, and lists of tokens as prompts", async () => {
      expect((await gateway.post("/v1/chat/completions", "{")).status).to.equal(400);
      const prompt = { model: MODEL, prompt: [1, 2, 3] };
      expect(await refuse(() => client.completions.create(prompt))).to.be.instanceOf(OpenAI.BadRequestError);
      const two = { model: MODEL, prompt: ["a", "b"] };
      expect(await refuse(() => client.completions.create(two))).to.be.instanceOf(OpenAI.BadRequestError);
      expect(gateway.sales).to.deep.equal([]);
    });
  });

  describe("with the market", () => {
    for (const [code, status, kind, type] of [
      ["unsupported", 400, OpenAI.BadRequestError, "invalid_request_error"],
      ["over-budget", 402, OpenAI.APIError, "payment_required"],
      ["insufficient-funds", 402, OpenAI.APIError, "payment_required"],
      ["model-not-offered", 404, OpenAI.NotFoundError, "invalid_request_error"],
      ["node-busy", 429, OpenAI.RateLimitError, "rate_limit_error"],
      ["node-unreachable", 502, OpenAI.InternalServerError, "server_error"],
      ["chain-unreachable", 503, OpenAI.InternalServerError, "server_error"],
      ["upstream-timeout", 504, OpenAI.InternalServerError, "server_error"],
    ] as const) {
      it(`tells ${code} as ${status} to OpenAI's client, streaming or not`, async () => {
        play = () => failWith(code);
        for (const stream of [true, false]) {
          const error = await refuse(() => client.chat.completions.create({ ...CHAT, stream }));
          expect(error).to.be.instanceOf(kind);
          expect(error).to.include({ status, type, code });
          expect(error.message).to.contain("it went wrong");
          expect(error.headers!.get("x-should-retry")).to.equal(null);
        }
      });
    }

    it("passes on when to ask again", async () => {
      play = () => failWith("node-busy", { retryAfter: 7 });
      const error = await refuse(() => client.chat.completions.create(CHAT));
      expect(error.headers!.get("retry-after")).to.equal("7");
    });

    it("tells a model that nobody sells as 404, but not one whose nodes are all away", async () => {
      play = () => failWith("no-node");
      const unsold = await refuse(() => client.chat.completions.create({ ...CHAT, model: "no-such-model" }));
      expect(unsold).to.be.instanceOf(OpenAI.NotFoundError);
      expect(unsold).to.include({ code: "model-not-offered", param: "model" });
      for (const model of [MODEL, "auto:fast"]) {
        const away = await refuse(() => client.chat.completions.create({ ...CHAT, model }));
        expect(away).to.include({ status: 503, code: "no-node" });
      }
      expect(await refuse(() => client.models.retrieve("no/such:model"))).to.be.instanceOf(
        OpenAI.NotFoundError,
      );
    });

    it("says nothing of a bug", async () => {
      play = () => {
        throw new Error("canary-detail");
      };
      const answer = await gateway.post("/v1/chat/completions", CHAT);
      expect(answer.status).to.equal(500);
      expect(await answer.text())
        .to.contain("internal")
        .and.not.to.contain("canary");
    });

    it("tells what breaks in mid-stream inside it, with what it cost, and no [DONE]", async () => {
      play = (sale) => {
        sale.say({ role: "assistant", content: "Hel" });
        failWith("upstream-failed", { charge: "21" });
      };
      const stream = await client.chat.completions.create({ ...CHAT, stream: true });
      const texts: unknown[] = [];
      const error = await refuse(async () => {
        for await (const chunk of stream) texts.push(chunk.choices[0]!.delta.content);
      });
      expect(texts).to.deep.equal(["Hel"]);
      expect(error).to.include({ code: "upstream-failed", type: "server_error" });
      const text = await (await gateway.post("/v1/chat/completions", { ...CHAT, stream: true })).text();
      expect(text).to.contain("x-infernet-charge=0.000021000000").and.not.to.contain("[DONE]");
    });

    it("gives an answer that came whole though its bill is disputed", async () => {
      play = (sale) => {
        sale.say({ role: "assistant", content: "Hello" }, "stop");
        sale.finish();
        failWith("node-misbehaved", { charge: "13" });
      };
      const { data, response } = await client.chat.completions.create(CHAT).withResponse();
      expect(data.choices[0]!.message.content).to.equal("Hello");
      expect(response.headers.get("x-infernet-charge")).to.equal("0.000013000000");
      const stream = await gateway.post("/v1/chat/completions", { ...CHAT, stream: true });
      expect(await stream.text()).to.match(/data: \[DONE\]\n\n$/);
    });
  });

  describe("with clients", () => {
    for (const stream of [true, false]) {
      it(`that leave ${stream ? "a stream" : "before a whole answer"}: the purchase ends at once`, async () => {
        const begun = Promise.withResolvers<void>();
        const told = new Promise((resolve) => gateway.subscribe(resolve));
        play = async (sale) => {
          sale.say({ role: "assistant", content: "Hel" });
          begun.resolve();
          await sale.aborted(7n);
        };
        const leave = new AbortController();
        const asked = client.chat.completions.create({ ...CHAT, stream }, { signal: leave.signal });
        const left = stream ? asked : refuse(() => asked);
        await begun.promise;
        if (stream) await asked;
        leave.abort();
        if (!stream) expect(await left).to.be.instanceOf(OpenAI.APIUserAbortError);
        expect(await told).to.include({ type: "failed", code: "interrupted", charge: 7n });
      });
    }

    it("that do not read: a bound is set to what waits for them, and then the purchase ends", async () => {
      const ended = Promise.withResolvers<number>();
      const content = "x".repeat(100_000);
      play = async (sale) => {
        let sent = 0;
        const end = sale.aborted();
        end.catch(() => ended.resolve(sent));
        for (; sent < 1000 && !sale.input.signal!.aborted; sent += 1) {
          sale.say({ content });
          await new Promise((resolve) => setImmediate(resolve));
        }
        await end;
      };
      const { port, host } = new URL(gateway.url);
      const socket = connect(Number(port), "127.0.0.1").on("error", () => {});
      const body = JSON.stringify({ ...CHAT, stream: true });
      socket.pause();
      socket.write(
        `POST /v1/chat/completions HTTP/1.1\r\nHost: ${host}\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
      );
      // The kernel takes some megabytes before the gateway holds eight.
      expect(await ended.promise).to.be.within(80, 400);
      socket.destroy();
      await once(socket, "close");
    });
  });

  describe("and is asked again", () => {
    const key = (name: string) => ({ headers: { "Idempotency-Key": name } });

    it("under the same Idempotency-Key: it is bought once, streamed or whole", async () => {
      const first = await client.chat.completions.create(CHAT, key("again-1"));
      const second = await client.chat.completions.create(CHAT, key("again-1"));
      expect(second).to.deep.equal(first);
      await client.chat.completions.create({ ...CHAT, stream: true }, key("again-2"));
      const again = await client.chat.completions.create({ ...CHAT, stream: true }, key("again-2"));
      let text = "";
      for await (const chunk of again) text += chunk.choices[0]?.delta.content ?? "";
      expect(text).to.equal("Hello");
      expect(gateway.sales).to.have.length(2);
    });

    it("after its line broke: what runs is joined from its start, and goes on", async () => {
      const goOn = Promise.withResolvers<void>();
      play = async (sale) => {
        sale.say({ role: "assistant", content: "Hel" });
        await goOn.promise;
        sale.say({ content: "lo" }, "stop");
        sale.finish();
      };
      const leave = new AbortController();
      const options = { ...key("again-3"), signal: leave.signal };
      const broken = await client.chat.completions.create({ ...CHAT, stream: true }, options);
      for await (const _chunk of broken) leave.abort();
      const again = client.chat.completions.create({ ...CHAT, stream: true }, key("again-3"));
      goOn.resolve();
      let text = "";
      for await (const chunk of await again) text += chunk.choices[0]?.delta.content ?? "";
      expect(text).to.equal("Hello");
      expect(gateway.sales).to.have.length(1);
    });

    it("by nobody: a purchase that was left ends after a while, though it had a key", async () => {
      const ended = Promise.withResolvers<void>();
      play = async (sale) => {
        sale.say({ role: "assistant", content: "Hel" });
        await sale.aborted(7n).finally(() => ended.resolve());
      };
      const leave = new AbortController();
      const stream = await client.chat.completions.create(
        { ...CHAT, stream: true },
        { ...key("again-4"), signal: leave.signal },
      );
      for await (const _chunk of stream) leave.abort();
      await ended.promise;
    });

    it("with other bytes: 409, and no client asks that again by itself", async () => {
      await client.chat.completions.create(CHAT, key("again-5"));
      const error = await refuse(() => client.chat.completions.create({ ...CHAT, seed: 1 }, key("again-5")));
      expect(error).to.be.instanceOf(OpenAI.ConflictError);
      expect(error.code).to.equal("request-mismatch");
      expect(error.headers!.get("x-should-retry")).to.equal("false");
      const wrong = await refuse(() => client.chat.completions.create(CHAT, key("x".repeat(256))));
      expect(wrong).to.be.instanceOf(OpenAI.BadRequestError);
      expect(gateway.sales).to.have.length(1);
    });

    it("by OpenAI's client itself: what was charged is not bought a second time, what cost nothing is", async () => {
      const eager = new OpenAI({ baseURL: `${gateway.url}/v1`, apiKey: "none", maxRetries: 2 });
      play = () => failWith("upstream-failed", { charge: "21" });
      const charged = await refuse(() => eager.chat.completions.create(CHAT, key("again-6")));
      expect(charged.headers!.get("x-infernet-charge")).to.equal("0.000021000000");
      expect(gateway.sales).to.have.length(1);
      // The same key tells the same failure, at no new charge.
      await refuse(() => eager.chat.completions.create(CHAT, key("again-6")));
      expect(gateway.sales).to.have.length(1);
      play = (sale) => {
        if (gateway.sales.length < 3) failWith("node-busy", { retryAfter: 0 });
        sale.say({ role: "assistant", content: "Hello" }, "stop");
        sale.finish();
      };
      const { choices } = await eager.chat.completions.create(CHAT, key("again-7"));
      expect([choices[0]!.message.content, gateway.sales.length]).to.deep.equal(["Hello", 3]);
    });
  });

  it("ends with the gateway: what runs may end, then it is ended", async () => {
    const stopping = await startScriptedGateway(async (sale) => {
      sale.say({ role: "assistant", content: "Hel" });
      await sale.aborted(5n);
    });
    const answer = await stopping.post("/v1/chat/completions", { ...CHAT, stream: true });
    const text = answer.text();
    await stopping.stop(20);
    expect(await text).to.contain("interrupted");
    expect(stopping.events).to.have.length(1);
    expect(stopping.events[0]).to.include({ code: "interrupted", charge: 5n });
  });
});
