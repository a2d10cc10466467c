// Owns the upstream for Ollama: its models with their digests, and its own API with the counts that it really made.
import { type ChatResponse, type GenerateResponse, Ollama } from "ollama";
import { Agent } from "undici";
import { type Hex, ZERO_WORD } from "../../protocol/bytes.ts";
import { InfernetError } from "../../protocol/errors.ts";
import { lastChoice, roleChoice } from "./choices.ts";
import { explainFailure } from "./failure.ts";
import { guardedFetch } from "./ollama-fetch.ts";
import { finishReasonOf, toChatRequest, toChoice, toGenerateRequest } from "./ollama-format.ts";
import {
  askDetails,
  continuesAnswers,
  digestOf,
  explainPull,
  type Loading,
  loadedModels,
  loadModel,
  type ModelDetails,
  pullModel,
} from "./ollama-models.ts";
import {
  DEFAULT_CONTEXT_LENGTH,
  type Generation,
  type PullProgress,
  type Upstream,
  type UpstreamEvent,
  type UpstreamModel,
} from "./upstream.ts";

export type OllamaSettings = {
  /** http://127.0.0.1:11434 when absent. */
  url?: string | undefined;
  /** Sell this model alone; all that the server has when absent. */
  modelName?: string | undefined;
  /** The most tokens of prompt and completion that a model is run with: memory grows with it. */
  contextLength?: number | undefined;
  /** How long the server may be silent; loading a large model counts as silence. */
  silenceTimeoutMs?: number | undefined;
  /** How long a model stays in memory after its last request; -1 keeps it there, 24 hours when absent. */
  keepAliveSeconds?: number | undefined;
};

export const OLLAMA_URL = "http://127.0.0.1:11434";
const DEFAULT_SILENCE_TIMEOUT_MS = 300_000;
const CONNECT_TIMEOUT_MS = 5_000;
const LIST_TIMEOUT_MS = 10_000;
/** A node's next request may come hours later, and is not to wait for a model to be loaded. */
const DEFAULT_KEEP_ALIVE_SECONDS = 24 * 3600;

/** Connects when asked for the first time; a server that is down is found out then. */
export function openOllama(settings: OllamaSettings = {}): Upstream {
  const host = settings.url ?? OLLAMA_URL;
  const server = `Ollama at ${host}`;
  const silenceTimeoutMs = settings.silenceTimeoutMs ?? DEFAULT_SILENCE_TIMEOUT_MS;
  const agent = new Agent({
    connect: { timeout: CONNECT_TIMEOUT_MS },
    headersTimeout: silenceTimeoutMs,
    bodyTimeout: silenceTimeoutMs,
  });
  const keepAlive = settings.keepAliveSeconds ?? DEFAULT_KEEP_ALIVE_SECONDS;
  /** By digest, as a model may be made anew under its name; requests know the name only. */
  const details = new Map<Hex, Promise<ModelDetails>>();
  const digests = new Map<string, Hex>();
  /** Digests of models that were seen to go on with an unfinished answer. */
  const continuing = new Set<Hex>();

  /** One client a generation: aborting a client ends all that runs on it. */
  function connect(signal: AbortSignal): Ollama {
    return new Ollama({ host, fetch: guardedFetch(agent, server, signal) });
  }

  function detailsOf(name: string, digest: Hex, client: Ollama): Promise<ModelDetails> {
    const known = details.get(digest);
    if (known !== undefined && digest !== ZERO_WORD) return known;
    const asked = askDetails(client, name, settings.contextLength ?? DEFAULT_CONTEXT_LENGTH);
    details.set(digest, asked);
    asked.catch(() => details.delete(digest));
    return asked;
  }

  async function list(client: Ollama): Promise<UpstreamModel[]> {
    const { models } = await client.list();
    const sold = models.filter(({ name }) => isSold(name, settings.modelName));
    digests.clear();
    for (const model of sold) digests.set(model.name, digestOf(model));
    return await Promise.all(
      sold.map(async (model) => {
        const digest = digestOf(model);
        const { contextLength, features } = await detailsOf(model.name, digest, client);
        const more = continuing.has(digest) ? (["continue"] as const) : [];
        return {
          ...{ name: settings.modelName ?? shortName(model.name), digest, contextLength },
          features: [...features, ...more],
        };
      }),
    );
  }

  async function listModels(): Promise<UpstreamModel[]> {
    const signal = AbortSignal.timeout(LIST_TIMEOUT_MS);
    try {
      return await list(connect(signal));
    } catch (error) {
      if (!signal.aborted) throw explainFailure(error, server);
      throw new InfernetError("upstream-timeout", `${server} does not list its models in time`, {
        cause: error,
      });
    }
  }

  /** The same for every request, and for the warm-up: Ollama loads a model anew for another context. */
  async function loadingOf(name: string, client: Ollama): Promise<Loading & { details: ModelDetails }> {
    const known = await detailsOf(name, digestOfName(name, digests), client);
    return { keep_alive: keepAlive, options: { num_ctx: known.contextLength }, details: known };
  }

  async function* generate(input: Generation): AsyncGenerator<UpstreamEvent> {
    const { path, body, signal } = input;
    const leaving = new AbortController();
    const client = connect(AbortSignal.any([signal, leaving.signal]));
    try {
      const { details: known, ...loading } = await loadingOf(body.model as string, client);
      const use = { ...loading, thinksInLevels: known.thinksInLevels };
      if (path === "/v1/embeddings") yield* embed(client, body, loading, server);
      else if (path === "/v1/completions") {
        yield* readAnswer(await client.generate(toGenerateRequest(body, use)), input, server);
      } else {
        yield* readAnswer(await client.chat(toChatRequest(body, use)), input, server);
      }
    } catch (error) {
      throw explainFailure(error, server, signal);
    } finally {
      // Ends the model's work where the reader left early.
      leaving.abort();
    }
  }

  async function warmUp(names: readonly string[], signal: AbortSignal): Promise<string[]> {
    const client = connect(signal);
    const warm: string[] = [];
    let resident: string[] = [];
    try {
      await list(client);
      for (const name of names.filter((wanted) => digestOfName(wanted, digests) !== ZERO_WORD)) {
        const { details: known, ...loading } = await loadingOf(name, client);
        await loadModel(client, name, known, loading);
        const isContinuing =
          known.features.includes("chat") && (await continuesAnswers(client, name, loading));
        const digest = digestOfName(name, digests);
        if (isContinuing) continuing.add(digest);
        const loaded = await loadedModels(client);
        // One that had to make room shows that no more fits.
        if (resident.some((model) => !loaded.includes(model))) break;
        resident = loaded;
        warm.push(name);
      }
    } catch (error) {
      throw explainFailure(error, server, signal);
    }
    return warm;
  }

  async function pull(
    name: string,
    onProgress: (progress: PullProgress) => void,
    signal: AbortSignal,
  ): Promise<void> {
    try {
      await pullModel(connect(signal), name, onProgress);
    } catch (error) {
      const explained = explainFailure(error, server, signal);
      const isTold = explained instanceof InfernetError && explained.code !== "upstream-failed";
      throw isTold || signal.aborted ? explained : explainPull(error, server, name);
    }
  }

  return { kind: "ollama", listModels, generate, warmUp, pull, close: () => agent.destroy() };
}

