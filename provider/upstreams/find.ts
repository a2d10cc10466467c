// Owns the search for model servers that already run on this machine.
import { OLLAMA_URL, openOllama } from "./ollama.ts";
import { openOpenAi } from "./openai.ts";
import type { Upstream, UpstreamModel } from "./upstream.ts";

export type FoundUpstream = { kind: "ollama" | "openai"; url: string; models: UpstreamModel[] };
export type Place = { kind: "ollama" | "openai"; url: string };

const USUAL_PLACES: readonly Place[] = [
  { kind: "ollama", url: OLLAMA_URL },
  { kind: "openai", url: "http://127.0.0.1:8080/v1" },
  { kind: "openai", url: "http://127.0.0.1:8000/v1" },
  { kind: "openai", url: "http://127.0.0.1:1234/v1" },
];
const PATIENCE_MS = 1_500;

/** Servers that answer with at least one model, in the order of the places. Never throws, never takes over 1.5 s. */
export async function findUpstreams(places: readonly Place[] = USUAL_PLACES): Promise<FoundUpstream[]> {
  const found = await Promise.all(places.map(look));
  return found.filter((upstream) => upstream !== undefined);
}

async function look({ kind, url }: Place): Promise<FoundUpstream | undefined> {
  const upstream: Upstream = kind === "ollama" ? openOllama({ url }) : openOpenAi({ url });
  let timer: NodeJS.Timeout | undefined;
  const patience = new Promise<UpstreamModel[]>((resolve) => {
    timer = setTimeout(resolve, PATIENCE_MS, []);
  });
  try {
    const models = await Promise.race([upstream.listModels(), patience]);
    return models.length > 0 ? { kind, url, models } : undefined;
  } catch {
    // Nothing there, or something else: the search goes on.
    return undefined;
  } finally {
    clearTimeout(timer);
    await upstream.close();
  }
}
