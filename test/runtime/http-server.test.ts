import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { Writable } from "node:stream";
import { setImmediate } from "node:timers/promises";
import { connect as connectTls } from "node:tls";
import { expect } from "chai";
import fc from "fast-check";
import { InfernetError } from "../../protocol/errors.ts";
import { loadOrCreateCertificate } from "../../runtime/certificate.ts";
import { createHttpServer, type HttpServer } from "../../runtime/http-server.ts";
import { createLogger } from "../../runtime/logger.ts";
import { failureOf, temporaryFolder } from "../support/machine.ts";
import { holdsAsync } from "../support/properties.ts";

const MAX_BODY_BYTES = 1_000;
const JSON_HEADERS = { "content-type": "application/json" };

let logged = "";
const log = createLogger({
  level: "debug",
  destination: new Writable({
    write(chunk, _encoding, done) {
      logged += chunk;
      done();
    },
  }),
});

async function startServer(
  options: Partial<Parameters<typeof createHttpServer>[0]> = {},
  routes: (app: HttpServer["app"]) => void = () => {},
) {
  const settings = { host: "127.0.0.1", port: 0, certificate: null, log, maxBodyBytes: MAX_BODY_BYTES };
  const server = await createHttpServer({ ...settings, ...options });
  server.app.post("/echo", async (request, reply) => {
    reply.header("x-is-buffer", String(Buffer.isBuffer(request.body)));
    return request.body;
  });
  server.app.get("/known", async () => {
    throw new InfernetError("receipt-too-small", "sign more", { hint: "Sign 5.", data: { need: "5" } });
  });
  server.app.get("/v1/known", async (_request, reply) => {
    reply.header("payment-required", "terms");
    throw new InfernetError("receipt-too-small", "sign more", { hint: "Sign 5.", data: { need: "5" } });
  });
  server.app.get("/bug", async () => {
    throw new Error("canary-detail");
  });
  server.app.get("/v1/bug", async () => {
    throw new Error("canary-detail");
  });
  routes(server.app);
  const { port } = await server.listen();
  return { server, port, url: `http://127.0.0.1:${port}` };
}

async function readAll(socket: Socket): Promise<string> {
  let text = "";
  socket.on("error", () => {});
  socket.on("data", (chunk) => {
    text += chunk;
  });
  if (!socket.closed) await once(socket, "close");
  return text;
}

