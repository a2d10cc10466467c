// Who may spend through the gateway: raw sockets say what browsers and strangers say, and what a page cannot forge.
import { once } from "node:events";
import { connect } from "node:net";
import { expect } from "chai";
import { failureOf } from "../../support/machine.ts";
import { type ScriptedGateway, startScriptedGateway } from "../../support/scripted-gateway.ts";
import { createRawRequest } from "./raw-request.ts";

const BODY = JSON.stringify({ model: "org/tiny:1b", messages: [{ role: "user", content: "hi" }] });
const JSON_TYPE = "Content-Type: application/json";
const TOKEN = "gateway-token-1";
const PAGE = "https://chat.example";

describe("access to the gateway", () => {
  let gateway: ScriptedGateway;
  let port: number;
  let ask: ReturnType<typeof createRawRequest>;

  before(async () => {
    gateway = await startScriptedGateway(
      (sale) => {
        sale.say({ role: "assistant", content: "hi" }, "stop");
        sale.finish();
      },
      { allowedOrigins: [PAGE, "app://obsidian.md"] },
    );
    port = Number(new URL(gateway.url).port);
    ask = createRawRequest(port);
  });
  after(() => gateway.stop(0));

  const post = (...lines: string[]) =>
    ask("POST /v1/chat/completions", [`Host: 127.0.0.1:${port}`, JSON_TYPE, ...lines], BODY);
  const sold = () => gateway.sales.length;

  describe("by name", () => {
    it("answers to the names of the loopback with its own port", async () => {
      for (const name of ["127.0.0.1", "localhost", "LOCALHOST", "[::1]"]) {
        const { status } = await ask("GET /v1/models", [`Host: ${name}:${port}`]);
        expect(status, name).to.equal(200);
      }
    });

    it("refuses every other name, so that no page's own name can be made to point here", async () => {
      const before = sold();
      const names = [
        `rebind.example:${port}`,
        "127.0.0.1",
        `127.0.0.1:${port + 1}`,
        `127.0.0.1.nip.io:${port}`,
        `localhost.:${port}`,
        `localhost:${port}@evil.example`,
        "",
      ];
      for (const name of names) {
        const answer = await ask("POST /v1/chat/completions", [`Host: ${name}`, JSON_TYPE], BODY);
        expect(answer.status, name).to.equal(403);
        expect(answer.json.error, name).to.include({ code: "forbidden", type: "permission_error" });
        expect((await ask("GET /infernet/status", [`Host: ${name}`])).status, name).to.equal(403);
        expect((await ask("GET /healthz", [`Host: ${name}`])).status, name).to.equal(403);
      }
      expect(sold()).to.equal(before);
    });

    it("refuses a request with two names", async () => {
      const lines = [`Host: 127.0.0.1:${port}`, "Host: rebind.example", JSON_TYPE];
      expect((await ask("POST /v1/chat/completions", lines, BODY)).status).to.be.oneOf([400, 403]);
    });
  });

  describe("from a web page", () => {
    it("is refused for every origin that is not let in, before anything is bought", async () => {
      const before = sold();
      const origins = [
        "https://evil.example",
        "null",
        `http://127.0.0.1:${port}`,
        `${PAGE}.evil.example`,
        `${PAGE}:8443`,
      ];
      for (const origin of origins) {
        const answer = await post(`Origin: ${origin}`);
        expect(answer.status, origin).to.equal(403);
        expect(answer.head, origin).not.to.match(/access-control/i);
        expect(
          (await ask("GET /infernet/status", [`Host: 127.0.0.1:${port}`, `Origin: ${origin}`])).status,
        ).to.equal(403);
      }
      for (const site of ["cross-site", "same-site"])
        expect((await post(`Sec-Fetch-Site: ${site}`)).status, site).to.equal(403);
      expect(sold()).to.equal(before);
    });

    it("is refused as the simple request that browsers send without asking first", async () => {
      const before = sold();
      const types = [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "",
      ];
      for (const type of types) {
        const lines = [`Host: 127.0.0.1:${port}`, ...(type ? [`Content-Type: ${type}`] : [])];
        const { status, json } = await ask("POST /v1/chat/completions", lines, BODY);
        expect([status, json.error.code], type).to.deep.equal([415, "wrong-content-type"]);
      }
      expect(sold()).to.equal(before);
    });

    it("gets no leave from a preflight unless it is let in", async () => {
      const preflight = (origin: string) =>
        ask("OPTIONS /v1/chat/completions", [
          `Host: 127.0.0.1:${port}`,
          `Origin: ${origin}`,
          "Access-Control-Request-Method: POST",
          "Access-Control-Request-Headers: content-type,authorization",
          "Access-Control-Request-Private-Network: true",
        ]);
      const refused = await preflight("https://evil.example");
      expect(refused.status).to.equal(403);
      expect(refused.head).not.to.match(/access-control/i);
      const allowed = await preflight(PAGE);
      expect(allowed.status).to.equal(204);
      expect(allowed.headers).to.include({
        "access-control-allow-origin": PAGE,
        "access-control-allow-headers": "content-type,authorization",
        "access-control-allow-methods": "GET, POST",
        "access-control-allow-private-network": "true",
        vary: "Origin",
      });
    });

    it("may use it when its exact origin is let in, and is told so on every answer", async () => {
      for (const origin of [PAGE, "app://obsidian.md"]) {
        const answer = await post(`Origin: ${origin}`, "Sec-Fetch-Site: cross-site");
        expect(answer.status).to.equal(200);
        expect(answer.headers["access-control-allow-origin"]).to.equal(origin);
      }
      const refused = await ask(
        "POST /v1/chat/completions",
        [`Host: 127.0.0.1:${port}`, JSON_TYPE, `Origin: ${PAGE}`],
        "{",
      );
      expect([refused.status, refused.headers["access-control-allow-origin"]]).to.deep.equal([400, PAGE]);
    });
  });

  describe("with a token", () => {
    let guarded: ScriptedGateway;
    let askGuarded: ReturnType<typeof createRawRequest>;
    let host: string;
    before(async () => {
      guarded = await startScriptedGateway(() => {}, { token: TOKEN, allowedOrigins: [PAGE] });
      const own = Number(new URL(guarded.url).port);
      host = `Host: 127.0.0.1:${own}`;
      askGuarded = createRawRequest(own);
    });
    after(() => guarded.stop(0));

    it("wants it on every route but /healthz, in either of two headers", async () => {
      for (const route of [
        "GET /v1/models",
        "GET /v1/models/x",
        "GET /infernet/status",
        "GET /nothing",
        "POST /v1/responses",
      ]) {
        const none = await askGuarded(route, [host]);
        expect(none.status, route).to.equal(401);
        expect(none.headers["www-authenticate"]).to.equal("Bearer");
      }
      for (const line of [
        `Authorization: Bearer ${TOKEN}`,
        `authorization: bearer ${TOKEN}`,
        `X-Api-Key: ${TOKEN}`,
      ])
        expect((await askGuarded("GET /v1/models", [host, line])).status, line).to.equal(200);
      expect((await askGuarded("GET /healthz", [host])).status).to.equal(200);
    });

    it("refuses others with 401 in OpenAI's shape, and says nothing of it", async () => {
      const wrong = [
        "Authorization: Bearer gateway-token-2",
        `Authorization: Bearer ${TOKEN}x`,
        `Authorization: Basic ${TOKEN}`,
        `X-Api-Key: ${TOKEN.slice(1)}`,
        "Authorization: Bearer ",
      ];
      for (const line of wrong) {
        const { status, json, text } = await askGuarded("GET /v1/models", [host, line]);
        expect([status, json.error.type, json.error.code]).to.deep.equal([
          401,
          "authentication_error",
          "unauthorized",
        ]);
        expect(text).not.to.contain(TOKEN);
      }
    });

    it("lets a preflight of an allowed page through, which carries no token", async () => {
      const lines = [host, `Origin: ${PAGE}`, "Access-Control-Request-Method: POST"];
      expect((await askGuarded("OPTIONS /v1/chat/completions", lines)).status).to.equal(204);
    });
  });

  describe("its rules", () => {
    it("refuse to listen beyond this machine without a token", async () => {
      for (const host of ["0.0.0.0", "::", "192.0.2.1", "gateway.example"]) {
        const error = await failureOf(() => startScriptedGateway(() => {}, { listen: { host, port: 0 } }));
        expect(error).to.include({ code: "bad-config" });
      }
    });

    it("let any name in beyond this machine, where the token decides", async () => {
      const open = await startScriptedGateway(() => {}, {
        listen: { host: "0.0.0.0", port: 0 },
        token: TOKEN,
      });
      try {
        const askOpen = createRawRequest(Number(new URL(open.url).port));
        expect((await askOpen("GET /v1/models", ["Host: gateway.lan"])).status).to.equal(401);
        const lines = ["Host: gateway.lan", `Authorization: Bearer ${TOKEN}`];
        expect((await askOpen("GET /v1/models", lines)).status).to.equal(200);
      } finally {
        await open.stop(0);
      }
    });

    it("take exact origins only", async () => {
      for (const origin of ["*", "chat.example", "https://chat.example/", "https://*.example", "null"]) {
        const error = await failureOf(() => startScriptedGateway(() => {}, { allowedOrigins: [origin] }));
        expect(error, origin).to.include({ code: "bad-config" });
      }
    });

    it("say that a port is taken", async () => {
      const error = await failureOf(() =>
        startScriptedGateway(() => {}, { listen: { host: "127.0.0.1", port } }),
      );
      expect(error).to.include({ code: "port-in-use" });
    });
  });

  it("ends requests that do not arrive in time, and bodies that are too long", async () => {
    const impatient = await startScriptedGateway(() => {}, { patience: { requestTimeoutMs: 200 } });
    try {
      const own = Number(new URL(impatient.url).port);
      for (const start of [
        "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1",
        `POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:${own}\r\n${JSON_TYPE}\r\nContent-Length: 50\r\n\r\n{`,
      ]) {
        const socket = connect(own, "127.0.0.1")
          .on("error", () => {})
          .resume();
        socket.write(start);
        await once(socket, "close");
      }
      const lines = [`Host: 127.0.0.1:${own}`, JSON_TYPE];
      const { status } = await createRawRequest(own)("POST /v1/chat/completions", [
        ...lines,
        "Content-Length: 99999999",
      ]);
      expect(status).to.equal(413);
      expect(impatient.sales).to.deep.equal([]);
    } finally {
      await impatient.stop(0);
    }
  });
});
