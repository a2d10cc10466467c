// Owns HTTP to nodes: one endpoint, its TLS key pinned, no redirects, bounded answers, errors with names.
import { Pool } from "undici";
import type { Hex } from "../protocol/bytes.ts";
import { InfernetError } from "../protocol/errors.ts";
import { isLoopbackHost } from "./loopback.ts";
import { expectKey, judgingConnector, type KeyJudge } from "./pinned-connector.ts";
import type { Reach } from "./reach.ts";

export type HttpRequest = {
  method: string;
  /** Begins with "/"; put behind the endpoint's own path. */
  path: string;
  headers?: Record<string, string>;
  body?: Uint8Array | string;
  signal?: AbortSignal;
};

export type HttpAnswer = {
  status: number;
  /** Names in lower case; repeated ones joined by ", ". */
  headers: Record<string, string>;
  body: AsyncIterable<Uint8Array>;
  /** The whole body as text; `node-misbehaved` beyond `maxBytes` (1 MiB unless told otherwise). */
  text(maxBytes?: number): Promise<string>;
};

export type HttpClient = {
  /** `node-unreachable`, `node-key-mismatch`; an aborted signal's own reason. Statuses of any kind are answers. */
  request(input: HttpRequest): Promise<HttpAnswer>;
  /** Closes all connections; what still runs on them fails. */
  close(): Promise<void>;
};

type ClientOptions = {
  endpoint: string;
  /** The SHA-256 of the server's public key; null for plain HTTP, which is for this machine only. */
  tlsKeyHash: Hex | null;
  /** To connect, in milliseconds. */
  timeoutMs?: number;
  /** To wait for an answer's headers, and between two parts of its body; nodes send heartbeats every 15 s. */
  answerTimeoutMs?: number;
  allowPlainHttp?: boolean;
  /** Which addresses it may connect to; any unless told otherwise. */
  reach?: Reach;
};

const CONNECT_TIMEOUT_MS = 10_000;
const ANSWER_TIMEOUT_MS = 300_000;
const MAX_TEXT_BYTES = 1024 * 1024;
const MAX_OFFER_BYTES = 256 * 1024;

/** A client of one node. Connections are kept and used in parallel; none is made before the first request. */
export function createHttpClient(options: ClientOptions): HttpClient {
  const url = parseEndpoint(options.endpoint);
  if (options.tlsKeyHash === null) refuseUnpinned(url, options.allowPlainHttp ?? false);
  else if (url.protocol !== "https:") {
    throw new InfernetError(
      "node-key-mismatch",
      `${url.origin} does not speak TLS, but a TLS key is expected`,
      {
        hint: "The node's endpoint must begin with https://.",
      },
    );
  }
  const judge = options.tlsKeyHash === null ? acceptNone : expectKey(options.tlsKeyHash);
  return openClient(url, judge, options);
}

/**
 * Fetches what is checked by a signature of its own, up to 256 KiB and within `timeoutMs` (10 s) in all, from a server
 * whose key is not known yet. Returns the key hash that the server showed (null over plain HTTP), to be compared with
 * the one that was signed. `node-unreachable`, `node-misbehaved`; an aborted signal's own reason.
 */
export async function fetchUnpinned(
  endpoint: string,
  path: string,
  options: { timeoutMs?: number; signal?: AbortSignal; reach?: Reach } = {},
): Promise<{ text: string; tlsKeyHash: Hex | null }> {
  const url = parseEndpoint(endpoint);
  const timeoutMs = options.timeoutMs ?? CONNECT_TIMEOUT_MS;
  // A stranger's server may send a byte at a time: only the whole has a limit that holds.
  const deadline = AbortSignal.timeout(timeoutMs);
  const signal = AbortSignal.any([deadline, ...(options.signal ? [options.signal] : [])]);
  let tlsKeyHash: Hex | null = null;
  const client = openClient(
    url,
    (shown) => {
      tlsKeyHash = shown ?? null;
    },
    { timeoutMs, reach: options.reach ?? "any" },
  );
  try {
    const answer = await client.request({ method: "GET", path, signal });
    if (answer.status !== 200) {
      throw new InfernetError("node-misbehaved", `${url.origin} answered ${answer.status} to GET ${path}`);
    }
    return { text: await answer.text(MAX_OFFER_BYTES), tlsKeyHash };
  } catch (error) {
    if (error !== deadline.reason) throw error;
    throw unreachable(url, `no whole answer within ${timeoutMs} ms`, error);
  } finally {
    await client.close();
  }
}

