// Owns how one upstream is written in a word: its kind, where it is, and what is said of it alone.
import { InvalidArgumentError } from "commander";
import type { UpstreamSettings } from "../provider/upstreams/open.ts";
import { integerBetween } from "./values.ts";

/** An upstream as `--upstream` names it; `keyVariable` is the environment variable that holds its API key. */
export type NamedUpstream = Omit<
  UpstreamSettings,
  "apiKey" | "gpu" | "embeddings" | "features" | "keepAliveSeconds"
> & {
  keyVariable?: string;
};

export const UPSTREAM_KINDS = ["auto", "ollama", "openai", "embedded"] as const;
const LIKE = "Write it like ollama, openai=http://127.0.0.1:8000/v1 or embedded=FILE.gguf,slots=2.";
/** Parsers of what may be said of one upstream, or of all. */
export const parseContextLength = integerBetween(16, 10_000_000);
export const parseThreads = integerBetween(1, 1024);
const parseSlots = integerBetween(1, 10_000);

/** Collects `KIND[=WHERE][,slots=N][,model=NAME][,context=N][,threads=N][,key=VARIABLE]` of a repeatable option. */
export function collectUpstream(text: string, previous: NamedUpstream[] = []): NamedUpstream[] {
  return [...previous, parseUpstream(text)];
}

/** Upstreams with blanks between them. Throws what `--upstream` throws. */
export function parseUpstreams(text: string): NamedUpstream[] {
  return text.trim().split(/\s+/).map(parseUpstream);
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
  const kind = UPSTREAM_KINDS.find((known) => known === kindText);
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
