// Owns a gateway whose market is a script, for faults and forms: what is said when, what fails and what it costs.
import { InfernetError } from "../../protocol/errors.ts";
import {
  type Gateway,
  type GatewayDeps,
  type GatewayEvent,
  startGateway,
} from "../../requester/gateway/server.ts";
import type { Bought, Buyer, BuyInput, SoldModel } from "../../requester/routing/buyer.ts";
import { systemClock } from "../../runtime/clock.ts";
import { createLogger } from "../../runtime/logger.ts";

export const NODE = `0x${"0a".repeat(20)}` as const;
export const SOLD: SoldModel = {
  name: "org/tiny:1b",
  nodes: [NODE],
  best: { node: NODE, inputPrice: 100_000n, outputPrice: 400_000n },
  features: ["chat", "completions", "embeddings", "tools", "json"],
  contextLength: 2048,
};

/** One purchase as its script sees it. */
export type Sale = {
  input: BuyInput;
  /** The request as parsed. */
  body: Record<string, unknown>;
  route(): void;
  /** One chunk of a chat: a delta, and why it ends if it does. */
  say(delta: object, finishReason?: string | null): void;
  /** The usage and the end of a stream. */
  finish(promptTokens?: number, completionTokens?: number): void;
  /** Rejects when the purchase is aborted, with `interrupted` and what it cost. */
  aborted(charge?: bigint): Promise<never>;
};

export type ScriptedGateway = Gateway & {
  sales: Sale[];
  events: GatewayEvent[];
  post(
    path: string,
    body: unknown,
    headers?: Record<string, string>,
    signal?: AbortSignal,
  ): Promise<Response>;
};

/** The charge of every purchase that ends well: 5 millionths of a base unit more than 12 base units. */
export const COST_MILLIONTHS = 12_000_005n;

export async function startScriptedGateway(
  play: (sale: Sale) => Promise<void> | void,
  deps: Partial<GatewayDeps> = {},
): Promise<ScriptedGateway> {
  const sales: Sale[] = [];
  const events: GatewayEvent[] = [];
  const buyer: Buyer = {
    async buy(input) {
      const sale = saleOf(input);
      sales.push(sale);
      await play(sale);
      return BOUGHT;
    },
    models: async () => [SOLD],
    table: () => [],
    stop: async () => {},
  };
  const gateway = await startGateway({
    ...{ buyer, listen: { host: "127.0.0.1", port: 0 }, allowedOrigins: [], clock: systemClock },
    ...{ status: (requests) => ({ requests }), log: createLogger({ level: "silent" }) },
    ...deps,
  });
  gateway.subscribe((event) => events.push(event));
  return {
    ...gateway,
    sales,
    events,
    post: (path, body, headers = {}, signal) =>
      fetch(`${gateway.url}${path}`, {
        method: "POST",
        headers: { "content-type": "application/json", ...headers },
        body: typeof body === "string" ? body : JSON.stringify(body),
        ...(signal ? { signal } : {}),
      }),
  };
}

const BOUGHT: Bought = {
  ...{ jobId: `0x${"01".repeat(32)}`, requestId: `0x${"02".repeat(32)}`, node: NODE, model: SOLD.name },
  ...{ promptTokens: 3, completionTokens: 2, estimated: false, costMillionths: COST_MILLIONTHS, charge: 13n },
  ...{ text: "", finishReason: "stop", firstTokenMs: 1, tokensPerSecond: 1, attempts: [] },
};

function saleOf(input: BuyInput): Sale {
  const body = JSON.parse(Buffer.from(input.body).toString());
  const send = (piece: object) =>
    input.onPayload(
      JSON.stringify({
        ...{ id: "chatcmpl-1", object: "chat.completion.chunk", created: 1_800_000_000, model: SOLD.name },
        ...piece,
      }),
    );
  const route = () => input.onRoute?.({ node: NODE, model: SOLD.name });
  return {
    input,
    body,
    route,
    say(delta, finish_reason = null) {
      route();
      send({ choices: [{ index: 0, delta, finish_reason }] });
    },
    finish(prompt_tokens = 3, completion_tokens = 2) {
      const total_tokens = prompt_tokens + completion_tokens;
      send({ choices: [], usage: { prompt_tokens, completion_tokens, total_tokens } });
      input.onPayload("[DONE]");
    },
    aborted: (charge = 0n) =>
      new Promise((_resolve, reject) => {
        const end = () =>
          reject(new InfernetError("interrupted", "interrupted", { data: { charge: charge.toString() } }));
        if (input.signal?.aborted) end();
        else input.signal?.addEventListener("abort", end, { once: true });
      }),
  };
}

/** The events of an event stream as they stand in its text: comments, names and data. */
export function streamLines(text: string): string[] {
  return text.split("\n").filter((line) => line !== "");
}