function openClient(
  url: URL,
  judge: KeyJudge,
  limits: Pick<ClientOptions, "timeoutMs" | "answerTimeoutMs" | "reach">,
): HttpClient {
  const answerTimeoutMs = limits.answerTimeoutMs ?? ANSWER_TIMEOUT_MS;
  const pool = new Pool(url.origin, {
    connect: judgingConnector(judge, limits.timeoutMs ?? CONNECT_TIMEOUT_MS, limits.reach ?? "any"),
    headersTimeout: answerTimeoutMs,
    bodyTimeout: answerTimeoutMs,
    allowH2: false,
  });
  const prefix = url.pathname.replace(/\/$/, "");
  return {
    async request({ method, path, headers = {}, body = null, signal }) {
      try {
        const answer = await pool.request({
          method: method as "GET",
          path: prefix + path,
          headers,
          body,
          signal: signal ?? null,
        });
        return wrapAnswer(answer, url, signal);
      } catch (error) {
        throw explain(error, url, signal);
      }
    },
    close: () => pool.destroy(),
  };
}

type RawAnswer = Awaited<ReturnType<Pool["request"]>>;

function wrapAnswer(answer: RawAnswer, url: URL, signal: AbortSignal | undefined): HttpAnswer {
  const body = readBody(answer, url, signal);
  const headers = Object.entries(answer.headers).map(([name, value]) => [name, [value].flat().join(", ")]);
  return {
    status: answer.statusCode,
    headers: Object.fromEntries(headers) as Record<string, string>,
    body,
    async text(maxBytes = MAX_TEXT_BYTES) {
      const parts: Uint8Array[] = [];
      let length = 0;
      for await (const part of body) {
        length += part.length;
        if (length > maxBytes) {
          throw new InfernetError("node-misbehaved", `${url.origin} answered more than ${maxBytes} bytes`);
        }
        parts.push(part);
      }
      return Buffer.concat(parts).toString("utf8");
    },
  };
}

async function* readBody(answer: RawAnswer, url: URL, signal: AbortSignal | undefined) {
  try {
    yield* answer.body as AsyncIterable<Uint8Array>;
  } catch (error) {
    throw explain(error, url, signal);
  }
}

function explain(error: unknown, url: URL, signal: AbortSignal | undefined): unknown {
  if (error instanceof InfernetError) return error;
  if (signal?.aborted) return signal.reason;
  const { code, message } = error as { code?: string; message?: string };
  return unreachable(url, code ?? message ?? "unknown", error);
}

function unreachable(url: URL, reason: string, cause: unknown): InfernetError {
  return new InfernetError("node-unreachable", `${url.origin} cannot be reached: ${reason}`, {
    hint: "Check that the node runs and that its address and port can be reached from here.",
    cause,
  });
}

function parseEndpoint(endpoint: string): URL {
  const url = URL.parse(endpoint);
  const usable =
    url !== null && /^https?:$/.test(url.protocol) && !url.username && !url.password && !url.search;
  if (usable && !url.hash) return url;
  throw new InfernetError(
    "node-unreachable",
    "the node's endpoint is not a plain http:// or https:// address",
    {
      hint: "An endpoint looks like https://203.0.113.7:8453.",
    },
  );
}

function refuseUnpinned(url: URL, allowPlainHttp: boolean): void {
  if (url.protocol === "https:") {
    throw new InfernetError("node-key-mismatch", `no TLS key is known for ${url.origin}`, {
      hint: "Fetch the node's offer first: it names the key.",
    });
  }
  if (allowPlainHttp || isLoopbackHost(url.hostname)) return;
  throw new InfernetError("node-unreachable", `${url.origin} would be spoken to in the clear`, {
    hint: "A node that is not on this machine must offer https://.",
  });
}

/** A plain connection shows no key, so nobody asks. */
function acceptNone(): void {}
