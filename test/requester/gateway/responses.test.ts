// The Responses API on top of chats: what OpenAI's own client makes of it, what a node is asked, and what is refused.
import { expect } from "chai";
import OpenAI from "openai";
import type { ResponseCreateParams } from "openai/resources/responses/responses";
import { InfernetError } from "../../../protocol/errors.ts";
import {
  type Sale,
  type ScriptedGateway,
  SOLD,
  startScriptedGateway,
} from "../../support/scripted-gateway.ts";

const MODEL = SOLD.name;
const ADD = {
  ...{ type: "function" as const, name: "add", description: "adds", strict: true },
  parameters: { type: "object", properties: { a: { type: "number" } } },
};
const CALL = { index: 0, id: "call_1", type: "function", function: { name: "add", arguments: "" } };

describe("the Responses API of the gateway", () => {
  let gateway: ScriptedGateway;
  let client: OpenAI;
  let play: (sale: Sale) => void;

  before(async () => {
    gateway = await startScriptedGateway((sale) => play(sale));
    client = new OpenAI({ baseURL: `${gateway.url}/v1`, apiKey: "none", maxRetries: 0 });
  });
  after(() => gateway.stop(0));
  beforeEach(() => {
    gateway.sales.length = 0;
    play = sayHello;
  });
  const sayHello = (sale: Sale) => {
    sale.say({ role: "assistant", content: "" });
    sale.say({ content: "Hello" });
    sale.say({ content: " world" });
    sale.say({}, "stop");
    sale.finish(3, 2);
  };
  const thinkAndCall = (sale: Sale) => {
    sale.say({ role: "assistant", reasoning_content: "Hmm" });
    sale.say({ content: "I add." });
    sale.say({ tool_calls: [CALL] });
    sale.say({ tool_calls: [{ index: 0, function: { arguments: '{"a":' } }] });
    sale.say({ tool_calls: [{ index: 0, function: { arguments: "1}" } }] });
    sale.say({
      tool_calls: [{ ...CALL, index: 1, id: "call_2", function: { name: "add", arguments: "{}" } }],
    });
    sale.say({}, "tool_calls");
    sale.finish(10, 20);
  };
  const asked = async (request: ResponseCreateParams) => {
    await client.responses.create({ ...request, stream: false });
    return gateway.sales.at(-1)!.body;
  };

  describe("asks a node", () => {
    it("what a string says", async () => {
      expect(await asked({ model: MODEL, input: "hi" })).to.deep.equal({
        ...{ model: MODEL, stream: true, messages: [{ role: "user", content: "hi" }] },
      });
    });

    it("with instructions, limits, formats and effort", async () => {
      const format = {
        type: "json_schema" as const,
        name: "answer",
        schema: { type: "object" },
        strict: true,
      };
      const body = await asked({
        ...{ model: MODEL, input: "hi", instructions: "Be short.", max_output_tokens: 9 },
        ...{ temperature: 0, top_p: 0.5, reasoning: { effort: "low" }, text: { format }, store: false },
      });
      expect(body).to.deep.equal({
        ...{ model: MODEL, stream: true, max_tokens: 9, temperature: 0, top_p: 0.5, reasoning_effort: "low" },
        messages: [
          { role: "system", content: "Be short." },
          { role: "user", content: "hi" },
        ],
        response_format: {
          ...{
            type: "json_schema",
            json_schema: { name: "answer", schema: { type: "object" }, strict: true },
          },
        },
      });
    });

    it("with the items of a conversation: messages, images, calls and what they gave", async () => {
      const url = "data:image/png;base64,AAAA";
      const { messages } = await asked({
        model: MODEL,
        input: [
          { role: "developer", content: "Be kind." },
          { role: "user", content: [{ type: "input_text", text: "one" }] },
          {
            role: "user",
            content: [
              { type: "input_text", text: "two" },
              { type: "input_image", image_url: url, detail: "low" },
            ],
          },
          { type: "reasoning", id: "rs_1", summary: [] },
          {
            ...{ type: "message", role: "assistant", id: "msg_1", status: "completed" },
            content: [{ type: "output_text", text: "I add.", annotations: [] }],
          },
          { type: "function_call", call_id: "call_1", name: "add", arguments: "{}" },
          { type: "function_call", call_id: "call_2", name: "add", arguments: "{}" },
          { type: "function_call_output", call_id: "call_1", output: "1" },
          { type: "function_call_output", call_id: "call_2", output: [{ type: "input_text", text: "2" }] },
        ],
      });
      const call = (id: string) => ({ id, type: "function", function: { name: "add", arguments: "{}" } });
      expect(messages).to.deep.equal([
        { role: "system", content: "Be kind." },
        { role: "user", content: "one" },
        {
          role: "user",
          content: [
            { type: "text", text: "two" },
            { type: "image_url", image_url: { url, detail: "low" } },
          ],
        },
        { role: "assistant", content: "I add.", tool_calls: [call("call_1"), call("call_2")] },
        { role: "tool", tool_call_id: "call_1", content: "1" },
        { role: "tool", tool_call_id: "call_2", content: "2" },
      ]);
    });

    it("with functions, and which of them must be called", async () => {
      const body = await asked({
        ...{ model: MODEL, input: "hi", tools: [ADD], parallel_tool_calls: false },
        tool_choice: { type: "function", name: "add" },
      });
      const { name, description, parameters, strict } = ADD;
      expect(body).to.deep.include({
        tools: [{ type: "function", function: { name, description, parameters, strict } }],
        tool_choice: { type: "function", function: { name: "add" } },
        parallel_tool_calls: false,
      });
    });
  });

  describe("answers", () => {
    it("with one object", async () => {
      const response = await client.responses.create({ model: MODEL, input: "hi", metadata: { a: "b" } });
      expect(response.output_text).to.equal("Hello world");
      expect(response).to.deep.include({
        ...{ object: "response", status: "completed", error: null, incomplete_details: null, model: MODEL },
        ...{ metadata: { a: "b" }, tools: [], tool_choice: "auto", store: false },
      });
      expect(response.usage).to.deep.include({ input_tokens: 3, output_tokens: 2, total_tokens: 5 });
      expect(response.id).to.match(/^resp_/);
      expect(response.output[0]).to.deep.include({ type: "message", role: "assistant", status: "completed" });
    });

    it("with thoughts and calls, each an item of its own", async () => {
      play = thinkAndCall;
      const { output, status } = await client.responses.create({ model: MODEL, input: "hi", tools: [ADD] });
      expect(status).to.equal("completed");
      expect(output.map((item) => item.type)).to.deep.equal([
        "reasoning",
        "message",
        "function_call",
        "function_call",
      ]);
      expect(output[0]).to.deep.include({ content: [{ type: "reasoning_text", text: "Hmm" }] });
      expect(output[2]).to.deep.include({
        call_id: "call_1",
        name: "add",
        arguments: '{"a":1}',
        status: "completed",
      });
      expect(output[3]).to.deep.include({ call_id: "call_2", arguments: "{}" });
    });

    it("with what came, where the limit ended it", async () => {
      play = (sale) => {
        sale.say({ content: "Hel" }, "length");
        sale.finish();
      };
      const response = await client.responses.create({ model: MODEL, input: "hi", max_output_tokens: 1 });
      expect(response).to.deep.include({ status: "incomplete", output_text: "Hel" });
      expect(response.incomplete_details).to.deep.equal({ reason: "max_output_tokens" });
    });
  });

  describe("streams", () => {
    it("the typed events of a text, numbered, in OpenAI's order", async () => {
      const stream = await client.responses.create({ model: MODEL, input: "hi", stream: true });
      const events = [];
      for await (const event of stream) events.push(event);
      expect(events.map(({ type }) => type)).to.deep.equal([
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
      ]);
      expect(events.map(({ sequence_number }) => sequence_number)).to.deep.equal([...events.keys()]);
      const last = events.at(-1) as Extract<(typeof events)[number], { type: "response.completed" }>;
      expect(last.response.usage).to.deep.include({ input_tokens: 3, output_tokens: 2 });
      const raw = await (
        await gateway.post("/v1/responses", { model: MODEL, input: "hi", stream: true })
      ).text();
      expect(raw).to.match(/^event: response\.created\ndata: \{/);
      expect(raw).not.to.contain("[DONE]");
      expect(raw).to.contain("x-infernet-charge=0.000012000005");
    });

    it("what OpenAI's own helper puts together again: thoughts, text and calls", async () => {
      play = thinkAndCall;
      const stream = client.responses.stream({ model: MODEL, input: "hi", tools: [ADD] });
      const kinds = new Set<string>();
      for await (const { type } of stream) kinds.add(type);
      const response = await stream.finalResponse();
      expect(response.output_text).to.equal("I add.");
      expect(response.output[2]).to.deep.include({
        type: "function_call",
        arguments: '{"a":1}',
        call_id: "call_1",
      });
      expect([...kinds]).to.include.members([
        "response.reasoning_text.delta",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
      ]);
    });

    it("what breaks in the middle as a failed response, and then an error", async () => {
      play = (sale) => {
        sale.say({ content: "Hel" });
        throw new InfernetError("upstream-failed", "it went wrong", { data: { charge: "21" } });
      };
      const stream = await client.responses.create({ model: MODEL, input: "hi", stream: true });
      const events: { type: string; response?: { status?: string; error?: unknown } }[] = [];
      let error: unknown;
      try {
        for await (const event of stream) events.push(event);
      } catch (caught) {
        error = caught;
      }
      expect(events.at(-1)!.type).to.equal("response.failed");
      expect(events.at(-1)!.response!.status).to.equal("failed");
      expect(error).to.be.instanceOf(OpenAI.APIError);
      expect(error).to.include({ code: "upstream-failed" });
    });
  });

  describe("refuses before anything is paid", () => {
    const web = { type: "web_search" } as const;
    for (const [what, extra, param] of [
      ["a stored conversation", { previous_response_id: "resp_1" }, "previous_response_id"],
      ["another stored conversation", { conversation: "conv_1" }, "conversation"],
      ["to store", { store: true }, "store"],
      ["work in the background", { background: true }, "background"],
      ["a stored prompt", { prompt: { id: "pmpt_1" } }, "prompt"],
      ["cut input", { truncation: "auto" }, "truncation"],
      ["built-in tools", { tools: [web] }, "tools"],
      ["a choice of them", { tools: [ADD], tool_choice: web }, "tool_choice"],
      ["what cannot be included", { include: ["file_search_call.results"] }, "include"],
      [
        "files",
        { input: [{ role: "user", content: [{ type: "input_file", file_id: "f" }] }] },
        "input.0.content.0",
      ],
      [
        "stored images",
        { input: [{ role: "user", content: [{ type: "input_image", file_id: "f" }] }] },
        "input.0.content.0",
      ],
      ["references", { input: [{ type: "item_reference", id: "msg_1" }] }, "input.0"],
      ["an unknown role", { input: [{ role: "critic", content: "hi" }] }, "input.0.role"],
      ["no input", { input: [] }, "input"],
    ] as const) {
      it(what, async () => {
        const request = { model: MODEL, input: "hi", ...extra } as ResponseCreateParams;
        const error = await client.responses.create(request).then(
          () => undefined,
          (caught: unknown) => caught,
        );
        expect(error).to.be.instanceOf(OpenAI.BadRequestError);
        expect(error).to.include({ type: "invalid_request_error", code: "bad-request", param });
        expect(gateway.sales).to.deep.equal([]);
      });
    }

    it("what is no request, and says that nothing can be looked up", async () => {
      expect((await gateway.post("/v1/responses", { model: MODEL })).status).to.equal(400);
      const error = await client.responses.retrieve("resp_1").then(
        () => undefined,
        (caught: unknown) => caught,
      );
      expect(error).to.be.instanceOf(OpenAI.NotFoundError);
    });
  });
});
