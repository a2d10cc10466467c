// Owns the one answer that a client sees, whichever nodes it comes from: one id, one role, one sum of usage, one end.
import { DONE_PAYLOAD } from "../../protocol/openai-answer.ts";
import { estimatePromptTokens, type TokenCounts } from "../../protocol/price.ts";
import type { ModelPath } from "../../protocol/wire.ts";
import type { Begun } from "./continuation.ts";
import type { Json } from "./request-body.ts";

export type ClientStream = {
  /** Takes a payload of the node that answers now; what the client is to see of it goes on to it. */
  accept(payload: string): void;
  /** From now on another node answers: from where the text is, or anew while there is none. */
  switchNode(): void;
  /** Ends an answer that is whole but was not ended by its node; `finishReason` says why where no node did. */
  end(finishReason?: string): void;
  /** Counts of the node that answered last, as those of the whole answer. */
  sumOf(last: TokenCounts): TokenCounts;
  snapshot(): Begun & {
    hasPayload: boolean;
    /** Nothing of the answer is missing but, perhaps, its end marker. */
    isWhole: boolean;
    finishReason: string;
  };
};

/** The members that every payload of one answer repeats. */
const IDENTITY = ["id", "created", "model", "system_fingerprint"] as const;
/** Members of a choice and of a message piece that a plain text answer has. */
const PLAIN_CHOICE = ["index", "delta", "message", "text", "finish_reason", "logprobs"];
const PLAIN_DELTA = ["role", "content"];

export function createClientStream(
  { path, isStream }: { path: ModelPath; isStream: boolean },
  send: (payload: string) => void,
): ClientStream {
  let [text, tokens, pieces, textBytes, finishReason] = ["", 0, 0, 0, ""];
  let [isPlain, hasPayload, isDone, isSwitched] = [true, false, false, false];
  let identity: Json = {};
  /** Tokens of earlier nodes, which the present one reads as its prompt. */
  let carried = 0;

  const pass = (payload: string) => {
    hasPayload = true;
    send(payload);
  };
  const note = (chunk: Json): void => {
    for (const choice of choicesOf(chunk)) {
      const delta = objectOf(choice.delta ?? choice.message);
      const said = choice.text ?? delta.content;
      isPlain &&=
        hasOnly(choice, PLAIN_CHOICE) && hasOnly(delta, PLAIN_DELTA) && (choice.logprobs ?? null) === null;
      if (typeof said === "string" && said !== "") {
        text += said;
        textBytes += Buffer.byteLength(said);
        pieces += 1;
        tokens = Math.min(textBytes, Math.max(pieces, estimatePromptTokens(textBytes)));
      }
      if (typeof choice.finish_reason === "string") finishReason = choice.finish_reason;
    }
  };
  const sumOf = ({ promptTokens, completionTokens }: TokenCounts): TokenCounts => ({
    promptTokens: Math.max(promptTokens - carried, 0),
    completionTokens: completionTokens + carried,
  });
  /** A payload of a later node as one more of the first one's; undefined for one that says nothing new. */
  const joined = (chunk: Json): string | undefined => {
    const choices = choicesOf(chunk).map((choice) => withoutRole(choice, hasPayload));
    const isEmpty = (chunk.usage ?? null) === null && choices.length > 0 && choices.every(saysNothing);
    if (isEmpty) return undefined;
    const usage =
      typeof chunk.usage === "object" ? { usage: sumUsage(chunk.usage as Json | null, sumOf) } : {};
    return JSON.stringify({ ...chunk, ...identity, choices, ...usage });
  };

  return {
    sumOf,
    accept(payload) {
      if (payload === DONE_PAYLOAD) {
        if (!isDone) pass(payload);
        isDone = true;
        return;
      }
      const chunk = parseObject(payload);
      if (!chunk) return pass(payload);
      if (!hasPayload) identity = Object.fromEntries(IDENTITY.flatMap((name) => memberOf(chunk, name)));
      const shown = isSwitched && hasPayload && isStream ? joined(chunk) : payload;
      note(chunk);
      if (shown !== undefined) pass(shown);
    },
    switchNode() {
      isSwitched = true;
      carried = tokens;
    },
    end(reason) {
      if (!isStream || isDone) return;
      if (reason !== undefined && finishReason === "") {
        const said = path === "/v1/completions" ? { text: "" } : { delta: {} };
        finishReason = reason;
        const object = path === "/v1/completions" ? "text_completion" : "chat.completion.chunk";
        pass(
          JSON.stringify({ ...identity, object, choices: [{ index: 0, ...said, finish_reason: reason }] }),
        );
      }
      isDone = true;
      pass(DONE_PAYLOAD);
    },
    snapshot: () => ({
      ...{ text, tokens, isPlain, hasPayload, finishReason },
      isWhole: isStream ? isDone || finishReason !== "" : hasPayload,
    }),
  };
}

function sumUsage(usage: Json | null, sumOf: (last: TokenCounts) => TokenCounts): Json | null {
  if (usage === null) return null;
  const count = (name: string) => Number(usage[name] ?? 0);
  const { promptTokens, completionTokens } = sumOf({
    promptTokens: count("prompt_tokens"),
    completionTokens: count("completion_tokens"),
  });
  return {
    ...usage,
    prompt_tokens: promptTokens,
    completion_tokens: completionTokens,
    total_tokens: promptTokens + completionTokens,
  };
}

/** The role is said once. */
function withoutRole(choice: Json, wasSaid: boolean): Json {
  if (!wasSaid || typeof choice.delta !== "object" || choice.delta === null) return choice;
  const { role: _role, ...delta } = choice.delta as Json;
  return { ...choice, delta };
}

function saysNothing(choice: Json): boolean {
  const said = [choice.text, ...Object.values(objectOf(choice.delta))];
  return (choice.finish_reason ?? null) === null && said.every((value) => (value ?? "") === "");
}

function hasOnly(value: Json, names: readonly string[]): boolean {
  return Object.entries(value).every(([name, member]) => names.includes(name) || (member ?? null) === null);
}

function memberOf(chunk: Json, name: string): [string, unknown][] {
  return chunk[name] === undefined ? [] : [[name, chunk[name]]];
}

function choicesOf({ choices }: Json): Json[] {
  return Array.isArray(choices) ? choices.map(objectOf) : [];
}

function objectOf(value: unknown): Json {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Json) : {};
}

function parseObject(payload: string): Json | undefined {
  try {
    const value: unknown = JSON.parse(payload);
    return typeof value === "object" && value !== null ? (value as Json) : undefined;
  } catch {
    return undefined;
  }
}
