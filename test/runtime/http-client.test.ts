import { once } from "node:events";
import { createServer as createPlainServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { connect as connectTls, createServer as createTlsServer, type TLSSocket } from "node:tls";
import { expect } from "chai";
import { type Certificate, loadOrCreateCertificate } from "../../runtime/certificate.ts";
import { createHttpClient, fetchUnpinned } from "../../runtime/http-client.ts";
import { createHttpServer, type HttpServer } from "../../runtime/http-server.ts";
import { createLogger } from "../../runtime/logger.ts";
import { failureOf, temporaryFolder } from "../support/machine.ts";

const log = createLogger({ level: "silent" });
const GET = { method: "GET", path: "/" };
const ANSWER = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

const newCertificate = (): Promise<Certificate> =>
  loadOrCreateCertificate(join(temporaryFolder(), "tls"), []);

/** A raw server: what each connection does with it is up to the test. */
async function listenRaw(server: Server, port = 0): Promise<{ port: number; close(): Promise<void> }> {
  const sockets = new Set<Socket>();
  server.on("connection", (socket) => sockets.add(socket));
  server.listen(port, "127.0.0.1");
  await once(server, "listening");
  const close = async () => {
    server.close();
    for (const socket of sockets) socket.destroy();
    await once(server, "close");
  };
  return { port: (server.address() as { port: number }).port, close };
}

/** A TLS server that counts the application bytes it receives and answers each of them. */
function recordingServer(certificate: Certificate, ticketKeys?: Buffer) {
  const received = { bytes: 0, connections: 0, resumed: 0 };
  const { keyPem: key, certificatePem: cert } = certificate;
  const server = createTlsServer(
    { key, cert, ...(ticketKeys ? { ticketKeys } : {}) },
    (socket: TLSSocket) => {
      received.connections += 1;
      if (socket.isSessionReused()) received.resumed += 1;
      socket.on("error", () => {});
      socket.on("data", (data) => {
        received.bytes += data.length;
        socket.end(ANSWER);
      });
    },
  );
  server.on("tlsClientError", () => {});
  return { server, received };
}

describe("http client and the key that it pins", () => {
  let right: Certificate;
  let wrong: Certificate;

  before(async () => {
    [right, wrong] = await Promise.all([newCertificate(), newCertificate()]);
  });

  it("talks to the server with the pinned key", async () => {
    const { server, received } = recordingServer(right);
    const { port, close } = await listenRaw(server);
    const client = createHttpClient({ endpoint: `https://127.0.0.1:${port}`, tlsKeyHash: right.keyHash });
    expect(await (await client.request(GET)).text()).to.equal("hello");
    expect(received.bytes).to.be.greaterThan(0);
    await client.close();
    await close();
  });

  it("sends a server with another key not one byte, however often it is asked", async () => {
    const { server, received } = recordingServer(wrong);
    const { port, close } = await listenRaw(server);
    const client = createHttpClient({ endpoint: `https://127.0.0.1:${port}`, tlsKeyHash: right.keyHash });
    const secret = {
      method: "POST",
      path: "/v1/chat/completions",
      body: "a prompt",
      headers: { "infernet-salt": "0x" },
    };
    const errors = await Promise.all([1, 2, 3].map(() => failureOf(() => client.request(secret))));
    errors.push(await failureOf(() => client.request(secret)));
    expect(new Set(errors.map(({ code }) => code))).to.deep.equal(new Set(["node-key-mismatch"]));
    expect(errors[0]!.hint).to.contain("offer");
    await client.close();
    await close();
    expect(received.bytes).to.equal(0);
  });

  it("makes no exception for a server that could resume the right server's sessions", async () => {
    const ticketKeys = Buffer.alloc(48, 7);
    const first = recordingServer(right, ticketKeys);
    const honest = await listenRaw(first.server);
    const endpoint = `https://127.0.0.1:${honest.port}`;
    const client = createHttpClient({ endpoint, tlsKeyHash: right.keyHash });
    for (let round = 0; round < 2; round++) {
      expect(await (await client.request(GET)).text()).to.equal("hello");
    }
    const session = await resumableSession(honest.port);
    await honest.close();

    const second = recordingServer(wrong, ticketKeys);
    const impostor = await listenRaw(second.server, honest.port);
    expect(await resumes(impostor.port, session), "the impostor can resume sessions").to.equal(true);
    const before = { ...second.received };
    expect((await failureOf(() => client.request(GET))).code).to.equal("node-key-mismatch");
    expect(second.received.bytes).to.equal(before.bytes);
    expect(second.received.resumed).to.equal(before.resumed);
    expect(first.received.resumed).to.equal(0);
    await client.close();
    await impostor.close();
  });

  it("checks each new connection of a client that was right before", async () => {
    const first = recordingServer(right);
    const honest = await listenRaw(first.server);
    const client = createHttpClient({
      endpoint: `https://127.0.0.1:${honest.port}`,
      tlsKeyHash: right.keyHash,
    });
    await (await client.request(GET)).text();
    await honest.close();
    const second = recordingServer(wrong);
    const impostor = await listenRaw(second.server, honest.port);
    expect((await failureOf(() => client.request(GET))).code).to.equal("node-key-mismatch");
    expect(second.received.bytes).to.equal(0);
    await client.close();
    await impostor.close();
  });

  it("refuses TLS without a known key, a key without TLS, and plain HTTP to another machine", async () => {
    const codes = [
      { endpoint: "https://127.0.0.1:1", tlsKeyHash: null, code: "node-key-mismatch" },
      { endpoint: "http://127.0.0.1:1", tlsKeyHash: right.keyHash, code: "node-key-mismatch" },
      { endpoint: "http://203.0.113.7", tlsKeyHash: null, code: "node-unreachable" },
      { endpoint: "http://localhost.example", tlsKeyHash: null, code: "node-unreachable" },
      { endpoint: "http://[2001:db8::1]", tlsKeyHash: null, code: "node-unreachable" },
      { endpoint: "http://0.0.0.0", tlsKeyHash: null, code: "node-unreachable" },
    ] as const;
    for (const { endpoint, tlsKeyHash, code } of codes) {
      expect((await failureOf(() => createHttpClient({ endpoint, tlsKeyHash }))).code, endpoint).to.equal(
        code,
      );
    }
    for (const host of ["127.0.0.1", "127.9.9.9", "[::1]", "localhost", "[::ffff:127.0.0.1]"]) {
      await createHttpClient({ endpoint: `http://${host}:1`, tlsKeyHash: null }).close();
    }
    await createHttpClient({ endpoint: "http://node:1", tlsKeyHash: null, allowPlainHttp: true }).close();
  });

  it("refuses what is no endpoint", async () => {
    for (const endpoint of [
      "",
      "node",
      "ftp://a",
      "https://user:pass@a",
      "https://a?q",
      "https://a#f",
      "file:///etc",
    ]) {
      const error = await failureOf(() => createHttpClient({ endpoint, tlsKeyHash: right.keyHash }));
      expect(error.code, endpoint).to.equal("node-unreachable");
    }
  });
});

async function resumableSession(port: number): Promise<Buffer> {
  const socket = connectTls({ host: "127.0.0.1", port, rejectUnauthorized: false });
  const [session] = await once(socket, "session");
  socket.destroy();
  return session;
}

async function resumes(port: number, session: Buffer): Promise<boolean> {
  const socket = connectTls({ host: "127.0.0.1", port, rejectUnauthorized: false, session });
  await once(socket, "secureConnect");
  const reused = socket.isSessionReused();
  socket.destroy();
  return reused;
}

describe("http client", () => {
  let server: HttpServer;
  let endpoint: string;

  before(async () => {
    server = await createHttpServer({
      host: "127.0.0.1",
      port: 0,
      certificate: null,
      log,
      maxBodyBytes: 1_000_000,
    });
    server.app.post("/base/echo", async (request, reply) => {
      reply.header("x-custom", request.headers["x-custom"] ?? "").header("set-cookie", ["a=1", "b=2"]);
      return request.body;
    });
    server.app.get("/base/moved", async (_request, reply) => reply.redirect("/base/large"));
    server.app.get("/base/large", async () => "x".repeat(300 * 1024));
    server.app.get("/base/never", () => new Promise(() => {}));
    const { port } = await server.listen();
    endpoint = `http://127.0.0.1:${port}/base/`;
  });
  after(() => server.stop(0));

  const open = (options = {}) => createHttpClient({ endpoint, tlsKeyHash: null, ...options });

  it("sends the exact octets and headers, below the endpoint's own path", async () => {
    const client = open();
    const body = Uint8Array.from([0x7b, 0xff, 0x00, 0x7d]);
    const headers = { "content-type": "application/json", "x-custom": "value" };
    const answer = await client.request({ method: "POST", path: "/echo", headers, body });
    expect(answer.status).to.equal(200);
    expect(answer.headers).to.include({ "x-custom": "value", "set-cookie": "a=1, b=2" });
    const parts = [];
    for await (const part of answer.body) parts.push(part);
    expect(Buffer.concat(parts).equals(body)).to.equal(true);
    await client.close();
  });

  it("follows no redirect and throws for no status", async () => {
    const client = open();
    const moved = await client.request({ method: "GET", path: "/moved" });
    expect([moved.status, moved.headers.location]).to.deep.equal([302, "/base/large"]);
    await moved.text();
    expect((await client.request({ method: "GET", path: "/nope" })).status).to.equal(404);
    await client.close();
  });

  it("reads a text up to its limit and no further", async () => {
    const client = open();
    const large = () => client.request({ method: "GET", path: "/large" });
    expect(await (await large()).text()).to.have.length(300 * 1024);
    expect(await (await large()).text(300 * 1024)).to.have.length(300 * 1024);
    const error = await failureOf(async () => (await large()).text(300 * 1024 - 1));
    expect(error.code).to.equal("node-misbehaved");
    await client.close();
  });

  it("ends with the reason of the caller's signal, before and during an answer", async () => {
    const client = open();
    const reason = new Error("enough");
    for (const signal of [AbortSignal.abort(reason), abortSoon(reason)]) {
      const outcome = await client.request({ method: "GET", path: "/never", signal }).catch((error) => error);
      expect(outcome).to.equal(reason);
    }
    await client.close();
  });

  it("gives up on a server that does not answer in time", async () => {
    const client = open({ answerTimeoutMs: 50 });
    const error = await failureOf(() => client.request({ method: "GET", path: "/never" }));
    expect(error.code).to.equal("node-unreachable");
    await client.close();
  });

  it("says that nothing listens, naming the address", async () => {
    const { port, close } = await listenRaw(createPlainServer());
    await close();
    for (const protocol of ["http", "https"]) {
      const tlsKeyHash = protocol === "http" ? null : (`0x${"11".repeat(32)}` as const);
      const client = createHttpClient({ endpoint: `${protocol}://127.0.0.1:${port}`, tlsKeyHash });
      const error = await failureOf(() => client.request(GET));
      expect(error.code).to.equal("node-unreachable");
      expect(error.message).to.contain(`127.0.0.1:${port}`).and.to.contain("ECONNREFUSED");
      expect(error.hint).to.not.equal("");
      await client.close();
    }
  });

  it("gives up on a TLS handshake that does not go on", async () => {
    const { port, close } = await listenRaw(createPlainServer());
    const tlsKeyHash = `0x${"11".repeat(32)}` as const;
    const client = createHttpClient({ endpoint: `https://127.0.0.1:${port}`, tlsKeyHash, timeoutMs: 50 });
    const error = await failureOf(() => client.request(GET));
    expect(error.code).to.equal("node-unreachable");
    expect(error.message).to.contain("50 ms");
    await client.close();
    await close();
  });

  it("names a server that hangs up, at once or in the middle of an answer", async () => {
    for (const words of ["", "not HTTP\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhalf"]) {
      const hangingUp = createPlainServer((socket) => {
        socket.on("error", () => {});
        socket.once("data", () => socket.end(words));
      });
      const { port, close } = await listenRaw(hangingUp);
      const client = createHttpClient({ endpoint: `http://127.0.0.1:${port}`, tlsKeyHash: null });
      const error = await failureOf(async () => (await client.request(GET)).text());
      expect(error.code, words).to.equal("node-unreachable");
      await client.close();
      await close();
    }
  });

  it("closes while an answer is awaited, which fails then", async () => {
    const client = open();
    const arrived = once(server.app.server, "request");
    const failing = failureOf(() => client.request({ method: "GET", path: "/never" }));
    await arrived;
    await client.close();
    expect((await failing).code).to.equal("node-unreachable");
  });
});

function abortSoon(reason: Error): AbortSignal {
  const controller = new AbortController();
  setTimeout(() => controller.abort(reason), 20);
  return controller.signal;
}

describe("fetchUnpinned", () => {
  it("returns the text and the key that the server showed", async () => {
    const certificate = await newCertificate();
    const { server } = recordingServer(certificate);
    const { port, close } = await listenRaw(server);
    const fetched = await fetchUnpinned(`https://127.0.0.1:${port}`, "/.well-known/infernet");
    expect(fetched).to.deep.equal({ text: "hello", tlsKeyHash: certificate.keyHash });
    await close();
  });

  it("gives up on a server that answers a byte at a time, and on the caller's signal", async () => {
    const dripping = createPlainServer((socket) => {
      socket.on("error", () => {});
      socket.write("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n");
      const drip = setInterval(() => socket.write("x"), 5);
      socket.once("close", () => clearInterval(drip));
    });
    const { port, close } = await listenRaw(dripping);
    const fetchFrom = (options: { timeoutMs?: number; signal?: AbortSignal }) =>
      fetchUnpinned(`http://127.0.0.1:${port}`, "/", options);
    const error = await failureOf(() => fetchFrom({ timeoutMs: 100 }));
    expect(error.code).to.equal("node-unreachable");
    expect(error.message).to.contain("100 ms");
    const reason = new Error("enough");
    expect(await fetchFrom({ signal: abortSoon(reason) }).catch((thrown) => thrown)).to.equal(reason);
    await close();
  });

  it("shows no key over plain HTTP", async () => {
    const { port, close } = await listenRaw(
      createPlainServer((socket) => socket.once("data", () => socket.end(ANSWER))),
    );
    expect(await fetchUnpinned(`http://127.0.0.1:${port}`, "/")).to.deep.equal({
      text: "hello",
      tlsKeyHash: null,
    });
    await close();
  });

  it("takes an answer of 200 and at most 256 KiB only", async () => {
    const answers = [
      "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
      "HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n",
      `HTTP/1.1 200 OK\r\nContent-Length: 262145\r\n\r\n${"x".repeat(262_145)}`,
    ];
    for (const answer of answers) {
      const lying = createPlainServer((socket) => {
        socket.on("error", () => {});
        socket.once("data", () => socket.end(answer));
      });
      const { port, close } = await listenRaw(lying);
      const error = await failureOf(() => fetchUnpinned(`http://127.0.0.1:${port}`, "/"));
      expect(error.code, answer.slice(0, 20)).to.equal("node-misbehaved");
      await close();
    }
  });
});
