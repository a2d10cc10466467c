// Owns the gateway: OpenAI's API on this machine's loopback, every answer bought on the market.
import { randomUUID } from "node:crypto";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { InfernetError } from "../../protocol/errors.ts";
import { toJson } from "../../protocol/schema.ts";
import { MODEL_PATHS } from "../../protocol/wire.ts";
import type { Clock } from "../../runtime/clock.ts";
import { createHttpServer } from "../../runtime/http-server.ts";
import type { Log } from "../../runtime/logger.ts";
import type { Buyer, RouteWish } from "../routing/buyer.ts";
import { guardAccess } from "./access.ts";
import { answerStreamed, answerWhole, CHARGE_HEADER, formatCharge } from "./answering.ts";
import { type ClientRequest, readClientRequest } from "./client-request.ts";
import { findModel, listModels, notSold } from "./models.ts";
import type { Order, PurchaseEnd } from "./purchase.ts";
import { chargedOf, createPurchases, type Purchases } from "./purchases.ts";
import { readResponses } from "./responses-form.ts";
import type { RequestCounts } from "./status.ts";

export type GatewayDeps = {
  buyer: Buyer;
  listen: { host: string; port: number };
  /** Every request must carry it; without one, everybody on this machine may spend. */
  token?: string | undefined;
  /** Web pages that may use the gateway. */
  allowedOrigins: readonly string[];
  /** Names that stand for models, as the buyer was told them: to be listed. */
  aliases?: Readonly<Record<string, string>> | undefined;
  /** How every request is routed. */
  wish?: RouteWish | undefined;
  /** What `/infernet/status` answers, with the gateway's own figures in it. */
  status(counts: RequestCounts): object;
  log: Log;
  clock: Clock;
  /** In milliseconds: see `answering`, `purchases` and `http-server`. */
  patience?: { openAfterMs?: number; reconnectMs?: number; requestTimeoutMs?: number };
};

/** What happens to requests; amounts in USDC base units. */
export type GatewayEvent =
  | {
      type: "served";
      path: string;
      model: string;
      node: string;
      promptTokens: number;
      completionTokens: number;
      charge: bigint;
      firstTokenMs: number;
    }
  | { type: "failed"; path: string; model: string; code: string; message: string; charge: bigint };

export type Gateway = {
  /** Without `/v1`. */
  url: string;
  snapshot(): RequestCounts;
  subscribe(listener: (event: GatewayEvent) => void): () => void;
  /** Takes no new request, lets those that run end for `graceMs`, then ends them. */
  stop(graceMs: number): Promise<void>;
};

/** Images travel in requests. */
const MAX_BODY_BYTES = 20 * 1024 * 1024;

/** For the last words of requests that are ended. */
const CLOSING_MS = 2_000;

