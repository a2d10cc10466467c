// Owns one answer of an embedded model: from its prompt's tokens to the last event, with a count of every token.
import { randomUUID } from "node:crypto";
import type { LlamaContextSequence, LlamaGrammarEvaluationState, Token } from "node-llama-cpp";
import { InfernetError } from "../../protocol/errors.ts";
import type { OpenAiToolCallDelta } from "../../protocol/openai-answer.ts";
import { lastChoice, roleChoice, textChoice } from "./choices.ts";
import { callLead, type EmbeddedPrompt, type Reader, readLimit, readSampling } from "./embedded-request.ts";
import { createTokenText, type TextPiece, type TokenText } from "./embedded-text.ts";
import type { CallForm } from "./embedded-tools.ts";
import type { Generation, UpstreamEvent } from "./upstream.ts";

/** Prompt tokens evaluated between two looks at the abort signal. */
const PREFILL_STEP = 64;

type End = "stop" | "length" | "tool_calls";

/** A sequence that nobody else uses meanwhile, and the tokens that prompt and completion share in it. */
export type Place = { sequence: LlamaContextSequence; contextLength: number };

/** The events of one answer. Throws what llama.cpp throws. */
export async function* answer(
  reader: Reader,
  place: Place,
  input: Generation,
  prompt: EmbeddedPrompt,
): AsyncGenerator<UpstreamEvent> {
  const writer = new AnswerWriter(reader, place, input, prompt);
  const finishReason = yield* writer.write();
  yield { type: "chunk", chunk: { choices: [lastChoice(input.path, finishReason)] }, tokens: 0 };
  const { completionTokens } = writer;
  yield { type: "usage", promptTokens: prompt.tokens.length, completionTokens, final: true };
}

class AnswerWriter {
  completionTokens = 0;
  readonly #reader: Reader;
  readonly #sequence: LlamaContextSequence;
  readonly #input: Generation;
  readonly #prompt: EmbeddedPrompt;
  readonly #contextLength: number;
  readonly #limit: number;
  readonly #sampled: Token[] = [];
  #said = "";
  #begun = false;

  constructor(reader: Reader, { sequence, contextLength }: Place, input: Generation, prompt: EmbeddedPrompt) {
    this.#reader = reader;
    this.#sequence = sequence;
    this.#input = input;
    this.#prompt = prompt;
    this.#contextLength = contextLength;
    this.#limit = Math.min(readLimit(input.body), contextLength - prompt.tokens.length);
  }

  async *write(): AsyncGenerator<UpstreamEvent, End> {
    const { form, tokens } = this.#prompt;
    // Every prompt is evaluated from its first token: what is billed is what was computed.
    await this.#sequence.clearHistory();
    const lastTokens = await this.#prefill(tokens);
    if (form.kind === "call") return yield* this.#call(form.call, lastTokens, tokens);
    if (form.kind === "json") return yield* this.#say(lastTokens, [], this.#stateOf(form.grammar));
    const end = yield* this.#say(lastTokens, form.triggers);
    if (end !== "tool_calls" || form.call === undefined) return end;
    return yield* this.#callInMidAnswer(form.call);
  }