describe("http server", () => {
  let server: HttpServer;
  let port: number;
  let url: string;

  before(async () => {
    ({ server, port, url } = await startServer());
  });
  after(() => server.stop(0));
  beforeEach(() => {
    logged = "";
  });

  const post = (
    body: string | Uint8Array<ArrayBuffer> | null,
    headers: Record<string, string> = JSON_HEADERS,
  ) => fetch(`${url}/echo`, { method: "POST", body, headers });
  const sendRaw = async (text: string | Uint8Array) => {
    const socket = connect(port, "127.0.0.1");
    const answer = readAll(socket);
    socket.end(text);
    return answer;
  };

  describe("bodies", () => {
    it("arrive as the exact octets, whatever they hold", async () => {
      const octets = fc.asyncProperty(fc.uint8Array({ minLength: 1, maxLength: 200 }), async (body) => {
        const answer = await post(Uint8Array.from(body));
        expect(Buffer.from(await answer.arrayBuffer()).equals(Buffer.from(body))).to.equal(true);
        expect(answer.headers.get("x-is-buffer")).to.equal("true");
      });
      await holdsAsync(octets, 40);
    });

    it("may be absent, with or without a content type, and are an empty Buffer then", async () => {
      for (const headers of [{}, JSON_HEADERS]) {
        const answer = await post(null, headers);
        expect([answer.status, await answer.text()]).to.deep.equal([200, ""]);
        expect(answer.headers.get("x-is-buffer")).to.equal("true");
      }
    });

    it("are taken as JSON under each of its names, and under no other", async () => {
      for (const type of [
        "application/json; charset=utf-8",
        "Application/JSON",
        "application/problem+json",
      ]) {
        expect((await post("{}", { "content-type": type })).status, type).to.equal(200);
      }
      const types = [
        "text/plain",
        "application/jsonp",
        "multipart/form-data",
        "application/x-www-form-urlencoded",
        "",
        "x",
      ];
      for (const type of types) {
        const answer = await post("{}", { "content-type": type });
        expect(answer.status, type).to.equal(415);
        expect(await answer.json()).to.include({ code: "wrong-content-type" });
      }
      const untyped = await sendRaw(
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}",
      );
      expect(untyped).to.contain("415").and.to.contain("wrong-content-type");
    });

    it("may not be encoded", async () => {
      for (const encoding of ["gzip", "identity", "br"]) {
        const answer = await post("{}", { ...JSON_HEADERS, "content-encoding": encoding });
        expect(answer.status).to.equal(415);
        expect(await answer.json())
          .to.have.property("hint")
          .that.contains("without compression");
      }
    });

    it("are refused beyond the limit, with and without a length, and taken up to it", async () => {
      expect((await post("x".repeat(MAX_BODY_BYTES))).status).to.equal(200);
      const answer = await post("x".repeat(MAX_BODY_BYTES + 1));
      expect([answer.status, ((await answer.json()) as { code: string }).code]).to.deep.equal([
        413,
        "body-too-large",
      ]);
      const head =
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
      const chunked = await sendRaw(`${head}400\r\n${"x".repeat(1024)}\r\n0\r\n\r\n`);
      expect(chunked).to.contain("413").and.to.contain("body-too-large");
    });
  });

  describe("errors", () => {
    it("are problem documents, with hint and figures", async () => {
      const answer = await fetch(`${url}/known`);
      expect(answer.status).to.equal(402);
      expect(answer.headers.get("content-type")).to.equal("application/problem+json; charset=utf-8");
      expect(await answer.json()).to.deep.equal({
        type: "urn:infernet:error:receipt-too-small",
        title: "receipt too small",
        status: 402,
        code: "receipt-too-small",
        detail: "sign more",
        hint: "Sign 5.",
        need: "5",
      });
    });

    it("have OpenAI's shape under /v1, and keep the headers that a route set", async () => {
      const answer = await fetch(`${url}/v1/known`);
      expect([answer.status, answer.headers.get("payment-required")]).to.deep.equal([402, "terms"]);
      expect(answer.headers.get("content-type")).to.equal("application/json; charset=utf-8");
      expect(await answer.json()).to.deep.equal({
        error: {
          message: "sign more",
          type: "payment_required",
          code: "receipt-too-small",
          param: null,
          hint: "Sign 5.",
          need: "5",
        },
      });
    });

    it("that are bugs tell nothing to the client and all to the log", async () => {
      for (const path of ["/bug", "/v1/bug"]) {
        logged = "";
        const answer = await fetch(url + path);
        expect(answer.status).to.equal(500);
        expect(await answer.text()).to.not.contain("canary-detail");
        expect(logged)
          .to.contain("canary-detail")
          .and.to.contain("http-server.test.ts")
          .and.to.contain(`GET ${path}`);
      }
    });

    it("that happen after a route took over its reply reach the log", async () => {
      const { server: streaming, url: streamingUrl } = await startServer({}, (app) => {
        app.get("/stream", async (_request, reply) => {
          reply.hijack();
          reply.raw.end("begun");
          throw new Error("canary-detail");
        });
      });
      await (await fetch(`${streamingUrl}/stream`)).text();
      expect(logged).to.contain("canary-detail");
      await streaming.stop(0);
    });

    it("tell what is not there, in both shapes", async () => {
      expect(await (await fetch(`${url}/nope`)).json()).to.include({ code: "not-found", status: 404 });
      expect(await (await fetch(`${url}/v1/nope?x=1`)).json()).to.have.nested.property(
        "error.code",
        "not-found",
      );
      expect((await fetch(`${url}/echo`, { method: "DELETE" })).status).to.equal(404);
      expect((await fetch(`${url}/v1x`)).headers.get("content-type")).to.contain("problem");
    });
  });

  it("lets nobody store an answer", async () => {
    for (const path of ["/known", "/nope", "/bug"]) {
      expect((await fetch(url + path)).headers.get("cache-control"), path).to.equal("private, no-store");
    }
    expect((await post("{}")).headers.get("cache-control")).to.equal("private, no-store");
  });

  it("logs no body, no header and no query", async () => {
    const secret = "canary-secret";
    const headers = { ...JSON_HEADERS, "infernet-salt": secret, authorization: secret };
    await post(JSON.stringify({ prompt: secret }), headers);
    for (const path of [`/bug?q=${secret}`, `/known?q=${secret}`, `/nope/${secret}`, `/v1/${secret}`]) {
      await fetch(url + path, { headers });
    }
    expect(logged).to.contain("receipt-too-small");
    expect(logged).to.not.contain(secret);
  });

  describe("malformed requests", () => {
    it("are refused as such", async () => {
      const malformed = [
        "hello\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
        `GET / HTTP/1.1\r\nHost: a\r\nX: ${"x".repeat(40_000)}\r\n\r\n`,
        "GET /%zz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
      ];
      for (const text of malformed)
        expect(await sendRaw(text), text.slice(0, 60)).to.match(/^HTTP\/1.1 4\d\d /);
    });

    it("never end the server", async () => {
      const start = fc.constantFrom(
        "",
        "GET / HTTP/1.1\r\n",
        "POST /echo HTTP/1.1\r\nContent-Length: 5\r\n\r\n",
      );
      const noise = fc.asyncProperty(start, fc.uint8Array({ maxLength: 300 }), async (head, tail) => {
        await sendRaw(Buffer.concat([Buffer.from(head), tail]));
      });
      await holdsAsync(noise, 60);
      expect((await post("{}")).status).to.equal(200);
    });
  });

  it("says when its port is taken", async () => {
    const error = await failureOf(() => startServer({ port }));
    expect(error.code).to.equal("port-in-use");
    expect(error.message).to.contain(String(port));
    expect(error.hint).to.contain("another port");
  });

  it("says when it cannot have its address", async () => {
    const error = await failureOf(() => startServer({ host: "203.0.113.1" }));
    expect(error.code).to.equal("bad-config");
    expect(error.message).to.contain("EADDRNOTAVAIL");
  });
});

