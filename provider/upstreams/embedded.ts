// Owns the embedded upstream: llama.cpp in this process, one model file, several generations side by side.
import { createHash } from "node:crypto";
import { createReadStream, existsSync } from "node:fs";
import { basename } from "node:path";
import type { ChatWrapper, LlamaContextSequence, LlamaModel, Token } from "node-llama-cpp";
import type { Hex } from "../../protocol/bytes.ts";
import { InfernetError } from "../../protocol/errors.ts";
import { lastChoice, roleChoice, textChoice } from "./choices.ts";
import { type EmbeddedPrompt, readLimit, readSampling, renderPrompt } from "./embedded-request.ts";
import { createTokenText, type TextPiece } from "./embedded-text.ts";
import { createPool } from "./sequence-pool.ts";
import { DEFAULT_CONTEXT_LENGTH, type Generation, type Upstream, type UpstreamEvent } from "./upstream.ts";

export type EmbeddedSettings = {
  /** Path of a GGUF file. */
  modelFile: string;
  /** The name that requests use; the file's own name without its ending when absent. */
  modelName?: string | undefined;
  /** All physical cores but one when absent. */
  threads?: number | undefined;
  /** "auto" uses a graphics card where llama.cpp finds one; absent means the processor alone. */
  gpu?: "auto" | undefined;
  /** Generations side by side; each keeps a context of its own in memory. */
  parallel?: number | undefined;
  /** Tokens of prompt and completion together; at most what the model was trained for. */
  contextLength?: number | undefined;
};

const DEFAULT_PARALLEL = 2;
/** Prompt tokens evaluated between two looks at the abort signal. */
const PREFILL_STEP = 64;

/** Loads the model. Throws `model-not-found` without the file, `bad-config` where it or llama.cpp cannot be loaded. */
export async function openEmbedded(settings: EmbeddedSettings): Promise<Upstream> {
  const { modelFile } = settings;
  if (!existsSync(modelFile))
    throw new InfernetError("model-not-found", `there is no model file ${modelFile}`);
  const [digest, engine] = await Promise.all([hashFile(modelFile), loadModel(settings)]);
  const { model, wrapper, contextLength, sequences } = engine;
  const name = settings.modelName ?? basename(modelFile, ".gguf");
  const pool = createPool(sequences);

  async function* generate(input: Generation): AsyncGenerator<UpstreamEvent> {
    if (input.body.model !== name) {
      throw new InfernetError("model-not-found", `the embedded upstream runs ${name} only`);
    }
    const prompt = renderPrompt(model, wrapper, input);
    const room = contextLength - prompt.tokens.length;
    if (room < 1) {
      throw new InfernetError(
        "bad-request",
        `the prompt has ${prompt.tokens.length} tokens, and prompt and completion share ${contextLength}`,
        { hint: "Shorten the prompt, or ask a model with a longer context." },
      );
    }
    const sequence = await pool.take(input.signal);
    try {
      // Every prompt is evaluated from its first token: what is billed is what was computed.
      await sequence.clearHistory();
      const limit = Math.min(readLimit(input.body), room);
      for await (const event of complete(model, sequence, input, prompt, limit)) {
        yield event;
        input.signal.throwIfAborted();
      }
    } catch (error) {
      input.signal.throwIfAborted();
      if (error instanceof InfernetError) throw error;
      throw new InfernetError("upstream-failed", "llama.cpp failed", { cause: error });
    } finally {
      pool.giveBack(sequence);
    }
  }

  return {
    kind: "embedded",
    listModels: async () => [{ name, digest, contextLength, features: ["chat", "completions"] }],
    generate,
    close: engine.close,
  };
}