  /** Text until it ends by itself, at a limit, or at the start of a call. */
  async *#say(
    start: Token[],
    triggers: readonly string[],
    grammar?: LlamaGrammarEvaluationState,
  ): AsyncGenerator<UpstreamEvent, End> {
    const { path } = this.#input;
    const { stopTexts, stopTokens, tokens } = this.#prompt;
    const text = this.#textAfter(tokens, [...stopTexts, ...triggers]);
    const release = (piece: TextPiece): UpstreamEvent => {
      this.completionTokens += piece.tokens;
      this.#said += piece.text;
      return { type: "chunk", chunk: { choices: [textChoice(path, piece.text)] }, tokens: piece.tokens };
    };
    let end: End = "stop";
    for await (const token of this.#sample(start, grammar)) {
      yield* this.#begin();
      if (grammar === undefined && stopTokens.has(token)) break;
      const piece = text.push(token);
      if (piece !== undefined) yield release(piece);
      if (text.stoppedBy !== undefined) {
        if (triggers.includes(text.stoppedBy)) end = "tool_calls";
        break;
      }
      if (this.#sampled.length < this.#limit) continue;
      end = "length";
      break;
    }
    const rest = text.flush();
    if (rest !== undefined) yield release(rest);
    return end;
  }

  /** A call of one of the form's tools, sampled under its grammar behind `before`. */
  async *#call(form: CallForm, start: Token[], before: readonly Token[]): AsyncGenerator<UpstreamEvent, End> {
    const text = this.#textAfter(before, []);
    const call = new CallReader(form);
    let end: End = "tool_calls";
    for await (const token of this.#sample(start, this.#stateOf(form.grammar))) {
      yield* this.#begin();
      yield* this.#pass(call, text.push(token));
      if (this.#sampled.length < this.#limit) continue;
      end = "length";
      break;
    }
    yield* this.#pass(call, text.flush());
    return end;
  }

  *#pass(call: CallReader, piece: TextPiece | undefined): Generator<UpstreamEvent> {
    if (piece === undefined) return;
    this.completionTokens += piece.tokens;
    const deltas = call.read(piece.text);
    for (const [index, delta] of deltas.entries()) {
      const choice = { index: 0, delta: { tool_calls: [delta] }, finish_reason: null };
      const tokens = index === deltas.length - 1 ? piece.tokens + call.takeHeldTokens() : 0;
      yield { type: "chunk", chunk: { choices: [choice] }, tokens };
    }
    if (deltas.length === 0) call.holdTokens(piece.tokens);
  }

  /**
   * Goes back to where the call began in the text, and on from there in the call's own form. The tokens that spelled
   * its start are dropped and not counted.
   */
  async *#callInMidAnswer(form: CallForm): AsyncGenerator<UpstreamEvent, End> {
    const { model, package: llama } = this.#reader;
    const before = this.#prompt.tokens;
    let kept = this.#sampled.length;
    let text = this.#said;
    do {
      kept -= 1;
      text = model.detokenize(this.#sampled.slice(0, Math.max(kept, 0)), false, before.slice(-8));
    } while (kept > 0 && !this.#said.startsWith(text));
    const gap = this.#said.slice(text.length);
    const lead = callLead(this.#reader, llama.LlamaText(gap), form).tokenize(model.tokenizer);
    this.#sampled.length = Math.max(kept, 0);
    const tokens = [...before, ...this.#sampled, ...lead];
    if (this.#sampled.length >= this.#limit || tokens.length >= this.#contextLength) return "length";
    await this.#sequence.adaptStateToTokens(tokens.slice(0, -1), false);
    return yield* this.#call(form, tokens.slice(this.#sequence.nextTokenIndex), tokens);
  }

  async *#sample(start: Token[], grammar?: LlamaGrammarEvaluationState): AsyncGenerator<Token> {
    const sampling = readSampling(this.#input.body, this.#sampled);
    const options = grammar === undefined ? sampling : { ...sampling, grammarEvaluationState: grammar };
    for await (const token of this.#sequence.evaluate(start, options)) {
      this.#input.signal.throwIfAborted();
      this.#sampled.push(token);
      yield token;
    }
  }

  /** What is known and said once the prompt was read. */
  *#begin(): Generator<UpstreamEvent> {
    if (this.#begun) return;
    this.#begun = true;
    yield { type: "usage", promptTokens: this.#prompt.tokens.length, completionTokens: 0, final: false };
    if (this.#input.path !== "/v1/chat/completions") return;
    yield { type: "chunk", chunk: { choices: [roleChoice()] }, tokens: 0 };
  }

  /** Evaluates the prompt but for its last step, which is returned: the first token is sampled from it. */
  async #prefill(tokens: readonly Token[]): Promise<Token[]> {
    let start = 0;
    for (; tokens.length - start > PREFILL_STEP; start += PREFILL_STEP) {
      this.#input.signal.throwIfAborted();
      await this.#sequence.evaluateWithoutGeneratingNewTokens(tokens.slice(start, start + PREFILL_STEP));
    }
    this.#input.signal.throwIfAborted();
    return tokens.slice(start);
  }

  #textAfter(before: readonly Token[], stops: readonly string[]): TokenText {
    const { model } = this.#reader;
    const detokenize = (tokens: readonly Token[], context: readonly Token[]) =>
      model.detokenize(tokens, false, context);
    return createTokenText({ detokenize, before, stops });
  }

  #stateOf(grammar: string): LlamaGrammarEvaluationState {
    const { model, package: llama } = this.#reader;
    try {
      const parsed = new llama.LlamaGrammar(model.llama, { grammar });
      return new llama.LlamaGrammarEvaluationState({ model, grammar: parsed });
    } catch (cause) {
      throw new InfernetError("bad-request", "llama.cpp cannot hold a model to this schema", { cause });
    }
  }
}

/** Reads a call as it is sampled: first whose it is, then its arguments piece by piece. */
class CallReader {
  readonly #form: CallForm;
  readonly #id = `call_${randomUUID().replaceAll("-", "")}`;
  #head = "";
  #open = false;
  #heldTokens = 0;

  constructor(form: CallForm) {
    this.#form = form;
  }

  /** The deltas that this text makes; none while the name is not complete. */
  read(text: string): OpenAiToolCallDelta[] {
    if (this.#open) return [this.#argumentsDelta(text)];
    const { names, between } = this.#form;
    this.#head += text;
    const head =
      names.length === 1 ? "" : names.map((name) => name + between).find((one) => this.#head.startsWith(one));
    if (head === undefined) return [];
    this.#open = true;
    const name = names.length === 1 ? names[0]! : head.slice(0, head.length - between.length);
    const first = { index: 0, id: this.#id, type: "function", function: { name, arguments: "" } };
    const rest = this.#head.slice(head.length);
    return rest === "" ? [first] : [first, this.#argumentsDelta(rest)];
  }

  holdTokens(tokens: number): void {
    this.#heldTokens += tokens;
  }

  takeHeldTokens(): number {
    const held = this.#heldTokens;
    this.#heldTokens = 0;
    return held;
  }

  #argumentsDelta(text: string): OpenAiToolCallDelta {
    return { index: 0, function: { arguments: text } };
  }
}