describe("stopping the http server", () => {
  it("lets a running request end, and takes no new connection", async () => {
    let finish = () => {};
    const { server, port, url } = await startServer({}, (app) => {
      app.get("/slow", async () => {
        await new Promise<void>((resolve) => {
          finish = resolve;
          app.server.emit("slow-arrived");
        });
        return "finished";
      });
    });
    const arrived = once(server.app.server, "slow-arrived");
    const slow = fetch(`${url}/slow`);
    await arrived;
    const stopped = server.stop(10_000);
    expect(server.stop(0)).to.equal(stopped);
    while (server.app.server.listening) await setImmediate();
    const refused = connect(port, "127.0.0.1");
    const [error] = await once(refused, "error");
    expect(error).to.have.property("code", "ECONNREFUSED");
    finish();
    expect(await (await slow).text()).to.equal("finished");
    await stopped;
  });

  it("cuts what has not ended after the grace", async () => {
    const { server, url } = await startServer({}, (app) => {
      app.get("/endless", () => {
        app.server.emit("endless-arrived");
        return new Promise(() => {});
      });
    });
    const arrived = once(server.app.server, "endless-arrived");
    const outcome = fetch(`${url}/endless`).then(
      () => "answered",
      () => "cut",
    );
    await arrived;
    await server.stop(20);
    expect(await outcome).to.equal("cut");
  });

  it("does not wait for idle connections", async () => {
    const { server, port } = await startServer();
    const socket = connect(port, "127.0.0.1");
    socket.write("GET /nope HTTP/1.1\r\nHost: a\r\n\r\n");
    await once(socket, "data");
    const closed = once(socket, "close");
    await server.stop(60_000);
    await closed;
  });
});

describe("https server", () => {
  let server: HttpServer;
  let port: number;

  before(async () => {
    const certificate = await loadOrCreateCertificate(join(temporaryFolder(), "tls"), []);
    ({ server, port } = await startServer({ certificate }));
  });
  after(() => server.stop(0));

  it("speaks TLS 1.3 and 1.2, and nothing older", async () => {
    const speak = async (version: "TLSv1.1" | "TLSv1.2" | "TLSv1.3") => {
      const versions = { minVersion: version, maxVersion: version };
      const ciphers = "DEFAULT@SECLEVEL=0";
      const socket = connectTls({ host: "127.0.0.1", port, rejectUnauthorized: false, ciphers, ...versions });
      try {
        await once(socket, "secureConnect");
        return socket.getProtocol();
      } catch {
        return "refused";
      } finally {
        socket.destroy();
      }
    };
    expect(await speak("TLSv1.3")).to.equal("TLSv1.3");
    expect(await speak("TLSv1.2")).to.equal("TLSv1.2");
    expect(await speak("TLSv1.1")).to.equal("refused");
  });

  it("survives a client that speaks in the clear", async () => {
    const socket = connect(port, "127.0.0.1");
    const answer = readAll(socket);
    socket.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    expect(await answer).to.not.contain("200");
    expect((await server.app.inject("/nope")).statusCode).to.equal(404);
  });

  it("cuts a handshake that never ends when it stops", async () => {
    const socket = connect(port, "127.0.0.1");
    await Promise.all([once(socket, "connect"), once(server.app.server, "connection")]);
    const closed = once(socket, "close");
    await server.stop(20);
    await closed;
  });
});