/** Starts to listen. Throws `port-in-use`, `bad-config`: for a host beyond this machine without a token, too. */
export async function startGateway(deps: GatewayDeps): Promise<Gateway> {
  const { buyer, listen, log, clock, patience = {} } = deps;
  const server = await createHttpServer({
    ...{ ...listen, certificate: null, log, maxBodyBytes: MAX_BODY_BYTES },
    ...(patience.requestTimeoutMs === undefined ? {} : { requestTimeoutMs: patience.requestTimeoutMs }),
  });
  const { app } = server;
  app.addHook("onRequest", async (_request, reply) => void reply.header("x-request-id", randomUUID()));
  guardAccess(app, { host: listen.host, token: deps.token, allowedOrigins: deps.allowedOrigins });
  const counts: RequestCounts = { running: 0, served: 0, failed: 0, startedAt: clock.nowSeconds() };
  const listeners = new Set<(event: GatewayEvent) => void>();
  const purchases = createPurchases(buyer, clock, {
    patienceMs: patience.reconnectMs,
    onEnded(order, end) {
      const event = eventOf(order, end);
      counts[event.type] += 1;
      for (const listener of listeners) listener(event);
    },
  });
  const snapshot = () => ({ ...counts, running: purchases.running() });
  addModelRoutes(app, deps, purchases);
  addListRoutes(app, deps, counts.startedAt);
  app.get("/healthz", async () => ({ status: "ok" }));
  app.get("/infernet/status", async (_request, reply) =>
    reply.type("application/json").send(toJson(deps.status(snapshot()))),
  );
  const { port } = await server.listen();
  const host = listen.host.includes(":") ? `[${listen.host}]` : listen.host;
  return {
    url: `http://${host}:${port}`,
    snapshot,
    subscribe(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    async stop(graceMs) {
      const ending = setTimeout(() => {
        void purchases.stop(new InfernetError("interrupted", "the gateway is stopping"));
      }, graceMs);
      await server.stop(graceMs + CLOSING_MS);
      clearTimeout(ending);
      await purchases.stop(new InfernetError("interrupted", "the gateway is stopping"));
    },
  };
}

function addModelRoutes(app: FastifyInstance, deps: GatewayDeps, purchases: Purchases): void {
  const { log, clock, wish, patience } = deps;
  const serve = async (request: FastifyRequest, reply: FastifyReply, wanted: ClientRequest) => {
    const { path, body, form, model } = wanted;
    const purchase = purchases.open({ path, body, wish, model, route: request.url }, keyOf(request));
    const answering = { purchase, reply, log, openAfterMs: patience?.openAfterMs };
    if ("stream" in form) await answerStreamed(answering, form.stream);
    else await answerWhole(answering, form.whole);
  };
  const route = (url: string, read: (bytes: Buffer) => ClientRequest) => {
    app.post(url, async (request, reply) => {
      let model = "";
      try {
        const wanted = read(request.body as Buffer);
        model = wanted.model;
        await serve(request, reply, wanted);
      } catch (error) {
        if (!(error instanceof InfernetError)) throw error;
        addErrorHeaders(error, reply);
        throw await explain(error, model, deps);
      }
      return reply;
    });
  };
  for (const path of MODEL_PATHS) route(path, (bytes) => readClientRequest(path, bytes));
  route("/v1/responses", (bytes) => readResponses(bytes, clock));
}

function addListRoutes(app: FastifyInstance, { buyer, aliases = {} }: GatewayDeps, created: number): void {
  const listed = async () => listModels(await buyer.models(), aliases, created);
  app.get("/v1/models", async () => ({ object: "list", data: await listed() }));
  // Names of models hold slashes, too.
  app.get("/v1/models/*", async (request) =>
    findModel(await listed(), (request.params as { "*": string })["*"]),
  );
}

/** What a purchase came to, in one word for whoever watches. */
function eventOf({ route: path, model }: Order, end: PurchaseEnd): GatewayEvent {
  if ("bought" in end) {
    const { node, promptTokens, completionTokens, charge, firstTokenMs, ...bought } = end.bought;
    const counts = { promptTokens, completionTokens, charge, firstTokenMs };
    return { type: "served", path, model: bought.model, node, ...counts };
  }
  const isKnown = end.error instanceof InfernetError;
  const { code, message } = isKnown
    ? (end.error as InfernetError)
    : { code: "bug", message: "something went wrong on this side" };
  return { type: "failed", path, model, code, message, charge: chargedOf(end.error) };
}

function keyOf({ headers }: FastifyRequest): string | undefined {
  const key = headers["idempotency-key"];
  return Array.isArray(key) ? key.join() : key;
}

/** When to ask again; and not at all by itself where that would pay twice: OpenAI's clients heed both. */
function addErrorHeaders(error: InfernetError, reply: FastifyReply): void {
  const { retryAfter, retryAfterSeconds = retryAfter } = error.data;
  if (retryAfterSeconds !== undefined) reply.header("retry-after", String(retryAfterSeconds));
  const charged = chargedOf(error);
  if (charged > 0n) reply.header(CHARGE_HEADER, formatCharge(charged));
  if (charged > 0n || error.code === "request-mismatch") reply.header("x-should-retry", "false");
}

/** Where no node serves a model because nobody sells it, the client is told so. */
async function explain(error: InfernetError, model: string, deps: GatewayDeps): Promise<InfernetError> {
  if (error.code !== "no-node") return error;
  const sold = await deps.buyer.models().catch(() => undefined);
  if (sold === undefined) return error;
  const listed = listModels(sold, deps.aliases ?? {}, 0);
  return listed.some(({ id }) => id === model) || model.startsWith("auto:") ? error : notSold(model, listed);
}
