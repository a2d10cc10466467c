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
  /** The most completion tokens that a node may claim for what arrived. */
  tokenBound: number;
  text: string;
  finishReason: string;
};

/** Tokens without text that a model may count in one answer: its end token, and marks of tool calls or thoughts. */
const TEXTLESS_TOKENS = 16;

/** Reads one request's answer from its first event on. */
export function createAnswerReader(requestId: Hex): AnswerReader {
  const arrived: Arrived = {
    lastEventId: 0,
    transcript: requestId,
    tokens: 0,
    tokenBound: TEXTLESS_TOKENS,
    text: "",
    finishReason: "",
  };
  let pieces = 0;
  let bytes = 0;
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
      if (piece.parts.length > 0) {
        const size = piece.parts.reduce((sum, part) => sum + Buffer.byteLength(part), 0);
        pieces += 1;
        bytes += size;
        // One piece is one token; where a node sends several tokens in a piece, their text speaks for them.
        arrived.tokens = Math.min(bytes, Math.max(pieces, estimatePromptTokens(bytes)));
        // A piece without visible text may still be a token: half of a character.
        arrived.tokenBound += Math.max(size, 1);
      }
      arrived.text += piece.text;
      arrived.finishReason = piece.finishReason ?? arrived.finishReason;
      return { text: piece.text, finishReason: piece.finishReason };
    },
    snapshot: () => ({ ...arrived }),
  };
}

type Json = Record<string, unknown>;

/** The generated texts of a payload, of streamed and unstreamed answers alike; none in what is not a JSON object. */
function readPiece(payload: string): { parts: string[]; text: string; finishReason: string | undefined } {
  const parts: string[] = [];
  let text = "";
  let finishReason: string | undefined;
  for (const choice of choicesOf(payload)) {
    const message = objectOf(choice.delta ?? choice.message);
    const { role: _role, tool_calls, ...texts } = message;
    for (const value of [choice.text, ...Object.values(texts)])
      if (typeof value === "string") parts.push(value);
    for (const call of Array.isArray(tool_calls) ? tool_calls : []) {
      const { name, arguments: argumentsText } = objectOf(objectOf(call).function);
      for (const value of [name, argumentsText]) if (typeof value === "string") parts.push(value);
    }
    const shown = choice.text ?? message.content;
    if (typeof shown === "string") text += shown;
    if (typeof choice.finish_reason === "string") finishReason = choice.finish_reason;
  }
  return { parts, text, finishReason };
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
