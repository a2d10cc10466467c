// Owns how sampled tokens become text that can be sent: whole characters only, and nothing of a stop text.
import type { Token } from "node-llama-cpp";

/** Text to send, and how many completion tokens it carries: never more than it has bytes, as requesters check. */
export type TextPiece = { text: string; tokens: number };

export type TokenText = {
  /** Takes the next token; returns what can be sent now. */
  push(token: Token): TextPiece | undefined;
  /** What was held back, once no token follows. Tokens that spelled nothing are not counted. */
  flush(): TextPiece | undefined;
  /** The stop text that was met: all that follows is dropped. */
  readonly stoppedBy: string | undefined;
};

/** As many tokens as one character can take: when they still spell none, their bytes are not UTF-8. */
const LONGEST_CHARACTER_TOKENS = 4;
/** Tokens before the pending ones that decide how those are spaced. */
const CONTEXT_TOKENS = 8;
const REPLACEMENT = "\uFFFD";

/** `before` is the prompt, whose end decides how the first tokens are spaced. */
export function createTokenText(options: {
  detokenize(tokens: readonly Token[], before: readonly Token[]): string;
  before: readonly Token[];
  stops: readonly string[];
}): TokenText {
  const stops = options.stops.filter((stop) => stop !== "");
  let context = options.before.slice(-CONTEXT_TOKENS);
  let undecoded: Token[] = [];
  let heldText = "";
  let heldTokens = 0;
  let stoppedBy: string | undefined;

  function decode(token: Token, force: boolean): string {
    undecoded.push(token);
    const text = options.detokenize(undecoded, context);
    if (text.endsWith(REPLACEMENT) && undecoded.length < LONGEST_CHARACTER_TOKENS && !force) return "";
    context = [...context, ...undecoded].slice(-CONTEXT_TOKENS);
    undecoded = [];
    return text;
  }

  function release(length: number): TextPiece | undefined {
    const text = heldText.slice(0, length);
    heldText = heldText.slice(length);
    if (text === "") return undefined;
    const tokens = Math.min(heldTokens, Buffer.byteLength(text));
    heldTokens -= tokens;
    return { text, tokens };
  }

  return {
    push(token) {
      heldTokens++;
      heldText += decode(token, false);
      const found = stops
        .map((stop) => ({ stop, index: heldText.indexOf(stop) }))
        .filter(({ index }) => index >= 0)
        .toSorted((one, other) => one.index - other.index)[0];
      if (found === undefined) return release(heldText.length - longestStopStart(heldText, stops));
      stoppedBy = found.stop;
      return release(found.index);
    },
    flush() {
      if (stoppedBy !== undefined) return undefined;
      const last = undecoded.pop();
      if (last !== undefined) heldText += decode(last, true);
      return release(heldText.length);
    },
    get stoppedBy() {
      return stoppedBy;
    },
  };
}

/** Length of the longest end of the text that may yet grow into a stop text. */
function longestStopStart(text: string, stops: readonly string[]): number {
  let longest = 0;
  for (const stop of stops) {
    for (let length = Math.min(stop.length - 1, text.length); length > longest; length--) {
      if (text.endsWith(stop.slice(0, length))) longest = length;
    }
  }
  return longest;
}
