// Owns embeddings of an embedded model: a context of their own, made when the first is asked for.
import type { LlamaEmbeddingContext, LlamaModel } from "node-llama-cpp";
import { InfernetError } from "../../protocol/errors.ts";
import type { Generation, UpstreamEvent } from "./upstream.ts";

export type Embedder = { embed(input: Generation): AsyncGenerator<UpstreamEvent> };

/** Architectures of models that make embeddings and nothing else. */
const EMBEDDING_ARCHITECTURE = /bert|gte|embedding|t5encoder/;

/** Whether a model was made for embeddings alone: it says how its vectors are pooled, or has no other use. */
export function isEmbeddingModel({ fileInfo: { metadata }, fileInsights }: LlamaModel): boolean {
  const { architecture } = metadata.general;
  const told = (metadata as unknown as Record<string, Record<string, unknown> | undefined>)[architecture];
  return (
    Number(told?.pooling_type ?? 0) > 0 ||
    EMBEDDING_ARCHITECTURE.test(architecture) ||
    !fileInsights.hasDecoder
  );
}

export function createEmbedder(
  model: LlamaModel,
  options: { contextLength: number; threads: number },
): Embedder {
  const { contextLength, threads } = options;
  let opened: Promise<LlamaEmbeddingContext> | undefined;
  const open = () => {
    opened ??= model.createEmbeddingContext({
      contextSize: contextLength,
      batchSize: contextLength,
      threads,
    });
    opened.catch(() => {
      opened = undefined;
    });
    return opened;
  };

  async function* embed({ body, signal }: Generation): AsyncGenerator<UpstreamEvent> {
    const toText = readEncoding(body.encoding_format);
    refuseOtherSize(body.dimensions, model.embeddingVectorSize);
    const inputs = [body.input].flat() as string[];
    const context = await open();
    const tokenLists = inputs.map((input) => model.tokenize(input));
    const lengths = tokenLists.map((tokens) => context.calculateInputLength([...tokens]));
    const longest = Math.max(...lengths);
    if (longest >= contextLength) {
      throw new InfernetError(
        "bad-request",
        `an input has ${longest} tokens, and the model reads ${contextLength - 1}`,
        {
          hint: "Send it in parts.",
        },
      );
    }
    const data: object[] = [];
    for (const [index, tokens] of tokenLists.entries()) {
      signal.throwIfAborted();
      const { vector } = await context.getEmbeddingFor([...tokens]);
      data.push({ object: "embedding", index, embedding: toText(unitVector(vector)) });
    }
    yield { type: "chunk", chunk: { data }, tokens: 0 };
    const promptTokens = lengths.reduce((sum, length) => sum + length, 0);
    yield { type: "usage", promptTokens, completionTokens: 0, final: true };
  }

  return { embed };
}

function readEncoding(format: unknown): (vector: readonly number[]) => readonly number[] | string {
  if (format === undefined || format === null || format === "float") return (vector) => vector;
  if (format === "base64")
    return (vector) => Buffer.from(Float32Array.from(vector).buffer).toString("base64");
  throw new InfernetError("bad-request", "encoding_format must be float or base64");
}

function refuseOtherSize(dimensions: unknown, size: number): void {
  if (dimensions === undefined || dimensions === null || dimensions === size) return;
  throw new InfernetError(
    "bad-request",
    `the model makes vectors of ${size} dimensions: leave dimensions out`,
  );
}

/** Of length one, as OpenAI's are: their products are cosines. */
function unitVector(vector: readonly number[]): number[] {
  const length = Math.hypot(...vector) || 1;
  return vector.map((value) => value / length);
}
