// Owns the HTTP(S) server that both actors put their routes on: raw bodies, one form of errors, a stop that ends.
import type { Server, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import fastify, {
  type FastifyBaseLogger,
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
  LogController,
} from "fastify";
import { InfernetError } from "../protocol/errors.ts";
import type { Certificate } from "./certificate.ts";
import { errorBody, translateError } from "./http-errors.ts";
import type { Log } from "./logger.ts";
import { systemCode } from "./private-file.ts";

export type HttpServer = {
  /** Put routes on it before `listen`. `request.body` is always a Buffer: the exact octets, empty without a body. */
  app: FastifyInstance;
  /** The port it got. `port-in-use`, `bad-config`. */
  listen(): Promise<{ port: number }>;
  /** Takes no new connection, lets running requests end for `graceMs`, then cuts what is left. Idempotent. */
  stop(graceMs: number): Promise<void>;
};

type ServerOptions = {
  host: string;
  port: number;
  certificate: Certificate | null;
  log: Log;
  maxBodyBytes: number;
  /** For a whole request to arrive, head and body. */
  requestTimeoutMs?: number;
};

const REQUEST_TIMEOUT_MS = 60_000;
const JSON_TYPE = /^application\/(?:[\w.-]+\+)?json\s*(?:;|$)/i;

/** A server that does not listen yet: HTTPS from TLS 1.2 on with a certificate, else HTTP. It never logs a body. */
export async function createHttpServer(options: ServerOptions): Promise<HttpServer> {
  const { log } = options;
  const app = createApp(options);
  app.removeAllContentTypeParsers();
  app.addContentTypeParser("*", { parseAs: "buffer" }, (_request, body, done) => done(null, body));
  app.addHook("onRequest", async (request, reply) => {
    reply.header("cache-control", "private, no-store");
    refuseUnreadableBody(request);
  });
  app.addHook("preValidation", async (request) => {
    request.body ??= Buffer.alloc(0);
  });
  app.setNotFoundHandler(() => {
    throw new InfernetError("not-found", "there is nothing here");
  });
  app.setErrorHandler((error, request, reply) => answerError(error, request, reply, log));

  const sockets = trackSockets(app.server);
  closeConnectionsOnceStopping(app.server);
  let stopping: Promise<void> | undefined;
  return {
    app,
    listen: () => listen(app, options),
    stop(graceMs) {
      stopping ??= stop(app, sockets, graceMs);
      return stopping;
    },
  };
}

function createApp(options: ServerOptions): FastifyInstance {
  const { requestTimeoutMs = REQUEST_TIMEOUT_MS } = options;
  const settings = {
    bodyLimit: options.maxBodyBytes,
    requestTimeout: requestTimeoutMs,
    // A time for the head that is longer than that for the whole would be taken for it.
    http: {
      requestTimeout: requestTimeoutMs,
      headersTimeout: requestTimeoutMs,
      connectionsCheckingInterval: requestTimeoutMs / 2,
    },
    exposeHeadRoutes: false,
    logController: new LogController({ disableRequestLogging: true }),
    loggerInstance: frameworkLog(options.log),
    clientErrorHandler(_error: Error, socket: Socket) {
      if (socket.writable)
        socket.write("HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
      socket.destroySoon();
    },
    frameworkErrors(error: Error, request: FastifyRequest, reply: FastifyReply) {
      return answerError(error, request, reply, options.log);
    },
  };
  if (options.certificate === null) return fastify(settings);
  const { keyPem: key, certificatePem: cert } = options.certificate;
  const secure = fastify({ ...settings, https: { key, cert, minVersion: "TLSv1.2" as const } });
  // Routes need not know whether there is TLS below them.
  return secure as unknown as FastifyInstance;
}

/** What fastify itself has to say: above all that a route failed after it took over its reply, as streams do. */
function frameworkLog(log: Log): FastifyBaseLogger {
  const silent = () => {};
  // Its sentences are left out: some quote the URL.
  const report = (fields: unknown) => {
    const { err: error } = (fields ?? {}) as { err?: unknown };
    log.error({ error }, "the HTTP layer met a bug");
  };
  const loud = { level: "error", error: report, fatal: report, warn: report };
  return { ...loud, info: silent, debug: silent, trace: silent, silent, child: () => frameworkLog(log) };
}

/** Hashes cover the octets as sent, so nothing may encode them, and only JSON is understood. */
function refuseUnreadableBody(request: FastifyRequest): void {
  const { headers } = request;
  if (headers["content-encoding"] !== undefined) {
    throw new InfernetError("wrong-content-type", "Content-Encoding is not accepted", {
      hint: "Send the body as it is, without compression.",
    });
  }
  const hasBody = headers["transfer-encoding"] !== undefined || Number(headers["content-length"] ?? 0) > 0;
  if (hasBody && !JSON_TYPE.test(headers["content-type"] ?? "")) {
    throw new InfernetError("wrong-content-type", "only JSON bodies are accepted", {
      hint: "Send Content-Type: application/json.",
    });
  }
}

function answerError(error: unknown, request: FastifyRequest, reply: FastifyReply, log: Log): FastifyReply {
  const route = `${request.method} ${request.routeOptions?.url ?? "(no route)"}`;
  const known = translateError(error);
  if (known === undefined) log.error({ route, error }, "a request met a bug");
  else log.debug({ route, code: known.code }, "a request was refused");
  const { status, contentType, body } = errorBody(known, request.url);
  return reply.code(status).type(contentType).send(body);
}

async function listen(app: FastifyInstance, options: ServerOptions): Promise<{ port: number }> {
  const { host, port } = options;
  try {
    await app.listen({ host, port });
  } catch (cause) {
    if (systemCode(cause) === "EADDRINUSE") {
      throw new InfernetError("port-in-use", `port ${port} of ${host} is taken`, {
        hint: "Stop what listens there, or choose another port; 0 takes any free one.",
        cause,
      });
    }
    if (systemCode(cause) === undefined) throw cause;
    throw new InfernetError("bad-config", `cannot listen on ${host} port ${port}: ${systemCode(cause)}`, {
      hint: "Choose an address of this machine, and a port from 1024 on unless you run as root.",
      cause,
    });
  }
  const address = app.server.address();
  return { port: typeof address === "object" && address !== null ? address.port : port };
}

/** The open connections, those in the middle of a TLS handshake too, which the HTTP layer does not count. */
function trackSockets(server: Server): Set<Socket> {
  const sockets = new Set<Socket>();
  server.on("connection", (socket: Socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
  });
  return sockets;
}

async function stop(app: FastifyInstance, sockets: Set<Socket>, graceMs: number): Promise<void> {
  const cut = setTimeout(() => {
    for (const socket of sockets) socket.destroy();
  }, graceMs);
  try {
    await app.close();
  } finally {
    clearTimeout(cut);
  }
}

/** Node closes the connections that are idle when the server stops, but not those that become idle afterwards. */
function closeConnectionsOnceStopping(server: Server): void {
  server.on("request", (_request, response: ServerResponse) => {
    response.once("close", () => {
      if (!server.listening) server.closeIdleConnections();
    });
  });
}
