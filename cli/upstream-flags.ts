// Owns how commands are told what runs the models: one upstream or several, by flags, environment and settings.
import { InvalidArgumentError, Option } from "commander";
import { InfernetError } from "../protocol/errors.ts";
import { MODEL_FEATURES, type ModelFeature } from "../protocol/features.ts";
import type { UpstreamEntry } from "../provider/dispatch.ts";
import type { UpstreamSettings } from "../provider/upstreams/open.ts";
import type { UpstreamModel } from "../provider/upstreams/upstream.ts";
import type { Context } from "./context.ts";
import { integerBetween } from "./values.ts";

/** An upstream as `--upstream` names it; `keyVariable` is the environment variable that holds its API key. */
export type NamedUpstream = Omit<UpstreamSettings, "apiKey" | "gpu" | "embeddings" | "features"> & {
  keyVariable?: string;
};

export type UpstreamFlags = {
  upstream?: NamedUpstream[];
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
const KINDS = ["auto", "ollama", "openai", "embedded"] as const;
const LIKE = "Write it like ollama, openai=http://127.0.0.1:8000/v1 or embedded=FILE.gguf,slots=2.";
const parseContextLength = integerBetween(16, 10_000_000);
const parseThreads = integerBetween(1, 1024);
const parseSlots = integerBetween(1, 10_000);

export const UPSTREAM_OPTIONS: readonly Option[] = [
  new Option(
    "--upstream <KIND[=WHERE][,slots=N]>",
    "what runs the models; auto, the default, looks at the usual ports; repeat for more",
  )
    .choices(KINDS)
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

/** Collects `KIND[=WHERE][,slots=N][,model=NAME][,context=N][,threads=N][,key=VARIABLE]` of a repeatable option. */
export function collectUpstream(text: string, previous: NamedUpstream[] = []): NamedUpstream[] {
  return [...previous, parseUpstream(text)];
}

function parseUpstream(text: string): NamedUpstream {
  const members: Partial<NamedUpstream> = {};
  let rest = text;
  // From the end, and known members only: a URL or the name of a file may hold commas itself.
  for (let found = lastMember(rest); found; found = lastMember(rest)) {
    const { name, value } = found;
    rest = rest.slice(0, -(name.length + value.length + 2));
    const member = readMember(name, value);
    if (Object.keys(member).some((key) => key in members)) {
      throw new InvalidArgumentError(`${name}= is there twice.`);
    }
    Object.assign(members, member);
  }
  const [, kindText, where] = /^([^=]*)(?:=(.*))?$/s.exec(rest) ?? [];
  const kind = KINDS.find((known) => known === kindText);
  if (kind === undefined || where === "") throw new InvalidArgumentError(LIKE);
  if (where === undefined) return { kind, ...members };
  if (kind === "embedded") return { kind, modelFile: where, ...members };
  if (!/^https?:\/\//.test(where)) throw new InvalidArgumentError(LIKE);
  return { kind, url: where, ...members };
}

function lastMember(text: string): { name: string; value: string } | undefined {
  const match = /,(slots|model|context|threads|key)=([^,]*)$/.exec(text);
  return match ? { name: match[1]!, value: match[2]! } : undefined;
}

function readMember(name: string, value: string): Partial<NamedUpstream> {
  if (value === "") throw new InvalidArgumentError(`${name}= needs a value.`);
  switch (name) {
    case "slots":
      return { slots: parseSlots(value) };
    case "context":
      return { contextLength: parseContextLength(value) };
    case "threads":
      return { threads: parseThreads(value) };
    case "model":
      return { modelName: value };
    default:
      return { keyVariable: value };
  }
}

/**
 * Opens what the flags name, or `others` alone when they name nothing; the command's end closes all. `capacity` is what
 * an only upstream runs at the same time unless it names its own slots. Throws `bad-request` or `bad-config`.
 */
export async function openUpstreamsOf(
  context: Context,
  flags: UpstreamFlags,
  { others = [], capacity }: { others?: readonly UpstreamSettings[]; capacity?: number | undefined } = {},
): Promise<UpstreamEntry[]> {
  const isNamed = namesUpstream(flags);
  const wanted = [
    ...(isNamed || others.length === 0 ? chooseUpstreams(flags, context.terminal.env) : []),
    ...others,
  ];
  const [only] = wanted;
  const { openUpstreams } = await import("../provider/upstreams/open.ts");
  const slots = wanted.length === 1 ? (only!.slots ?? capacity) : undefined;
  const entries = await openUpstreams(slots === undefined ? wanted : [{ ...only!, slots }]);
  for (const { upstream } of entries) context.atEnd(() => upstream.close());
  return entries;
}

/** Whether the flags say at all what runs the models. */
export function namesUpstream({ upstream = [], upstreamUrl, modelFile }: UpstreamFlags): boolean {
  return upstream.some(({ kind }) => kind !== "auto") || upstreamUrl !== undefined || modelFile !== undefined;
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
  const { upstreamUrl, modelFile, modelName, contextLength, threads, embeddings, modelFeatures } = flags;
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
  const openAis = named.filter(({ kind }) => kind === "openai" || kind === "auto").length;
  return named.map((one) => {
    const { keyVariable, ...own } = one;
    const url = one === ofUrl ? upstreamUrl : own.url;
    const file =
      one === ofFile ? { modelFile: own.modelFile ?? modelFile, modelName: own.modelName ?? modelName } : {};
    const settings = { contextLength, threads, embeddings, features: modelFeatures, ...own, url, ...file };
    const mayBeOllama = one.kind === "ollama" || (one.kind === "auto" && file.modelFile === undefined);
    // A key goes to the one server that it must be meant for, never to others.
    const variable = keyVariable ?? (openAis === 1 ? API_KEY_VARIABLE : undefined);
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
