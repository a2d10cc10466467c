// Owns counting tokens as one model does: its vocabulary alone, read from a GGUF file, without its weights.
import { InfernetError } from "../protocol/errors.ts";

export type Tokenizer = {
  /** Tokens of a text, with no marker before or after it. */
  count(text: string): number;
  close(): Promise<void>;
};

/** Loads a file's vocabulary. Throws `bad-config` for a file that cannot be read, or where node-llama-cpp is missing. */
export async function openTokenizer(path: string): Promise<Tokenizer> {
  const { getLlama, LlamaLogLevel } = await importLlama();
  const llama = await getLlama({
    ...{ gpu: false as const, build: "never" as const, skipDownload: true, progressLogs: false },
    logLevel: LlamaLogLevel.disabled,
  });
  try {
    const model = await llama.loadModel({ modelPath: path, vocabOnly: true });
    return {
      count: (text) => model.tokenize(text, false, "trimLeadingSpace").length,
      close: () => llama.dispose(),
    };
  } catch (cause) {
    await llama.dispose();
    throw new InfernetError("bad-config", `no vocabulary can be read from ${path}`, {
      hint: "Name a GGUF file of the model: --recount NAME=FILE.gguf.",
      cause,
    });
  }
}

async function importLlama(): Promise<typeof import("node-llama-cpp")> {
  try {
    return await import("node-llama-cpp");
  } catch (cause) {
    throw new InfernetError("bad-config", "counting tokens again needs the package node-llama-cpp", {
      hint: "Install it beside infernet: npm install node-llama-cpp.",
      cause,
    });
  }
}
