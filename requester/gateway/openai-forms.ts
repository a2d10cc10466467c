// Owns how OpenAI's own routes answer: payloads as the node sent them, or folded into one object.
import type { InfernetError } from "../../protocol/errors.ts";
import { DONE_PAYLOAD, foldPayloads, readPayload } from "../../protocol/openai-answer.ts";
import type { ModelPath } from "../../protocol/wire.ts";
import { openAiErrorOf } from "../../runtime/http-errors.ts";
import type { ClientEvent, StreamForm, WholeForm } from "./answering.ts";

/** A stream of chunks. Nodes always count at its end; the client gets the counts if it asked for them, as OpenAI does. */
export function chunkStream({ includeUsage }: { includeUsage: boolean }): StreamForm {
  return {
    take(payload): ClientEvent[] {
      if (payload === DONE_PAYLOAD) return [];
      const chunk = readPayload(payload);
      const isUsage = Boolean(chunk.usage) && (chunk.choices ?? []).length === 0;
      if (isUsage) return includeUsage ? [{ data: payload }] : [];
      // Asked for, `usage` is a member of every chunk: null until the last.
      const lacks = includeUsage && chunk.usage === undefined;
      return [{ data: lacks ? JSON.stringify({ ...chunk, usage: null }) : payload }];
    },
    finish: () => [{ data: DONE_PAYLOAD }],
    fail: (error: InfernetError | undefined) => [{ data: JSON.stringify(openAiErrorOf(error)) }],
  };
}

/** One object that says what the stream said. */
export function foldedAnswer(path: ModelPath): WholeForm {
  const payloads: string[] = [];
  return {
    take: (payload) => void payloads.push(payload),
    finish: () => foldPayloads(path, payloads),
  };
}

/** The node's embeddings, as numbers or as base64 of 32-bit floats: OpenAI's clients ask for the latter by themselves. */
export function embeddingsAnswer({ asBase64 }: { asBase64: boolean }): WholeForm {
  let body = "";
  return {
    take(payload) {
      body = payload;
    },
    finish() {
      if (!asBase64) return body;
      const answer = JSON.parse(body) as { data?: { embedding?: unknown }[] };
      const data = (answer.data ?? []).map((item) => ({ ...item, embedding: encodeFloats(item.embedding) }));
      return { ...answer, data };
    },
  };
}

function encodeFloats(embedding: unknown): unknown {
  if (!Array.isArray(embedding)) return embedding;
  return Buffer.from(Float32Array.from(embedding as number[]).buffer).toString("base64");
}
