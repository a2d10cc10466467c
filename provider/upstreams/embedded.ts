// Owns the embedded upstream: llama.cpp in this process, one model file, several generations side by side.
import { createHash } from "node:crypto";
import { createReadStream, existsSync } from "node:fs";
import { basename } from "node:path";
import type { LlamaContextSequence, LlamaModel } from "node-llama-cpp";
import type { Hex } from "../../protocol/bytes.ts";
import { InfernetError } from "../../protocol/errors.ts";
import type { ModelFeature } from "../../protocol/features.ts";
import { checkFeatures, featuresOf } from "../../protocol/features.ts";
import { answer } from "./embedded-answer.ts";
import { type Reader, renderPrompt } from "./embedded-request.ts";
import { shortenPreface } from "./embedded-tools.ts";
import { createEmbedder, type Embedder, isEmbeddingModel } from "./embedded-vectors.ts";
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
  /** Sell embeddings of a model that also answers; one that was made for embeddings makes nothing else. */
  embeddings?: boolean | undefined;
  /** Tokens of prompt and completion together; at most what the model was trained for. */
  contextLength?: number | undefined;
};

/** Generations side by side where nobody says how many. */
export const DEFAULT_PARALLEL = 2;
const ANSWERING = ["chat", "completions", "tools", "json", "continue"] as const;

/** Loads the model. Throws `model-not-found` without the file, `bad-config` where it or llama.cpp cannot be loaded. */
export async function openEmbedded(settings: EmbeddedSettings): Promise<Upstream> {
  const { modelFile } = settings;
  if (!existsSync(modelFile))
    throw new InfernetError("model-not-found", `there is no model file ${modelFile}`);
  const [digest, engine] = await Promise.all([hashFile(modelFile), loadModel(settings)]);
  const { reader, embedder, features, contextLength, sequences } = engine;
  const name = settings.modelName ?? basename(modelFile, ".gguf");
  const pool = createPool(sequences);

  async function* generate(input: Generation): AsyncGenerator<UpstreamEvent> {
    if (input.body.model !== name) {
      throw new InfernetError("model-not-found", `the embedded upstream runs ${name} only`);
    }
    checkFeatures({ name, features: [...features] }, featuresOf(input.path, input.body));
    try {
      for await (const event of input.path === "/v1/embeddings" ? embedder.embed(input) : answerOf(input)) {
        yield event;
        input.signal.throwIfAborted();
      }
    } catch (error) {
      input.signal.throwIfAborted();
      if (error instanceof InfernetError) throw error;
      throw new InfernetError("upstream-failed", "llama.cpp failed", { cause: error });
    }
  }

  async function* answerOf(input: Generation): AsyncGenerator<UpstreamEvent> {
    const prompt = renderPrompt(reader, input);
    if (prompt.tokens.length >= contextLength) {
      throw new InfernetError(
        "bad-request",
        `the prompt has ${prompt.tokens.length} tokens, and prompt and completion share ${contextLength}`,
        { hint: "Shorten the prompt, or ask a model with a longer context." },
      );
    }
    const sequence = await pool.take(input.signal);
    try {
      yield* answer(reader, { sequence, contextLength }, input, prompt);
    } finally {
      pool.giveBack(sequence);
    }
  }

  return {
    kind: "embedded",
    listModels: async () => [{ name, digest, contextLength, features: [...features] }],
    generate,
    close: engine.close,
  };
}

type Engine = {
  reader: Reader;
  embedder: Embedder;
  features: ModelFeature[];
  contextLength: number;
  sequences: LlamaContextSequence[];
  close(): Promise<void>;
};

async function loadModel(settings: EmbeddedSettings): Promise<Engine> {
  const llamaPackage = await importLlama();
  const { getLlama, LlamaLogLevel } = llamaPackage;
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
    // One core is left to the rest: llama.cpp's threads wait for each other, so that a busy core stalls them all.
    const threads = settings.threads ?? Math.max(1, llama.cpuMathCores - 1);
    return await prepare(model, settings, threads, llamaPackage);
  } catch (cause) {
    await llama.dispose();
    const why = complaint === "" ? "" : `: ${complaint}`;
    throw new InfernetError("bad-config", `llama.cpp cannot load ${settings.modelFile}${why}`, { cause });
  }
}

async function prepare(
  model: LlamaModel,
  settings: EmbeddedSettings,
  threads: number,
  llamaPackage: Reader["package"],
): Promise<Engine> {
  const contextLength = Math.min(settings.contextLength ?? DEFAULT_CONTEXT_LENGTH, model.trainContextSize);
  const embedsOnly = isEmbeddingModel(model);
  const parallel = settings.parallel ?? DEFAULT_PARALLEL;
  const wrapper = llamaPackage.resolveChatWrapper(model, { warningLogs: false });
  shortenPreface(wrapper, llamaPackage.ChatWrapper, llamaPackage);
  let sequences: LlamaContextSequence[] = [];
  if (!embedsOnly) {
    const context = await model.createContext({ contextSize: contextLength, sequences: parallel, threads });
    sequences = Array.from({ length: parallel }, () => context.getSequence());
  }
  return {
    reader: { model, wrapper, package: llamaPackage },
    embedder: createEmbedder(model, { contextLength, threads }),
    features: [
      ...(embedsOnly ? [] : ANSWERING),
      ...(embedsOnly || settings.embeddings ? (["embeddings"] as const) : []),
    ],
    contextLength,
    sequences,
    close: () => model.llama.dispose(),
  };
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