async function* complete(
  model: LlamaModel,
  sequence: LlamaContextSequence,
  { path, body, signal }: Generation,
  prompt: EmbeddedPrompt,
  limit: number,
): AsyncGenerator<UpstreamEvent> {
  const promptTokens = prompt.tokens.length;
  const sampled: Token[] = [];
  const text = createTokenText({
    detokenize: (tokens, before) => model.detokenize(tokens, false, before),
    before: prompt.tokens,
    stops: prompt.stopTexts,
  });
  let completionTokens = 0;
  let finishReason = "stop";
  const released = function* (piece: TextPiece | undefined): Generator<UpstreamEvent> {
    if (piece === undefined) return;
    completionTokens += piece.tokens;
    yield { type: "chunk", chunk: { choices: [textChoice(path, piece.text)] }, tokens: piece.tokens };
  };

  const lastTokens = await prefill(sequence, prompt.tokens, signal);
  let counted = false;
  for await (const token of sequence.evaluate(lastTokens, readSampling(body, sampled))) {
    signal.throwIfAborted();
    if (!counted) {
      counted = true;
      yield { type: "usage", promptTokens, completionTokens, final: false };
      if (path === "/v1/chat/completions")
        yield { type: "chunk", chunk: { choices: [roleChoice()] }, tokens: 0 };
    }
    if (prompt.stopTokens.has(token)) break;
    sampled.push(token);
    yield* released(text.push(token));
    if (text.stopped) break;
    if (sampled.length < limit) continue;
    finishReason = "length";
    break;
  }
  yield* released(text.flush());
  yield { type: "chunk", chunk: { choices: [lastChoice(path, finishReason)] }, tokens: 0 };
  yield { type: "usage", promptTokens, completionTokens, final: true };
}

/** Evaluates the prompt but for its last step, which is returned: the first token is sampled from it. */
async function prefill(
  sequence: LlamaContextSequence,
  tokens: readonly Token[],
  signal: AbortSignal,
): Promise<Token[]> {
  let start = 0;
  for (; tokens.length - start > PREFILL_STEP; start += PREFILL_STEP) {
    signal.throwIfAborted();
    await sequence.evaluateWithoutGeneratingNewTokens(tokens.slice(start, start + PREFILL_STEP));
  }
  signal.throwIfAborted();
  return tokens.slice(start);
}

type Engine = {
  model: LlamaModel;
  wrapper: ChatWrapper;
  contextLength: number;
  sequences: LlamaContextSequence[];
  close(): Promise<void>;
};

async function loadModel(settings: EmbeddedSettings): Promise<Engine> {
  const { getLlama, LlamaLogLevel, resolveChatWrapper } = await importLlama();
  let complaint = "";
  const llama = await getLlama({
    gpu: settings.gpu ?? false,
    build: "never",
    skipDownload: true,
    progressLogs: false,
    logLevel: LlamaLogLevel.error,
    // llama.cpp tells why it refuses a file in its log only.
    logger: (level, message) => {
      if (level === "error" || level === "fatal") complaint ||= message.trim();
    },
    maxThreads: 0,
  });
  try {
    const model = await llama.loadModel({ modelPath: settings.modelFile });
    const contextLength = Math.min(settings.contextLength ?? DEFAULT_CONTEXT_LENGTH, model.trainContextSize);
    const parallel = settings.parallel ?? DEFAULT_PARALLEL;
    // One core is left to the rest: llama.cpp's threads wait for each other, so that a busy core stalls them all.
    const threads = settings.threads ?? Math.max(1, llama.cpuMathCores - 1);
    const context = await model.createContext({ contextSize: contextLength, sequences: parallel, threads });
    const sequences = Array.from({ length: parallel }, () => context.getSequence());
    const wrapper = resolveChatWrapper(model, { warningLogs: false });
    return { model, wrapper, contextLength, sequences, close: () => llama.dispose() };
  } catch (cause) {
    await llama.dispose();
    const why = complaint === "" ? "" : `: ${complaint}`;
    throw new InfernetError("bad-config", `llama.cpp cannot load ${settings.modelFile}${why}`, { cause });
  }
}

async function importLlama(): Promise<typeof import("node-llama-cpp")> {
  try {
    return await import("node-llama-cpp");
  } catch (cause) {
    throw new InfernetError("bad-config", "the embedded upstream needs the package node-llama-cpp", {
      cause,
      hint: "npm install node-llama-cpp",
    });
  }
}

async function hashFile(path: string): Promise<Hex> {
  const hash = createHash("sha256");
  for await (const bytes of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(bytes);
  return `0x${hash.digest("hex")}`;
}
