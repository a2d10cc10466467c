// Owns one purchase while it runs: what came is kept for whoever follows, and it ends when nobody waits for it any more.
import { InfernetError } from "../../protocol/errors.ts";
import { DONE_PAYLOAD } from "../../protocol/openai-answer.ts";
import type { ModelPath } from "../../protocol/wire.ts";
import type { Bought, Buyer, RouteWish } from "../routing/buyer.ts";

export type Order = {
  path: ModelPath;
  body: Uint8Array;
  wish?: RouteWish | undefined;
  /** As the client named them: for whoever watches. */
  route: string;
  model: string;
};
export type PurchaseEnd = { bought: Bought } | { error: unknown };
export type Route = { node: string; model: string };

export type Purchase = {
  /** Resolves at the first payload, or at the end. */
  readonly begun: Promise<void>;
  readonly ended: Promise<PurchaseEnd>;
  /** What it came to; undefined while it runs. */
  end(): PurchaseEnd | undefined;
  /** Whether the answer came to its end, whatever its bill says. */
  isWhole(): boolean;
  /** Who answers, once that is known. */
  route(): Route | undefined;
  /** All payloads, as they come. More than once only where they are kept. */
  follow(): AsyncGenerator<string>;
  /** Bytes of the payloads that are held. */
  heldBytes(): number;
  /** Says that somebody waits for it; the returned function, that it is over. */
  hold(): () => void;
  abort(reason: InfernetError): void;
};

type PurchaseOptions = {
  /** Whether payloads stay for those who follow later. */
  keeps: boolean;
  /** How long it goes on when nobody waits for it, in milliseconds. */
  patienceMs: number;
};

/** Held for a reader that takes nothing: far more than an answer has, and little for a machine. */
const MAX_HELD_BYTES = 8 * 1024 * 1024;

/** Starts to buy at once. */
export function startPurchase(buyer: Buyer, order: Order, options: PurchaseOptions): Purchase {
  const abort = new AbortController();
  const begun = Promise.withResolvers<void>();
  let payloads: string[] = [];
  let held = 0;
  let isWhole = false;
  let route: Route | undefined;
  let end: PurchaseEnd | undefined;
  const waiting: (() => void)[] = [];
  let holders = 0;
  let leaving: NodeJS.Timeout | undefined;

  const wake = () => {
    for (const resolve of waiting.splice(0)) resolve();
  };
  const take = (payload: string) => {
    if (held > MAX_HELD_BYTES)
      abort.abort(new InfernetError("interrupted", "the client does not read its answer"));
    if (abort.signal.aborted) return;
    payloads.push(payload);
    held += payload.length;
    // An unstreamed answer is one payload.
    isWhole ||= payload === DONE_PAYLOAD || order.path === "/v1/embeddings";
    begun.resolve();
    wake();
  };
  const leave = () => {
    abort.abort(new InfernetError("interrupted", "the client went away"));
  };

  async function run(): Promise<PurchaseEnd> {
    try {
      const { path, body, wish } = order;
      const bought = await buyer.buy({
        ...{ path, body, wish },
        signal: abort.signal,
        onRoute: (chosen) => {
          route = chosen;
        },
        onPayload: take,
      });
      return { bought };
    } catch (error) {
      return { error };
    }
  }

  const ended = run().then((came) => {
    end = came;
    clearTimeout(leaving);
    begun.resolve();
    wake();
    return came;
  });

  async function* follow(): AsyncGenerator<string> {
    for (let at = 0; ; ) {
      if (options.keeps) for (; at < payloads.length; at += 1) yield payloads[at]!;
      else {
        const came = payloads;
        [payloads, held] = [[], 0];
        yield* came;
      }
      if (payloads.length > (options.keeps ? at : 0)) continue;
      if (end) return;
      await new Promise<void>((resolve) => waiting.push(resolve));
    }
  }

  return {
    begun: begun.promise,
    ended,
    end: () => end,
    isWhole: () => isWhole,
    route: () => route,
    follow,
    heldBytes: () => held,
    abort: (reason) => abort.abort(reason),
    hold() {
      let holds = true;
      holders += 1;
      clearTimeout(leaving);
      return () => {
        if (!holds) return;
        holds = false;
        holders -= 1;
        if (holders > 0 || end) return;
        if (options.patienceMs === 0) leave();
        else leaving = setTimeout(leave, options.patienceMs);
      };
    },
  };
}
