// A server with another key than the node's offer names gets not one byte of a request, whenever it takes the node's place.
import { once } from "node:events";
import { connect } from "node:tls";
import { expect } from "chai";
import { OFFER_PATH } from "../../protocol/wire.ts";
import { loadOrCreateCertificate } from "../../runtime/certificate.ts";
import { homePaths } from "../../runtime/home.ts";
import { fetchUnpinned } from "../../runtime/http-client.ts";
import { freePort } from "../../tools/demo/processes.ts";
import { temporaryFolder } from "../support/machine.ts";
import { ALLOWANCE, type Market, MODEL, openMarket } from "../support/market.ts";
import { type ScriptedOpenAiServer, startScriptedOpenAiServer } from "../support/scripted-openai-server.ts";
import { startTlsFront, type TlsFront } from "../support/tls-front.ts";

const KEY_MISMATCH_EXIT = 5;
const WORDS = "one two three ";

describe("a server with another key in the node's place", function () {
  this.timeout(60_000);
  let model: ScriptedOpenAiServer;
  let market: Market;
  let front: TlsFront;

  before(async () => {
    model = await startScriptedOpenAiServer(MODEL, async ({ say }) => say(WORDS));
    const upstream = ["--upstream", "openai", "--upstream-url", model.url];
    const workerPort = await freePort();
    market = await openMarket({ upstream, workerPort });
    await market.startWorker("--log-level", "error");
    const { tlsFolder } = homePaths(market.seller.home);
    front = await startTlsFront({
      port: Number(new URL(market.endpoint).port),
      nodePort: workerPort,
      genuine: await loadOrCreateCertificate(tlsFolder, ["127.0.0.1"]),
      impostor: await loadOrCreateCertificate(temporaryFolder(), ["127.0.0.1"]),
    });
  });
  beforeEach(() => {
    front.route = "node";
    front.nodeConnectionsLeft = Number.POSITIVE_INFINITY;
    front.impostorAnswer = undefined;
    Object.assign(front.impostor, { connections: 0, resumed: 0, bytes: "" });
  });
  after(async () => {
    await front?.close();
    await market?.close();
    await model?.close();
  });

  const submit = (prompt: string) => market.submit(prompt, "--max-tokens", "200", "--json");
  const codeOf = (stderr: string) => JSON.parse(stderr.trim().split("\n").at(-1)!).error.code;

  it("that shows a copy of the node's offer is asked for the offer alone: no job is opened", async () => {
    const { text } = await fetchUnpinned(market.endpoint, OFFER_PATH);
    front.impostorAnswer = `HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: ${text.length}\r\nconnection: close\r\n\r\n${text}`;
    front.route = "impostor";
    const { exitCode, stderr } = await submit("the first secret").ended;
    expect(codeOf(stderr)).to.equal("node-key-mismatch");
    expect(exitCode).to.equal(KEY_MISMATCH_EXIT);
    expect(front.impostor.connections).to.equal(1);
    expect(front.impostor.bytes).to.match(
      /^GET \/\.well-known\/infernet HTTP\/1\.1\r\n(?:host|connection): /i,
    );
    expect(front.impostor.bytes).to.not.match(/secret|infernet-(?:job|salt|receipt)/i);
    expect(await market.holdings()).to.deep.equal({ requester: ALLOWANCE, payee: 0n });
  });

  it("that comes between the offer and the request gets no byte, though it could resume the session", async () => {
    front.nodeConnectionsLeft = 1;
    const { exitCode, stderr } = await submit("the second secret").ended;
    expect(codeOf(stderr)).to.equal("node-key-mismatch");
    expect(exitCode).to.equal(KEY_MISMATCH_EXIT);
    expect(front.impostor.connections).to.be.above(0);
    expect(front.impostor).to.include({ resumed: 0, bytes: "" });
    expect(model.requests).to.have.length(0);
  });

  it("that comes in the middle of an answer gets no byte, though it could resume the session", async () => {
    const buyer = submit("the third secret");
    await buyer.until(({ stderr }) => stderr.includes('"event":"text"'));
    front.route = "impostor";
    front.cut();
    const { exitCode, stderr } = await buyer.ended;
    expect(codeOf(stderr)).to.equal("node-key-mismatch");
    expect(exitCode).to.equal(KEY_MISMATCH_EXIT);
    expect(front.impostor.connections).to.be.above(0);
    expect(front.impostor).to.include({ resumed: 0, bytes: "" });
  });

  it("really could resume the node's sessions", async () => {
    const options = {
      host: "127.0.0.1",
      port: Number(new URL(market.endpoint).port),
      rejectUnauthorized: false,
    };
    const honest = connect(options);
    const [session] = await once(honest, "session");
    honest.destroy();
    front.route = "impostor";
    const resumed = connect({ ...options, session });
    await once(resumed, "secureConnect");
    expect(resumed.isSessionReused()).to.equal(true);
    resumed.destroy();
  });
});
