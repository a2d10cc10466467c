// Owns the upstream for Ollama: its models with their digests, and its own API with the counts that it really made.
import { type ChatResponse, type GenerateResponse, type ModelResponse, Ollama } from "ollama";
import { Agent, type RequestInit, fetch as undiciFetch } from "undici";
import { type Hex, isHex, ZERO_WORD } from "../../protocol/bytes.ts";
import { InfernetError } from "../../protocol/errors.ts";
import type { ModelFeature } from "../../protocol/features.ts";
import { lastChoice, roleChoice } from "./choices.ts";
import { errorOfStatus, explainFailure } from "./failure.ts";
import { finishReasonOf, toChatRequest, toChoice, toGenerateRequest } from "./ollama-format.ts";
import {
  DEFAULT_CONTEXT_LENGTH,
  type Generation,
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
};

/** The context is what the model was made for or its Modelfile sets, but no more than this node gives memory for. */
type ModelDetails = Pick<UpstreamModel, "contextLength" | "features">;

export const OLLAMA_URL = "http://127.0.0.1:11434";
const DEFAULT_SILENCE_TIMEOUT_MS = 300_000;
const CONNECT_TIMEOUT_MS = 5_000;
const LIST_TIMEOUT_MS = 10_000;

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
  /** Asked for once a model: prompts are refused against them, and offers name them. */
  const details = new Map<string, Promise<ModelDetails>>();

  /** One client a generation: aborting a client ends all that runs on it. */
  function connect(signal: AbortSignal): Ollama {
    return new Ollama({ host, fetch: guardedFetch(agent, server, signal) });
  }

  function detailsOf(name: string, client: Ollama): Promise<ModelDetails> {
    const known = details.get(name);
    if (known !== undefined) return known;
    const asked = askDetails(name, client, settings.contextLength ?? DEFAULT_CONTEXT_LENGTH);
    details.set(name, asked);
    asked.catch(() => details.delete(name));
    return asked;
  }

  async function listModels(): Promise<UpstreamModel[]> {
    const signal = AbortSignal.timeout(LIST_TIMEOUT_MS);
    const client = connect(signal);
    try {
      const { models } = await client.list();
      const sold = models.filter(({ name }) => isSold(name, settings.modelName));
      details.clear();
      return await Promise.all(
        sold.map(async (model) => ({
          name: settings.modelName ?? model.name,
          digest: digestOf(model),
          ...(await detailsOf(model.name, client)),
        })),
      );
    } catch (error) {
      if (!signal.aborted) throw explainFailure(error, server);
      throw new InfernetError("upstream-timeout", `${server} does not list its models in time`, {
        cause: error,
      });
    }
  }

  async function* generate(input: Generation): AsyncGenerator<UpstreamEvent> {
    const { path, body, signal } = input;
    const leaving = new AbortController();
    const client = connect(AbortSignal.any([signal, leaving.signal]));
    try {
      const { contextLength } = await detailsOf(body.model as string, client);
      if (path === "/v1/embeddings") yield* embed(client, body);
      else if (path === "/v1/completions") {
        yield* readAnswer(await client.generate(toGenerateRequest(body, contextLength)), input, server);
      } else {
        yield* readAnswer(await client.chat(toChatRequest(body, contextLength)), input, server);
      }
    } catch (error) {
      throw explainFailure(error, server, signal);
    } finally {
      // Ends the model's work where the reader left early.
      leaving.abort();
    }
  }

  return { kind: "ollama", listModels, generate, close: () => agent.destroy() };
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

async function* embed(client: Ollama, body: Record<string, unknown>): AsyncGenerator<UpstreamEvent> {
  const { embeddings, prompt_eval_count } = await client.embed({
    model: body.model as string,
    input: body.input as string | string[],
    truncate: false,
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
    promptTokens: readCount(prompt_eval_count, "Ollama"),
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

function isSold(name: string, sold: string | undefined): boolean {
  return sold === undefined || name === sold || name === `${sold}:latest`;
}

function digestOf({ digest }: ModelResponse): Hex {
  const hex = `0x${digest.replace(/^sha256:/, "")}`;
  return isHex(hex, 32) ? hex : ZERO_WORD;
}

async function askDetails(name: string, client: Ollama, most: number): Promise<ModelDetails> {
  const { model_info, parameters, capabilities } = await client.show({ model: name });
  const info = Object.entries(model_info ?? {}).find(([key]) => key.endsWith(".context_length"))?.[1];
  const parameter = Number(/^num_ctx\s+(\d+)$/m.exec(parameters ?? "")?.[1]);
  const told = [parameter, Number(info), most].filter((length) => Number.isSafeInteger(length) && length > 0);
  return { contextLength: Math.min(...told), features: featuresOf(capabilities ?? ["completion"]) };
}

/** Ollama's capabilities in the offer's words. Whatever completes can be held to JSON by its `format`. */
function featuresOf(capabilities: readonly string[]): ModelFeature[] {
  const features: Record<string, readonly ModelFeature[]> = {
    completion: ["chat", "completions", "json"],
    tools: ["tools"],
    vision: ["images"],
    embedding: ["embeddings"],
  };
  return capabilities.flatMap((capability) => features[capability] ?? []);
}

/**
 * The library's door to the network. Left alone, the library writes to the console what it cannot read, which may be
 * a customer's text, and goes on without it: here a refusal is an error at once, and so is a line that is not JSON.
 */
function guardedFetch(agent: Agent, server: string, signal: AbortSignal): typeof fetch {
  const guarded = async (input: unknown, init: RequestInit = {}): Promise<unknown> => {
    const answer = await undiciFetch(String(input), { ...init, signal, dispatcher: agent });
    if (!answer.ok) throw errorOfStatus(server, answer.status, await describeRefusal(answer));
    const streamed = answer.headers.get("content-type")?.includes("ndjson");
    if (!streamed || answer.body === null) return answer;
    return new Response(ReadableStream.from(checkLines(answer.body, server)));
  };
  return guarded as typeof fetch;
}

async function describeRefusal(answer: { text(): Promise<string> }): Promise<string> {
  try {
    const { error } = JSON.parse(await answer.text()) as { error?: unknown };
    return typeof error === "string" ? error.slice(0, 200) : "";
  } catch {
    return "";
  }
}

/** Passes bytes on; throws at the first line that is not JSON. */
async function* checkLines(body: AsyncIterable<Uint8Array>, server: string): AsyncGenerator<Uint8Array> {
  const decoder = new TextDecoder();
  let unfinished = "";
  for await (const bytes of body) {
    const lines = (unfinished + decoder.decode(bytes, { stream: true })).split("\n");
    unfinished = lines.pop() ?? "";
    for (const line of lines) checkLine(line, server);
    yield bytes;
  }
  checkLine(unfinished, server);
}

function checkLine(line: string, server: string): void {
  if (line.trim() === "") return;
  try {
    JSON.parse(line);
  } catch {
    throw new InfernetError("upstream-failed", `${server} answered with something else than JSON`);
  }
}
