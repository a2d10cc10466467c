// Owns what a client may ask for: what no node serves is refused here, before anything is paid.
import { InfernetError } from "../../protocol/errors.ts";
import { readGenerationRequest, refuseCostlyMembers } from "../../protocol/openai-request.ts";
import type { ModelPath } from "../../protocol/wire.ts";
import type { StreamForm, WholeForm } from "./answering.ts";
import { chunkStream, embeddingsAnswer, foldedAnswer } from "./openai-forms.ts";

/** A request as it is bought, and the form in which its client gets the answer. */
export type ClientRequest = {
  path: ModelPath;
  /** The client's own bytes, unless it wants one object: a stream risks two chunks where that would risk all. */
  body: Uint8Array;
  model: string;
  form: { stream: StreamForm } | { whole: WholeForm };
};

/** Reads a request of one of OpenAI's own routes. Throws `bad-request` that names the member. */
export function readClientRequest(path: ModelPath, bytes: Uint8Array): ClientRequest {
  const { body, model, stream, includeUsage } = readGenerationRequest(path, bytes);
  refuseCostlyMembers(body);
  refuseSound(body);
  if (path === "/v1/embeddings") {
    const asBase64 = body.encoding_format === "base64";
    return { path, body: bytes, model, form: { whole: embeddingsAnswer({ asBase64 }) } };
  }
  if (stream) return { path, body: bytes, model, form: { stream: chunkStream({ includeUsage }) } };
  return { path, body: streamedBody(body), model, form: { whole: foldedAnswer(path) } };
}

/** The same request, asked as a stream. */
function streamedBody(body: Record<string, unknown>): Uint8Array {
  return Buffer.from(JSON.stringify({ ...body, stream: true }));
}

/** Nodes sell text: neither sound nor files, in or out. */
function refuseSound({ modalities, audio, messages }: Record<string, unknown>): void {
  const isText = modalities === undefined || modalities === null || String(modalities) === "text";
  if (!isText) throw refusal("modalities", "nodes answer with text alone");
  if (audio !== undefined && audio !== null) throw refusal("audio", "nodes answer with text alone");
  for (const { content } of (messages ?? []) as { content?: unknown }[]) {
    const parts = (Array.isArray(content) ? content : []) as { type?: unknown }[];
    const sound = parts.find(({ type }) => type === "input_audio" || type === "file");
    if (sound) throw refusal("messages", `nodes read text and images, no ${sound.type}`);
  }
}

function refusal(param: string, message: string): InfernetError {
  return new InfernetError("bad-request", message, { data: { param } });
}
