// Owns how `register` and `worker` are told what runs the models.
import { InvalidArgumentError, Option } from "commander";
import { InfernetError } from "../protocol/errors.ts";
import { MODEL_FEATURES, type ModelFeature } from "../protocol/features.ts";
import type { Upstream, UpstreamModel } from "../provider/upstreams/upstream.ts";
import type { Context } from "./context.ts";
import { integerBetween } from "./values.ts";

export type UpstreamFlags = {
  upstream: "auto" | "ollama" | "openai" | "embedded";
  upstreamUrl?: string;
  modelFile?: string;
  modelName?: string;
  contextLength?: number;
  threads?: number;
  embeddings?: boolean;
  modelFeatures?: ModelFeature[];
};

/** The environment variable of an OpenAI-compatible server's key: a flag would show it to other users. */
const API_KEY_VARIABLE = "INFERNET_UPSTREAM_API_KEY";

export const UPSTREAM_OPTIONS: readonly Option[] = [
  new Option("--upstream <kind>", "what runs the models; auto looks at the usual ports")
    .choices(["auto", "ollama", "openai", "embedded"])
    .default("auto"),
  new Option("--upstream-url <url>", `where it is (an API key comes from ${API_KEY_VARIABLE})`),
  new Option("--model-file <path>", "a GGUF file, run in this process"),
  new Option("--model-name <name>", "the name that the model of --model-file is sold under"),
  new Option("--context-length <tokens>", "prompt and answer together, of --model-file").argParser(
    integerBetween(16, 10_000_000),
  ),
  new Option("--threads <count>", "threads for the model of --model-file").argParser(integerBetween(1, 1024)),
  new Option("--embeddings", "sell embeddings of the model of --model-file, too"),
  new Option(
    "--model-features <list>",
    `what the models of an OpenAI-compatible server do, of ${MODEL_FEATURES.join(",")}`,
  ).argParser(parseFeatures),
];

function parseFeatures(text: string): ModelFeature[] {
  const words = text.split(",").map((word) => word.trim());
  const known = MODEL_FEATURES.filter((feature) => words.includes(feature));
  if (known.length > 0 && words.every((word) => known.includes(word as ModelFeature))) return known;
  throw new InvalidArgumentError(`Expected some of ${MODEL_FEATURES.join(",")}.`);
}

/** Opens the upstream of the flags; the command's end closes it. Throws `upstream-unreachable` or `bad-config`. */
export async function openUpstreamOf(context: Context, flags: UpstreamFlags): Promise<Upstream> {
  const { upstream: kind, upstreamUrl, modelFile, modelName, contextLength, threads, embeddings } = flags;
  const isServer = kind === "ollama" || kind === "openai" || upstreamUrl !== undefined;
  if (isServer && (modelFile !== undefined || modelName !== undefined)) {
    throw new InfernetError("bad-request", "--model-file and --model-name belong to the embedded upstream", {
      hint: "Leave them out, or leave --upstream and --upstream-url out.",
    });
  }
  const { openUpstream } = await import("../provider/upstreams/open.ts");
  const { env } = context.terminal;
  const apiKey = env[API_KEY_VARIABLE] || undefined;
  const mayBeOllama = kind === "ollama" || (kind === "auto" && modelFile === undefined);
  const url = upstreamUrl ?? (mayBeOllama ? readOllamaHost(env.OLLAMA_HOST) : undefined);
  const upstream = await openUpstream({
    ...{ kind, url, apiKey, modelFile, modelName, contextLength, threads, embeddings },
    features: flags.modelFeatures,
  });
  context.atEnd(() => upstream.close());
  return upstream;
}

/** Ollama's own variable as a URL: it may be a URL, or host and port, or a host alone; undefined when it is not set. */
export function readOllamaHost(value: string | undefined): string | undefined {
  if (!value) return undefined;
  const isUrl = /^https?:\/\//.test(value);
  const url = new URL(isUrl ? value : `http://${value}`);
  if (!isUrl && url.port === "") url.port = "11434";
  return url.origin;
}

/** The upstream's models of these names, in their order. Throws `model-not-found` that names those it has. */
export function pickModels(models: readonly UpstreamModel[], names: readonly string[]): UpstreamModel[] {
  return names.map((name) => {
    const model = models.find((candidate) => candidate.name === name);
    if (model) return model;
    throw new InfernetError("model-not-found", `the upstream has no model "${name}"`, {
      hint:
        models.length > 0 ? `It has: ${models.map((one) => one.name).join(", ")}.` : "It has none at all.",
    });
  });
}
