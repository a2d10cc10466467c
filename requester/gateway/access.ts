// Owns who may speak to the gateway: programs of this machine that know its name, and the token where there is one.
import { createHash, timingSafeEqual } from "node:crypto";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { InfernetError } from "../../protocol/errors.ts";
import { isLoopbackHost } from "../../runtime/loopback.ts";

export type AccessRules = {
  /** Where the gateway listens. */
  host: string;
  token?: string | undefined;
  /** Web pages that may use it, as browsers write them: scheme, host and port. */
  allowedOrigins: readonly string[];
};

/** Who may be asked without a token: says nothing but that the gateway lives. */
const OPEN_ROUTE = "/healthz";
const LOOPBACK_NAMES = ["127.0.0.1", "localhost", "[::1]"];
/** What a page of an allowed origin may read of an answer besides its body. */
const EXPOSED_HEADERS = "x-infernet-node, x-infernet-charge, x-request-id, retry-after, x-should-retry";
const PREFLIGHT_SECONDS = 600;

/** Checks every request before its body is read. Throws `bad-config` for rules that would let strangers in. */
export function guardAccess(app: FastifyInstance, rules: AccessRules): void {
  checkRules(rules);
  app.addHook("onRequest", async (request, reply) => {
    checkHost(request, rules);
    const origin = checkOrigin(request, rules);
    if (origin !== undefined) {
      reply.header("access-control-allow-origin", origin).header("vary", "Origin");
      reply.header("access-control-expose-headers", EXPOSED_HEADERS);
      if (request.method === "OPTIONS") return answerPreflight(request, reply);
    }
    if (request.url !== OPEN_ROUTE) checkToken(request, reply, rules.token);
  });
}

function checkRules({ host, token, allowedOrigins }: AccessRules): void {
  if (!isLoopbackHost(host) && token === undefined) {
    throw new InfernetError("bad-config", `anybody who reaches ${host} could spend this wallet's money`, {
      hint: "Give the gateway a token (--token-file FILE or INFERNET_GATEWAY_TOKEN), or listen on 127.0.0.1.",
    });
  }
  // Apps have schemes of their own, which the URL standard gives no origin.
  const wrong = allowedOrigins.find((origin) => !/^[a-z][a-z0-9+.-]*:\/\/[a-z0-9.:[\]-]+$/.test(origin));
  if (wrong === undefined) return;
  throw new InfernetError("bad-config", `"${wrong}" is not an origin`, {
    hint: "Write it as browsers do: scheme, host and port, like https://chat.example or http://localhost:3000.",
  });
}

/**
 * A page whose own name was made to point here (DNS rebinding) still sends its own name. Off the loopback the machine has
 * names that nobody knows here: there the token alone decides, which no page knows.
 */
function checkHost(request: FastifyRequest, { host }: AccessRules): void {
  if (!isLoopbackHost(host)) return;
  const { rawHeaders, socket } = request.raw;
  const sent = rawHeaders.filter((name, index) => index % 2 === 0 && name.toLowerCase() === "host").length;
  const own = [...LOOPBACK_NAMES, host].flatMap((name) => [
    `${name}:${socket.localPort}`,
    ...(socket.localPort === 80 ? [name] : []),
  ]);
  if (sent === 1 && own.includes(request.headers.host?.toLowerCase() ?? "")) return;
  throw new InfernetError("forbidden", "the gateway does not answer to this name", {
    hint: `Use http://127.0.0.1:${socket.localPort}.`,
  });
}

/** The allowed origin of a page; undefined for a program, which sends none. */
function checkOrigin({ headers }: FastifyRequest, { allowedOrigins }: AccessRules): string | undefined {
  const { origin } = headers;
  if (origin !== undefined && allowedOrigins.includes(origin)) return origin;
  const site = headers["sec-fetch-site"];
  if (origin === undefined && (site === undefined || site === "none" || site === "same-origin"))
    return undefined;
  throw new InfernetError("forbidden", "web pages may not use the gateway", {
    hint: "Start it with --allow-origin and the page's origin, if you trust that page with your money.",
  });
}

function answerPreflight(request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const wanted = request.headers["access-control-request-headers"];
  if (wanted !== undefined) reply.header("access-control-allow-headers", wanted);
  if (request.headers["access-control-request-private-network"] === "true")
    reply.header("access-control-allow-private-network", "true");
  reply.header("access-control-allow-methods", "GET, POST");
  reply.header("access-control-max-age", String(PREFLIGHT_SECONDS));
  return reply.code(204).send();
}

function checkToken({ headers }: FastifyRequest, reply: FastifyReply, token: string | undefined): void {
  if (token === undefined) return;
  const bearer = /^bearer +(\S+) *$/i.exec(headers.authorization ?? "")?.[1];
  if (isSame(bearer ?? String(headers["x-api-key"] ?? ""), token)) return;
  reply.header("www-authenticate", "Bearer");
  throw new InfernetError("unauthorized", "the gateway's token is missing or wrong", {
    hint: "Send it as OpenAI's clients send their API key: Authorization: Bearer TOKEN.",
  });
}

/** Digests are compared, so that neither the time nor the length tells anything. */
function isSame(shown: string, token: string): boolean {
  const [a, b] = [shown, token].map((text) => createHash("sha256").update(text).digest());
  return timingSafeEqual(a!, b!);
}
