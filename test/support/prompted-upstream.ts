// Owns a stand-in for a model that does what its prompt says: how many tokens it makes, and where it breaks down.
import { InfernetError } from "../../protocol/errors.ts";
import type { Generation, Upstream, UpstreamEvent } from "../../provider/upstreams/upstream.ts";
import { TINY } from "./scripted-upstream.ts";

/** What a prompt asks of the model, as JSON. `failAfter` is the token after which it breaks down. */
export type Wish = { tokens: number; promptTokens: number; failAfter?: number; countsAtEnd?: boolean };

export class PromptedUpstream implements Upstream {
  readonly kind = "openai";

  async listModels() {
    return [TINY];
  }

  async close(): Promise<void> {}

  async *generate({ body, signal }: Generation): AsyncGenerator<UpstreamEvent> {
    const { tokens, promptTokens, failAfter, countsAtEnd = true } = wishOf(body);
    for (let made = 0; made < tokens; made += 1) {
      if (made === failAfter) throw new InfernetError("upstream-failed", "the model broke down");
      // Other requests and the network have their turn between two tokens.
      await new Promise(setImmediate);
      signal.throwIfAborted();
      yield {
        type: "chunk",
        chunk: { choices: [{ index: 0, delta: { content: `w${made} ` }, finish_reason: null }] },
        tokens: 1,
      };
    }
    if (failAfter === tokens) throw new InfernetError("upstream-failed", "the model broke down at its end");
    yield { type: "chunk", chunk: { choices: [{ index: 0, delta: {}, finish_reason: "stop" }] }, tokens: 0 };
    if (countsAtEnd) yield { type: "usage", promptTokens, completionTokens: tokens, final: true };
  }
}

function wishOf(body: Record<string, unknown>): Wish {
  const [message] = body.messages as { content: string }[];
  return JSON.parse(message!.content) as Wish;
}
