// Owns what arrived of one answer: event ids without gaps, the transcript over them, and the requester's own count.
import type { Hex } from "../protocol/bytes.ts";
import { InfernetError } from "../protocol/errors.ts";
import { estimatePromptTokens } from "../protocol/price.ts";
import { extendTranscript } from "../protocol/transcript.ts";

/** What one payload carried for the user; both are empty for role, usage and end markers. */
export type ArrivedPiece = { text: string; finishReason: string | undefined };

export type AnswerReader = {
  /** Takes the next model event. Throws `node-misbehaved` when its id is not the next one. */
  accept(id: string | undefined, payload: string): ArrivedPiece;
  snapshot(): Arrived;
};

export type Arrived = {
  lastEventId: number;
  transcript: Hex;
  /** The requester's own count of completion tokens: what it pays for while the answer runs. */
  tokens: number;
  /** UTF-8 bytes of all generated text: no node may claim more completion tokens. */
  textBytes: number;
  text: string;
  finishReason: string;
};

/** Reads one request's answer from its first event on. */
export function createAnswerReader(requestId: Hex): AnswerReader {
  const arrived: Arrived = {
    lastEventId: 0,
    transcript: requestId,
    tokens: 0,
    textBytes: 0,
    text: "",
    finishReason: "",
  };
  let pieces = 0;
  return {
    accept(id, payload) {
      const expected = arrived.lastEventId + 1;
      if (id !== String(expected)) {
        throw new InfernetError("node-misbehaved", `the answer's event ${expected} came as "${id ?? ""}"`, {
          hint: "Nothing more is signed for this job; what is left of its deposit comes back.",
        });
      }
      arrived.lastEventId = expected;
      arrived.transcript = extendTranscript(arrived.transcript, payload);
      const piece = readPiece(payload);
      arrived.textBytes += piece.bytes;
      if (piece.bytes > 0) pieces += 1;
      // One piece is one token; where a node sends several tokens in a piece, their text speaks for them.
      arrived.tokens = Math.min(arrived.textBytes, Math.max(pieces, estimatePromptTokens(arrived.textBytes)));
      arrived.text += piece.text;
      arrived.finishReason = piece.finishReason ?? arrived.finishReason;
      return { text: piece.text, finishReason: piece.finishReason };
    },
    snapshot: () => ({ ...arrived }),
  };
}

type Json = Record<string, unknown>;

/** The generated text of a payload, of streamed and unstreamed answers alike; none in what is not a JSON object. */
function readPiece(payload: string): ArrivedPiece & { bytes: number } {
  let [text, bytes] = ["", 0];
  let finishReason: string | undefined;
  for (const choice of choicesOf(payload)) {
    const { role: _role, ...said } = objectOf(choice.delta ?? choice.message);
    bytes += bytesOf(choice.text) + bytesOf(said);
    const shown = choice.text ?? said.content;
    if (typeof shown === "string") text += shown;
    if (typeof choice.finish_reason === "string") finishReason = choice.finish_reason;
  }
  return { text, bytes, finishReason };
}

/** Bytes of every text in a value: answers, thoughts and tool calls are all generated. */
function bytesOf(value: unknown): number {
  if (typeof value === "string") return Buffer.byteLength(value);
  if (typeof value !== "object" || value === null) return 0;
  return Object.values(value).reduce<number>((sum, member) => sum + bytesOf(member), 0);
}

function choicesOf(payload: string): Json[] {
  try {
    const { choices } = objectOf(JSON.parse(payload));
    return Array.isArray(choices) ? choices.map(objectOf) : [];
  } catch {
    return [];
  }
}

function objectOf(value: unknown): Json {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Json) : {};
}
