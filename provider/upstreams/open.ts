// Owns the choice of an upstream from a node's settings.
import { InfernetError } from "../../protocol/errors.ts";
import type { ModelFeature } from "../../protocol/features.ts";
import { openEmbedded } from "./embedded.ts";
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
  parallel?: number | undefined;
  embeddings?: boolean | undefined;
  features?: readonly ModelFeature[] | undefined;
};

/** Opens what the settings name. Throws `bad-config` where they lack something, `upstream-unreachable` on "auto". */
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
      return openEmbedded({ ...settings, modelFile });
    case "auto":
      return modelFile === undefined ? openFound(settings) : openEmbedded({ ...settings, modelFile });
  }
}

async function openFound(settings: UpstreamSettings): Promise<Upstream> {
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
