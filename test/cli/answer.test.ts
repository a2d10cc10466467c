import { PassThrough } from "node:stream";
import { expect } from "chai";
import { createAnswerWriter } from "../../cli/answer.ts";
import { requestBodyOf } from "../../cli/commands/job/submit.ts";
import { createOutput } from "../../cli/output.ts";
import { processTerminal } from "../../cli/terminal.ts";

function record(options: { json?: boolean; isRead?: boolean } = {}) {
  const stdout = new PassThrough();
  const output = createOutput({
    ...{ stdout, stderr: new PassThrough(), json: options.json === true, quiet: false },
  });
  const terminal = { ...processTerminal(), isRead: options.isRead === true };
  return { answer: createAnswerWriter({ output, terminal }), text: () => String(stdout.read() ?? "") };
}

describe("a streamed answer", () => {
  it("leaves in order, byte for byte, with a line break at its end", async () => {
    const { answer, text } = record();
    for (const part of ["Par", "is\u001b[1m", ""]) answer.write(part);
    await answer.end();
    expect(text()).to.equal("Paris\u001b[1m\n");
  });

  it("gets no second line break", async () => {
    const { answer, text } = record();
    answer.write("Paris.\n");
    await answer.end();
    expect(text()).to.equal("Paris.\n");
  });

  it("cannot move the cursor of a person's terminal", async () => {
    const { answer, text } = record({ isRead: true });
    for (const part of ["a\u001b", "[2J\tb\r\u202e", "\nc"]) answer.write(part);
    await answer.end();
    expect(text()).to.equal("a[2J\tb\nc\n");
  });

  it("is left to the result with --json", async () => {
    const { answer, text } = record({ json: true });
    answer.write("Paris");
    await answer.end();
    expect(text()).to.equal("");
  });

  it("is not lost when it is cut off: it was paid for", async () => {
    const people = record();
    people.answer.write("Par");
    await people.answer.endEarly();
    expect(people.text()).to.equal("Par\n");
    const programs = record({ json: true });
    programs.answer.write("Par");
    await programs.answer.endEarly();
    expect(JSON.parse(programs.text())).to.deep.equal({ partial: true, text: "Par" });
    const nothing = record({ json: true });
    await nothing.answer.endEarly();
    expect(nothing.text()).to.equal("");
  });
});

describe("the request of a job", () => {
  const bodyOf = (options: object) =>
    JSON.parse(Buffer.from(requestBodyOf({ model: "m", ...options }, "Why?")).toString());

  it("asks for a stream with its usage, and names only what was asked for", () => {
    expect(bodyOf({})).to.deep.equal({
      model: "m",
      messages: [{ role: "user", content: "Why?" }],
      stream: true,
      stream_options: { include_usage: true },
    });
  });

  it("carries instructions, limits, temperature 0 and seed 0", () => {
    const body = bodyOf({ system: "Be brief.", maxTokens: 5, temperature: 0, seed: 0 });
    expect(body.messages[0]).to.deep.equal({ role: "system", content: "Be brief." });
    expect(body).to.include({ max_tokens: 5, temperature: 0, seed: 0 });
  });
});
