import { expect } from "chai";
import fc from "fast-check";
import { getLlama, type Llama, type LlamaModel, type Token } from "node-llama-cpp";
import { createTokenText, type TextPiece } from "../../../provider/upstreams/embedded-text.ts";
import { tinyModelFile } from "../../support/tiny-model.ts";

describe("text from sampled tokens", () => {
  let llama: Llama;
  let model: LlamaModel;

  before(async () => {
    llama = await getLlama({ gpu: false, build: "never", skipDownload: true, progressLogs: false });
    model = await llama.loadModel({ modelPath: tinyModelFile(), vocabOnly: true });
  });
  after(() => llama.dispose());

  function run(tokens: readonly Token[], stops: string[] = []): TextPiece[] {
    const before = model.tokenize("hello world");
    const detokenize = (some: readonly Token[], context: readonly Token[]) =>
      model.detokenize(some, false, context);
    const text = createTokenText({ detokenize, before, stops });
    const pieces: (TextPiece | undefined)[] = [];
    for (const token of tokens) {
      if (text.stoppedBy === undefined) pieces.push(text.push(token));
    }
    return [...pieces, text.flush()].filter((piece) => piece !== undefined);
  }

  const textOf = (pieces: TextPiece[]) => pieces.map(({ text }) => text).join("");
  const tokensOf = (pieces: TextPiece[]) => pieces.reduce((sum, { tokens }) => sum + tokens, 0);

  it("is whole characters, however many tokens each takes, and every token is counted", () => {
    const texts = fc.string({
      unit: fc.constantFrom("a", " the", "é", "ß", "語", "𝄞", "👩‍💻", "\n"),
      minLength: 1,
    });
    fc.assert(
      fc.property(texts, (text) => {
        const tokens = model.tokenize(text, false, "trimLeadingSpace");
        const pieces = run(tokens);
        expect(textOf(pieces).trimStart()).to.equal(text.trimStart());
        for (const piece of pieces) expect(piece.text).not.to.include("\uFFFD");
        expect(tokensOf(pieces)).to.equal(tokens.length);
      }),
      { seed: 22 },
    );
  });

  it("shows bytes that are no character as replacement marks instead of holding the stream", () => {
    const [, , lead] = model.tokenize("語", false, "trimLeadingSpace").slice(-3);
    const pieces = run([lead!, lead!, lead!, lead!, ...model.tokenize("the")]);
    expect(textOf(pieces)).to.match(/^\uFFFD+ ?the$/);
  });

  it("holds back what may become a stop text, and sends it when it does not", () => {
    const tokens = model.tokenize("abcabd", false, "trimLeadingSpace");
    const spelled = textOf(run(tokens));
    expect(textOf(run(tokens, ["abcabe"]))).to.equal(spelled);
    expect(textOf(run(tokens, ["abd"]))).to.equal(spelled.slice(0, spelled.indexOf("abd")));
    expect(textOf(run(tokens, ["", "xyz"]))).to.equal(spelled);
  });

  it("never counts more tokens than bytes, and none for what a stop text cut off", () => {
    const tokens = model.tokenize("abcdef", false, "trimLeadingSpace");
    const pieces = run(tokens, ["cd"]);
    expect(tokensOf(pieces)).to.be.at.most(Buffer.byteLength(textOf(pieces)));
    expect(tokensOf(run(tokens, [textOf(run(tokens)).slice(0, 3)]))).to.equal(0);
  });

  it("cuts at the earliest stop text whatever the tokens", () => {
    const letters = fc.string({ unit: fc.constantFrom("a", "b", "c"), minLength: 1, maxLength: 30 });
    const stops = fc.array(fc.string({ unit: fc.constantFrom("a", "b", "c"), minLength: 1, maxLength: 3 }), {
      maxLength: 3,
    });
    fc.assert(
      fc.property(letters, stops, (text, stopTexts) => {
        const tokens = model.tokenize(text, false, "trimLeadingSpace");
        const spelled = textOf(run(tokens));
        const cuts = stopTexts.map((stop) => spelled.indexOf(stop)).filter((index) => index >= 0);
        expect(textOf(run(tokens, stopTexts))).to.equal(spelled.slice(0, Math.min(spelled.length, ...cuts)));
      }),
      { seed: 23 },
    );
  });
});
