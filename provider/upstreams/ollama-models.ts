// Owns what is known of an Ollama's models: contexts and features, which of them are in memory, and new ones.
import type { ChatRequest, ModelResponse, Ollama } from "ollama";
import { type Hex, isHex, ZERO_WORD } from "../../protocol/bytes.ts";
import { InfernetError } from "../../protocol/errors.ts";
import type { ModelFeature } from "../../protocol/features.ts";
import type { PullProgress, UpstreamModel } from "./upstream.ts";

/** The context is what the model was made for or its Modelfile sets, but no more than this node gives memory for. */
export type ModelDetails = Pick<UpstreamModel, "contextLength" | "features"> & {
  /** Whether it is told how long to think, and not only whether. */
  thinksInLevels: boolean;
};

/** How a model is loaded: always alike, as another context would load it anew. */
export type Loading = { keep_alive: number; options: { num_ctx: number } };

/** How a request uses a model. */
export type ModelUse = Loading & Pick<ModelDetails, "thinksInLevels">;

/** Ollama's capabilities in the offer's words. Whatever completes can be held to JSON by its `format`. */
const FEATURES: Readonly<Record<string, readonly ModelFeature[]>> = {
  completion: ["chat", "completions", "json"],
  tools: ["tools"],
  vision: ["images"],
  embedding: ["embeddings"],
};
const UNFINISHED = "The answer goes on";

export async function askDetails(client: Ollama, name: string, most: number): Promise<ModelDetails> {
  const { model_info, parameters, capabilities } = await client.show({ model: name });
  const info = Object.entries(model_info ?? {}).find(([key]) => key.endsWith(".context_length"))?.[1];
  const parameter = Number(/^num_ctx\s+(\d+)$/m.exec(parameters ?? "")?.[1]);
  const told = [parameter, Number(info), most].filter((length) => Number.isSafeInteger(length) && length > 0);
  const features = (capabilities ?? ["completion"]).flatMap((capability) => FEATURES[capability] ?? []);
  const architecture = String(
    Object.entries(model_info ?? {}).find(([key]) => key === "general.architecture")?.[1],
  );
  return { contextLength: Math.min(...told), features, thinksInLevels: /^gpt-?oss/.test(architecture) };
}

/** Loads a model into memory and nothing else. */
export async function loadModel(
  client: Ollama,
  model: string,
  { features }: ModelDetails,
  loading: Loading,
): Promise<void> {
  if (features.includes("completions")) await client.generate({ model, prompt: "", ...loading });
  else await client.embed({ model, input: [], ...loading });
}

/** Names of the models in memory. */
export async function loadedModels(client: Ollama): Promise<string[]> {
  return (await client.ps()).models.map(({ name }) => name);
}

/**
 * Whether the model goes on with a last message of the assistant. Templates differ: some answer it instead. Ollama
 * renders one such conversation, and its end tells; a server that renders none is taken to answer.
 */
export async function continuesAnswers(client: Ollama, model: string, loading: Loading): Promise<boolean> {
  const messages = [
    { role: "user", content: "Question" },
    { role: "assistant", content: UNFINISHED },
  ];
  const rendering = { _debug_render_only: true, options: { ...loading.options, num_predict: 1 } };
  const request: ChatRequest & { stream: false } = {
    model,
    messages,
    stream: false,
    ...loading,
    ...rendering,
  };
  const answer = (await client.chat(request)) as { _debug_info?: { rendered_template?: unknown } };
  const rendered = answer._debug_info?.rendered_template;
  return typeof rendered === "string" && rendered.endsWith(UNFINISHED);
}

/** Has Ollama fetch a model. Throws `model-not-found` where no such model is published, else `upstream-failed`. */
export async function pullModel(
  client: Ollama,
  model: string,
  onProgress: (progress: PullProgress) => void,
): Promise<void> {
  const layers = new Map<string, { completed: number; total: number }>();
  for await (const { status, digest, completed = 0, total = 0 } of await client.pull({
    model,
    stream: true,
  })) {
    if (digest) layers.set(digest, { completed, total });
    const sum = (member: "completed" | "total") =>
      [...layers.values()].reduce((bytes, layer) => bytes + layer[member], 0);
    onProgress({
      status: digest ? "pulling" : status,
      receivedBytes: sum("completed"),
      totalBytes: sum("total"),
    });
  }
}

/** What a failed pull is called. */
export function explainPull(error: unknown, server: string, model: string): InfernetError {
  const told = error instanceof Error ? error.message.slice(0, 200) : "";
  if (/file does not exist|not found|manifest unknown/.test(told)) {
    return new InfernetError("model-not-found", `${server} finds no published model "${model}"`, {
      cause: error,
      hint: "See https://ollama.com/library for names, or make the model with `ollama create`.",
    });
  }
  return new InfernetError("upstream-failed", `${server} cannot pull "${model}": ${told}`, {
    cause: error,
    hint: "The machine that Ollama runs on must reach registry.ollama.ai and have room on its disk.",
  });
}

export function digestOf({ digest }: ModelResponse): Hex {
  const hex = `0x${digest.replace(/^sha256:/, "")}`;
  return isHex(hex, 32) ? hex : ZERO_WORD;
}