/** Requests may leave out the tag that Ollama adds. */
function digestOfName(name: string, digests: ReadonlyMap<string, Hex>): Hex {
  return digests.get(name) ?? digests.get(`${name}:latest`) ?? ZERO_WORD;
}

/** One token a delta while it streams; then the counts that Ollama itself made. */
async function* readAnswer(
  pieces: AsyncIterable<ChatResponse | GenerateResponse>,
  { path }: Generation,
  server: string,
): AsyncGenerator<UpstreamEvent> {
  let toolCalls = 0;
  let deltas = 0;
  if (path === "/v1/chat/completions") yield { type: "chunk", chunk: { choices: [roleChoice()] }, tokens: 0 };
  for await (const piece of pieces) {
    const choice = toChoice(piece, toolCalls);
    if (choice !== undefined) {
      deltas++;
      toolCalls += choice.delta?.tool_calls?.length ?? 0;
      yield { type: "chunk", chunk: { choices: [choice] }, tokens: 1 };
    }
    if (!piece.done) continue;
    const finishReason = finishReasonOf(piece.done_reason, toolCalls > 0);
    yield { type: "chunk", chunk: { choices: [lastChoice(path, finishReason)] }, tokens: 0 };
    yield {
      type: "usage",
      promptTokens: readCount(piece.prompt_eval_count, server),
      // Ollama counts the token that ends an answer, too: where it is all there was, nothing was delivered.
      completionTokens: deltas === 0 ? 0 : readCount(piece.eval_count, server),
      final: true,
    };
  }
}

async function* embed(
  client: Ollama,
  body: Record<string, unknown>,
  loading: Loading,
  server: string,
): AsyncGenerator<UpstreamEvent> {
  const { embeddings, prompt_eval_count } = await client.embed({
    model: body.model as string,
    input: body.input as string | string[],
    truncate: false,
    ...loading,
    ...(typeof body.dimensions === "number" ? { dimensions: body.dimensions } : {}),
  });
  const data = embeddings.map((embedding, index) => ({
    object: "embedding",
    index,
    embedding: body.encoding_format === "base64" ? toBase64(embedding) : embedding,
  }));
  yield { type: "chunk", chunk: { data }, tokens: 0 };
  yield {
    type: "usage",
    promptTokens: readCount(prompt_eval_count, server),
    completionTokens: 0,
    final: true,
  };
}

/** Ollama leaves a count of zero out. */
function readCount(count: unknown, server: string): number {
  if (count === undefined) return 0;
  if (Number.isSafeInteger(count) && (count as number) >= 0) return count as number;
  throw new InfernetError("upstream-failed", `${server} counts in something else than tokens`);
}

function toBase64(vector: number[]): string {
  return Buffer.from(Float32Array.from(vector).buffer).toString("base64");
}

/** As people write it, and as Ollama takes it: without the tag that is meant when none is named. */
function shortName(name: string): string {
  return name.replace(/:latest$/, "");
}

function isSold(name: string, sold: string | undefined): boolean {
  return sold === undefined || name === sold || name === `${sold}:latest`;
}
