// Owns the choice of upstreams from a node's settings, what each is called, and how many requests it runs side by side.
import { basename } from "node:path";
import { InfernetError } from "../../protocol/errors.ts";
import type { ModelFeature } from "../../protocol/features.ts";
import type { UpstreamEntry } from "../dispatch.ts";
import { DEFAULT_PARALLEL, openEmbedded } from "./embedded.ts";
import { findUpstreams } from "./find.ts";
import { openOllama } from "./ollama.ts";
import { openOpenAi } from "./openai.ts";
import type { Upstream } from "./upstream.ts";

export type UpstreamSettings = {
  /** "auto": the model file when one is named, else the server at the URL, else the first found at the usual ports. */
  kind: "ollama" | "openai" | "embedded" | "auto";
  url?: string | undefined;
  apiKey?: string | undefined;
  modelFile?: string | undefined;
  modelName?: string | undefined;
  contextLength?: number | undefined;
  threads?: number | undefined;
  gpu?: "auto" | undefined;
  embeddings?: boolean | undefined;
  features?: readonly ModelFeature[] | undefined;
  keepAliveSeconds?: number | undefined;
  /** Requests that it runs at the same time; the embedded one keeps a context in memory for each. */
  slots?: number | undefined;
};

/** Requests side by side on a server that was not told: it queues or batches what comes. */
const SERVER_SLOTS = 4;
/** A hosted service is asked for its models less often than a server of one's own: it counts what it is asked. */
const HOSTED_CALM_MS = 15_000;

/** Opens all, each under a name of its own. When one cannot be opened, or is named twice, none is left open. */
export async function openUpstreams(list: readonly UpstreamSettings[]): Promise<UpstreamEntry[]> {
  const names = list.map(nameOf);
  const twice = names.find((name, index) => names.indexOf(name) !== index);
  if (twice !== undefined) throw new InfernetError("bad-config", `the upstream "${twice}" is named twice`);
  const opened = await Promise.allSettled(list.map(openUpstream));
  const failure = opened.find((one) => one.status === "rejected");
  if (failure) {
    await Promise.all(opened.map((one) => one.status === "fulfilled" && one.value.close()));
    throw failure.reason;
  }
  return opened.flatMap((one, index) => {
    const { slots, url } = list[index]!;
    if (one.status === "rejected") return [];
    const upstream = one.value;
    const usual = upstream.kind === "embedded" ? DEFAULT_PARALLEL : SERVER_SLOTS;
    const calmMs = url?.startsWith("https:") ? HOSTED_CALM_MS : 0;
    return [{ name: names[index]!, upstream, capacity: slots ?? usual, calmMs }];
  });
}

function nameOf({ kind, url, modelFile, modelName }: UpstreamSettings): string {
  if (modelFile !== undefined) return `embedded ${modelName ?? basename(modelFile, ".gguf")}`;
  const place = url === undefined ? "" : ` ${URL.canParse(url) ? new URL(url).host : url}`;
  return `${kind}${place}${modelName === undefined ? "" : ` ${modelName}`}`;
}

/** Opens what the settings name. Throws `bad-config` where they lack something; servers are found out when asked. */
export async function openUpstream(settings: UpstreamSettings): Promise<Upstream> {
  const { url, modelFile } = settings;
  switch (settings.kind) {
    case "ollama":
      return openOllama(settings);
    case "openai":
      if (url === undefined) throw missing("openai", "a URL", "http://127.0.0.1:8080/v1");
      return openOpenAi({ ...settings, url });
    case "embedded":
      if (modelFile === undefined) throw missing("embedded", "a model file", "a .gguf file on this machine");
      return openEmbedded({ ...settings, modelFile, parallel: settings.slots });
    case "auto":
      if (modelFile !== undefined) return openUpstream({ ...settings, kind: "embedded" });
      return openFound(settings);
  }
}

/** Searches whenever it is asked, until a server answers; from then on it is that one. */
function openFound(settings: UpstreamSettings): Upstream {
  let found: Upstream | undefined;
  let search: Promise<Upstream> | undefined;
  const find = async () => {
    if (found) return found;
    search ??= searchUpstream(settings).finally(() => {
      search = undefined;
    });
    found = await search;
    return found;
  };
  return {
    get kind() {
      return found?.kind ?? "ollama";
    },
    listModels: async () => (await find()).listModels(),
    async *generate(input) {
      yield* (await find()).generate(input);
    },
    warmUp: async (names, signal) => (await (await find()).warmUp?.(names, signal)) ?? [],
    async pull(name, onProgress, signal) {
      const upstream = await find();
      if (upstream.pull) return await upstream.pull(name, onProgress, signal);
      throw new InfernetError("upstream-failed", `the ${upstream.kind} upstream fetches no models`);
    },
    close: async () => await found?.close(),
  };
}

async function searchUpstream(settings: UpstreamSettings): Promise<Upstream> {
  const { url } = settings;
  const places =
    url === undefined ? undefined : (["ollama", "openai"] as const).map((kind) => ({ kind, url }));
  const [found] = await findUpstreams(places);
  if (found === undefined) {
    throw new InfernetError("upstream-unreachable", `no model server answers ${url ?? "on this machine"}`, {
      hint: "Start Ollama, name another server's URL, or name a .gguf model file to run it here.",
    });
  }
  return openUpstream({ ...settings, kind: found.kind, url: found.url });
}

function missing(kind: string, what: string, like: string): InfernetError {
  return new InfernetError("bad-config", `the ${kind} upstream needs ${what}`, { hint: `Name ${like}.` });
}
