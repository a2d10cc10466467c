import { expect } from "chai";
import { transcriptOf } from "../../protocol/transcript.ts";
import { createAnswerReader } from "../../requester/answer-reader.ts";
import { failureOf } from "../support/machine.ts";
import { word } from "./examples.ts";

const delta = (fields: object) =>
  JSON.stringify({ choices: [{ index: 0, delta: fields, finish_reason: null }] });

function readAll(...payloads: string[]) {
  const reader = createAnswerReader(word(1));
  const texts = payloads.map((payload, index) => reader.accept(String(index + 1), payload).text);
  return { ...reader.snapshot(), texts };
}

describe("reading an answer", () => {
  it("joins the text, counts one token a piece, and follows the transcript", () => {
    const payloads = [
      delta({ role: "assistant" }),
      delta({ content: "Hi" }),
      delta({ content: " you" }),
      "[DONE]",
    ];
    const answer = readAll(...payloads);
    expect(answer).to.include({ text: "Hi you", tokens: 2, lastEventId: 4 });
    expect(answer.transcript).to.equal(transcriptOf(word(1), payloads));
  });

  it("counts by the text where a node sends many tokens in one piece, and never more tokens than bytes", () => {
    expect(readAll(delta({ content: "x".repeat(40) })).tokens).to.equal(10);
    expect(readAll(...Array.from({ length: 5 }, () => delta({ content: "" }))).tokens).to.equal(0);
    expect(readAll(delta({ content: "é" }), delta({ content: "" })).tokens).to.equal(1);
  });

  it("counts thoughts and tool calls, which are generated too, and shows only the answer", () => {
    const call = { index: 0, function: { name: "add", arguments: '{"a":1}' } };
    const answer = readAll(
      delta({ reasoning_content: "Hm. " }),
      delta({ tool_calls: [call] }),
      delta({ content: "2" }),
    );
    expect(answer).to.include({ text: "2", tokens: 4 });
    expect(answer.textBytes).to.equal(4 + 10 + 1);
  });

  it("reads completions and unstreamed answers, with how they finished", () => {
    const completion = JSON.stringify({ choices: [{ text: "abc", finish_reason: "length" }] });
    expect(readAll(completion)).to.include({ text: "abc", finishReason: "length" });
    const whole = JSON.stringify({ choices: [{ message: { role: "assistant", content: "abc" } }] });
    expect(readAll(whole).text).to.equal("abc");
  });

  it("takes what it cannot read into the transcript, as no tokens", () => {
    for (const payload of ["", "null", "[1]", '{"choices":5}', '{"choices":[null]}', "{"])
      expect(readAll(payload), payload).to.include({ tokens: 0, text: "", lastEventId: 1 });
  });

  it("takes no event whose id is not the next", async () => {
    for (const id of [undefined, "", "0", "2", "01", "1.0", "x"]) {
      const reader = createAnswerReader(word(1));
      expect((await failureOf(() => reader.accept(id, "{}"))).code).to.equal("node-misbehaved");
      expect(reader.snapshot()).to.include({ lastEventId: 0, transcript: word(1) });
    }
  });
});
