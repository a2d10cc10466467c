// Owns who may read the node's metrics: programs of this machine on the node's own server, or a listener for them alone.
import { BlockList, isIPv6 } from "node:net";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { InfernetError } from "../../protocol/errors.ts";
import { createHttpServer, type HttpServer } from "../../runtime/http-server.ts";
import type { Log } from "../../runtime/logger.ts";
import type { Metrics } from "../metrics.ts";

const METRICS_PATH = "/metrics";
/** What proxies add: behind one on this machine, every peer looks like this machine. */
const PROXY_HEADERS = ["forwarded", "x-forwarded-for", "x-real-ip", "via"];

const loopback = new BlockList();
loopback.addSubnet("127.0.0.0", 8, "ipv4");
loopback.addAddress("::1", "ipv6");

/** Puts `GET /metrics` on the node's own server; to a peer on another machine it does not exist. */
export function addMetricsRoute(app: FastifyInstance, metrics: Metrics): void {
  app.get(METRICS_PATH, async (request, reply) => {
    if (!isFromThisMachine(request)) throw new InfernetError("not-found", "there is nothing here");
    return sendMetrics(reply, metrics);
  });
}

/** A plain HTTP server for metrics and nothing else, for whoever reaches the address. It does not listen yet. */
export async function createMetricsServer(
  listen: { host: string; port: number },
  metrics: Metrics,
  log: Log,
): Promise<HttpServer> {
  const server = await createHttpServer({ ...listen, certificate: null, log, maxBodyBytes: 1 });
  server.app.get(METRICS_PATH, (_request, reply) => sendMetrics(reply, metrics));
  return server;
}

async function sendMetrics(reply: FastifyReply, metrics: Metrics): Promise<FastifyReply> {
  return reply.type(metrics.contentType).send(await metrics.render());
}

function isFromThisMachine({ raw, headers }: FastifyRequest): boolean {
  if (PROXY_HEADERS.some((name) => headers[name] !== undefined)) return false;
  const { remoteAddress } = raw.socket;
  return (
    remoteAddress !== undefined && loopback.check(remoteAddress, isIPv6(remoteAddress) ? "ipv6" : "ipv4")
  );
}
