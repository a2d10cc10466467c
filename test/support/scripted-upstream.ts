// Owns a stand-in for a model that follows a script: for faults and orders of events that a real model cannot be told.

import type {
  Generation,
  Upstream,
  UpstreamEvent,
  UpstreamModel,
} from "../../provider/upstreams/upstream.ts";

/** A text is a delta of one token. `until` waits, `fail` throws, `hang` never answers, not even an abort. */
export type Step =
  | string
  | { text: string; tokens: number }
  | { usage: [promptTokens: number, completionTokens: number]; final?: boolean }
  | { until: Promise<void> }
  | { fail: Error }
  | { hang: true };

export const TINY: UpstreamModel = {
  ...{ name: "tiny", digest: `0x${"55".repeat(32)}`, contextLength: 2048 },
  features: ["chat", "completions", "embeddings", "json"],
};

export class ScriptedUpstream implements Upstream {
  readonly kind = "openai";
  models: UpstreamModel[] = [TINY];
  /** The requests that it was asked to run. */
  readonly runs: Generation[] = [];
  /** Completion tokens that it has handed out. */
  madeTokens = 0;
  #scripts: Step[][];

  /** One script for each run; the last one repeats. */
  constructor(...scripts: Step[][]) {
    this.#scripts = scripts;
  }

  listModels(): Promise<UpstreamModel[]> {
    return Promise.resolve(this.models);
  }

  async close(): Promise<void> {}

  async *generate(input: Generation): AsyncGenerator<UpstreamEvent> {
    const script = this.#scripts[Math.min(this.runs.length, this.#scripts.length - 1)] ?? [];
    this.runs.push(input);
    yield chunk(input, "", 0);
    for (const step of script) {
      input.signal.throwIfAborted();
      if (typeof step === "string") yield this.#make(input, step, 1);
      else if ("text" in step) yield this.#make(input, step.text, step.tokens);
      else if ("until" in step) await step.until;
      else if ("fail" in step) throw step.fail;
      else if ("hang" in step) await new Promise(() => {});
      else {
        const [promptTokens, completionTokens] = step.usage;
        yield { type: "usage", promptTokens, completionTokens, final: step.final ?? true };
      }
    }
  }

  #make(input: Generation, text: string, tokens: number): UpstreamEvent {
    this.madeTokens += tokens;
    return chunk(input, text, tokens);
  }
}

function chunk({ path }: Generation, text: string, tokens: number): UpstreamEvent {
  const said = path === "/v1/completions" ? { text } : { delta: { role: "assistant", content: text } };
  return { type: "chunk", chunk: { choices: [{ index: 0, ...said, finish_reason: null }] }, tokens };
}

/** This many deltas of one token, "w0 " and so on. */
export function words(count: number): string[] {
  return Array.from({ length: count }, (_, index) => `w${index} `);
}
