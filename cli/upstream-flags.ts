// Owns how commands are told what runs the models: one upstream or several, by flags, environment and settings.
import { InvalidArgumentError, Option } from "commander";
import { InfernetError } from "../protocol/errors.ts";
import { MODEL_FEATURES, type ModelFeature } from "../protocol/features.ts";
import type { UpstreamEntry } from "../provider/dispatch.ts";
import type { UpstreamSettings } from "../provider/upstreams/open.ts";
import type { UpstreamModel } from "../provider/upstreams/upstream.ts";
import type { Context } from "./context.ts";
import { type DockerFlags, startOllamaContainer } from "./docker-flags.ts";
import {
  collectUpstream,
  type NamedUpstream,
  parseContextLength,
  parseThreads,
  UPSTREAM_KINDS,
} from "./upstream-spec.ts";

export type UpstreamFlags = DockerFlags & {
  upstream?: NamedUpstream[];
  upstreamUrl?: string;
  modelFile?: string;
  modelName?: string;
  contextLength?: number;
  threads?: number;
  embeddings?: boolean;
  modelFeatures?: ModelFeature[];
  keepAlive?: number;
};

/** The environment variable of an OpenAI-compatible server's key: a flag would show it to other users. */
const API_KEY_VARIABLE = "INFERNET_UPSTREAM_API_KEY";

export const UPSTREAM_OPTIONS: readonly Option[] = [
  new Option(
    "--upstream <KIND[=WHERE][,slots=N]>",
    "what runs the models; auto, the default, looks at the usual ports; repeat for more",
  )
    .choices(UPSTREAM_KINDS)
    .argParser(collectUpstream),
  new Option("--upstream-url <url>", `where it is (an API key comes from ${API_KEY_VARIABLE})`),
  new Option("--model-file <path>", "a GGUF file, run in this process"),
  new Option("--model-name <name>", "the name that the model of --model-file is sold under"),
  new Option("--context-length <tokens>", "prompt and answer together, of --model-file").argParser(
    parseContextLength,
  ),
  new Option("--threads <count>", "threads for the model of --model-file").argParser(parseThreads),
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

/**
 * Opens what flags or settings name, `others` with them, and what is found when neither names anything; the command's
 * end closes all. The container of --docker is one more of the others. `capacity` is what an only upstream runs at the same time unless it names its own slots. Throws
 * `bad-request` or `bad-config`.
 */
export async function openUpstreamsOf(
  context: Context,
  flags: UpstreamFlags,
  { others = [], capacity }: { others?: readonly UpstreamSettings[]; capacity?: number | undefined } = {},
): Promise<UpstreamEntry[]> {
  const named = await namedUpstreams(context, flags);
  const hasOthers = others.length > 0 || flags.docker === true;
  const isAlone = named.length === 0 && !hasPlace(flags) && hasOthers;
  // What is wrong with the flags is said before a container is started.
  const chosen = isAlone ? [] : chooseUpstreams({ ...flags, upstream: named }, context.terminal.env);
  const { url } = flags.docker ? await startOllamaContainer(context, flags) : {};
  const container: UpstreamSettings[] = url ? [{ kind: "ollama", url }] : [];
  const wanted = [...chosen, ...others, ...container];
  const { openUpstreams } = await import("../provider/upstreams/open.ts");
  const [only] = wanted;
  const slots = wanted.length === 1 ? (only!.slots ?? capacity) : undefined;
  const entries = await openUpstreams(slots === undefined ? wanted : [{ ...only!, slots }]);
  for (const { upstream } of entries) context.atEnd(() => upstream.close());
  return entries;
}

/** Whether flags or settings say what runs the models; else it is searched for. */
export async function namesUpstream(context: Context, flags: UpstreamFlags): Promise<boolean> {
  const named = await namedUpstreams(context, flags);
  return hasPlace(flags) || named.some(({ kind }) => kind !== "auto");
}

/** The upstreams of the flags, else those of the settings. */
async function namedUpstreams(context: Context, flags: UpstreamFlags): Promise<NamedUpstream[]> {
  if (flags.upstream?.length || hasPlace(flags)) return flags.upstream ?? [];
  const { home } = await context.config();
  const { readUpstreams } = await import("./provider-settings.ts");
  return readUpstreams(home, context.terminal.env);
}

function hasPlace({ upstreamUrl, modelFile }: UpstreamFlags): boolean {
  return upstreamUrl !== undefined || modelFile !== undefined;
}

/** All models of the flags' upstreams, the first of each name. Throws what one that cannot be asked throws. */
export async function modelsOfUpstreams(context: Context, flags: UpstreamFlags): Promise<UpstreamModel[]> {
  const entries = await openUpstreamsOf(context, flags);
  const models = (await Promise.all(entries.map(({ upstream }) => upstream.listModels()))).flat();
  return models.filter(({ name }, index) => models.findIndex((model) => model.name === name) === index);
}

/** The upstreams of the flags, each with its own settings. Throws `bad-request` where a flag fits none or several. */
export function chooseUpstreams(flags: UpstreamFlags, env: NodeJS.ProcessEnv): UpstreamSettings[] {
  const named: NamedUpstream[] = flags.upstream?.length ? flags.upstream : [{ kind: "auto" }];
  const { upstreamUrl, modelFile, modelName, contextLength, threads, embeddings, modelFeatures, keepAlive } =
    flags;
  const isServer = ({ kind, url }: NamedUpstream) =>
    kind === "ollama" || kind === "openai" || url !== undefined;
  const placeOf = (flag: string, fits: (one: NamedUpstream) => boolean, hint: string) => {
    const places = named.filter(fits);
    if (places.length === 1) return places[0];
    const which =
      places.length === 0 ? "belongs to none of the upstreams" : "could belong to several upstreams";
    throw new InfernetError("bad-request", `${flag} ${which}`, { hint });
  };
  const ofUrl =
    upstreamUrl === undefined
      ? undefined
      : placeOf(
          "--upstream-url",
          ({ kind, url }) => kind !== "embedded" && url === undefined,
          "Leave it out, and name each with its place: --upstream KIND=URL.",
        );
  const ofFile =
    modelFile === undefined && modelName === undefined
      ? undefined
      : placeOf(
          modelFile === undefined ? "--model-name" : "--model-file",
          (one) => !isServer(one) && one !== ofUrl,
          "It is for the embedded upstream: leave it out, or name that: --upstream embedded=FILE.",
        );
  const mayTakeKey = ({ kind }: NamedUpstream) => kind === "openai" || kind === "auto";
  const isOneKeyed = named.filter(mayTakeKey).length === 1;
  return named.map((one) => {
    const { keyVariable, ...own } = one;
    const url = one === ofUrl ? upstreamUrl : own.url;
    const file =
      one === ofFile ? { modelFile: own.modelFile ?? modelFile, modelName: own.modelName ?? modelName } : {};
    const shared = {
      contextLength,
      threads,
      embeddings,
      features: modelFeatures,
      keepAliveSeconds: keepAlive,
    };
    const settings = { ...shared, ...own, url, ...file };
    const mayBeOllama = one.kind === "ollama" || (one.kind === "auto" && file.modelFile === undefined);
    // A key goes to the one server that it must be meant for, never to others.
    const variable = keyVariable ?? (isOneKeyed && mayTakeKey(one) ? API_KEY_VARIABLE : undefined);
    return {
      ...settings,
      url: url ?? (mayBeOllama ? readOllamaHost(env.OLLAMA_HOST) : undefined),
      apiKey: (variable && env[variable]) || undefined,
    };
  });
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
