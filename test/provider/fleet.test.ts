// Several real model servers behind one paid node on a real chain: throughput, truth about what is up, and the end.
import { expect } from "chai";
import { createSender } from "../../chain/sender.ts";
import type { InfernetError } from "../../protocol/errors.ts";
import { requestHashOf, SESSION_REQUEST_HASH } from "../../protocol/job.ts";
import { parseServedOffer } from "../../protocol/offer.ts";
import { formatReceipt } from "../../protocol/receipt.ts";
import { HEADERS, OFFER_PATH } from "../../protocol/wire.ts";
import { LOCAL_CHAIN_DEFAULTS, PROVIDER_DEFAULTS, type ProviderConfig } from "../../provider/config.ts";
import type { UpstreamEntry } from "../../provider/dispatch.ts";
import type { ProviderEvent } from "../../provider/events.ts";
import { PROVIDER_MIGRATIONS } from "../../provider/ledger-schema.ts";
import { type Provider, startProvider } from "../../provider/start.ts";
import { openUpstreams, type UpstreamSettings } from "../../provider/upstreams/open.ts";
import { pickModel } from "../../requester/offer-check.ts";
import { systemClock } from "../../runtime/clock.ts";
import { createLogger } from "../../runtime/logger.ts";
import { openStore, type Store } from "../../runtime/store.ts";
import { failureOf } from "../support/machine.ts";
import { type PacedOpenAiServer, startPacedOpenAiServer } from "../support/paced-openai-server.ts";
import { tinyModelFile } from "../support/tiny-model.ts";
import { type Market, openJob, signReceipt, startMarket, stopMarket } from "./chain-fixture.ts";
import { createFolder } from "./ledger-fixture.ts";
import { CHAT, chatBytes, readWhole, refusalOf } from "./serving-fixture.ts";
import { HandSession } from "./session-client.ts";

const CONFIG: ProviderConfig = {
  ...PROVIDER_DEFAULTS,
  ...LOCAL_CHAIN_DEFAULTS,
  listen: { host: "127.0.0.1", port: 0 },
  endpoint: "http://127.0.0.1:8443",
  health: { everyMs: 50, timeoutMs: 3_000, restMs: 1_000 },
};

describe("a fleet of upstreams behind one node", function () {
  this.timeout(60_000);
  const folder = createFolder();
  let market: Market;
  let provider: Provider;
  let store: Store;
  let entries: readonly UpstreamEntry[];
  let told: ProviderEvent[];
  let servers: PacedOpenAiServer[] = [];
  let base: string;
  let run = 0;

  before(async () => {
    market = await startMarket();
  });
  beforeEach(async () => {
    base = await market.local.snapshot();
  });
  let stopProvider: () => Promise<void> = async () => {};
  const stop = async () => {
    await stopProvider();
    await Promise.all((entries ?? []).map(({ upstream }) => upstream.close()));
    store?.close();
  };
  afterEach(async () => {
    await stop();
    await Promise.all(servers.map((server) => server.close()));
    servers = [];
    await market.local.revert(base);
  });
  after(async () => {
    await stopMarket(market);
    folder.remove();
  });

  const startServer = async (options: Partial<Parameters<typeof startPacedOpenAiServer>[0]> = {}) => {
    const server = await startPacedOpenAiServer({ model: "tiny", tokenMs: 5, answerTokens: 4, ...options });
    servers.push(server);
    return server;
  };
  const settingsOf = ({ url }: PacedOpenAiServer, slots = 2): UpstreamSettings => ({
    kind: "openai",
    url,
    slots,
  });
  const start = async (settings: readonly UpstreamSettings[], config: Partial<ProviderConfig> = {}) => {
    store = openStore(`${folder.path}/${++run}`, PROVIDER_MIGRATIONS, { exclusive: true });
    stopProvider = async () => {};
    entries = await openUpstreams(settings);
    provider = await startProvider({
      ...{ chain: market.chain, store, signer: market.node, upstreams: entries, certificate: null },
      config: { ...CONFIG, ...config },
      log: createLogger({ level: "silent" }),
      clock: systemClock,
    });
    stopProvider = provider.stop;
    told = [];
    provider.subscribe((event) => told.push(event));
  };
  /** Resolves once the provider's snapshot is like this, looking after each event. */
  const until = (isSo: (snapshot: ReturnType<Provider["snapshot"]>) => boolean) =>
    new Promise<void>((resolve) => {
      const look = () => {
        if (!isSo(provider.snapshot())) return;
        unsubscribe();
        resolve();
      };
      const unsubscribe = provider.subscribe(look);
      look();
    });
  const served = async () => parseServedOffer(await (await fetch(`${provider.url}${OFFER_PATH}`)).text());
  const healthz = async () => {
    const response = await fetch(`${provider.url}/healthz`);
    return { status: response.status, body: await response.json() };
  };
  const openSession = async () => {
    const { offerHash } = await served();
    const terms = { offerHash, requestHash: SESSION_REQUEST_HASH };
    const { jobId, terms: opened } = await openJob(market, { amount: 1_000_000n, terms });
    const headers = { [HEADERS.job]: jobId, [HEADERS.salt]: opened.salt, [HEADERS.offer]: offerHash };
    const receipt = (signed: bigint) => formatReceipt(signReceipt(market, jobId, signed));
    return new HandSession({ url: provider.url, jobId, headers, receipt, step: 1_000n });
  };
  const openSingle = async (body: Buffer) => {
    const { offerHash } = await served();
    return await openJob(market, { terms: { offerHash, requestHash: requestHashOf(CHAT, body) } });
  };
  const send = ({ jobId, terms }: Awaited<ReturnType<typeof openSingle>>, body: Buffer) =>
    fetch(`${provider.url}${CHAT}`, {
      method: "POST",
      headers: {
        "content-type": "application/json",
        [HEADERS.job]: jobId,
        [HEADERS.salt]: terms.salt,
        [HEADERS.offer]: terms.offerHash,
        [HEADERS.receipt]: formatReceipt(signReceipt(market, jobId, 1_000n)),
      },
      body: new Uint8Array(body),
    });

  /** Seconds in which a node sells 16 answers of 10 tokens over these upstreams. */
  const timeToSell = async (settings: readonly UpstreamSettings[]) => {
    await start(settings);
    const session = await openSession();
    // A first request makes the job known; then all that the others may cost is signed for at once.
    await session.ask("first", new Uint8Array(chatBytes()));
    session.signed = 100_000n;
    const startedAt = performance.now();
    const answers = await Promise.all(
      Array.from({ length: 16 }, (_, index) =>
        session.ask(`k${index}`, new Uint8Array(chatBytes({ seed: index }))),
      ),
    );
    const seconds = (performance.now() - startedAt) / 1000;
    for (const { errors, delivery } of answers) {
      expect(errors).to.deep.equal([]);
      expect(delivery).to.include({ completionTokens: 10, promptTokens: 10, estimated: false });
    }
    await stop();
    return seconds;
  };

  it("gives with two rate-limited upstreams at least 1.8 times the throughput of one", async () => {
    const pace = { tokenMs: 50, answerTokens: 10 };
    const [first, second] = [await startServer(pace), await startServer(pace)];
    const alone = await timeToSell([settingsOf(first)]);
    const together = await timeToSell([settingsOf(first), settingsOf(second)]);
    expect([first.answered, second.answered]).to.deep.equal([26, 8]);
    expect(alone / together, `${alone} s alone, ${together} s together`).to.be.at.least(1.8);
  });

  it("tells the truth by offer, health and light when upstreams go down and come back, one and all", async () => {
    const [first, second] = [await startServer(), await startServer()];
    await start([settingsOf(first, 2), settingsOf(second, 3)]);
    expect((await served()).offer).to.deep.include({ capacity: 5 });
    await first.close();
    await until(({ upstreams }) => upstreams[0]!.state === "down");
    expect((await served()).offer).to.deep.include({ capacity: 3 });
    expect(provider.snapshot()).to.deep.include({ live: true, models: ["tiny"] });
    expect((await healthz()).status).to.equal(200);
    const { jobId, terms } = await openSingle(chatBytes());
    await second.close();
    await until(({ live }) => !live);
    const nothing = await served();
    expect(nothing.offer).to.deep.include({ capacity: 0, models: [] });
    expect(await healthz()).to.deep.equal({
      status: 503,
      body: { status: "unavailable", reasons: ["no-model"] },
    });
    expect(provider.snapshot().hindrances[0]).to.match(
      /^openai 127\.0\.0\.1:\d+ is down: .+ECONNREFUSED.+; openai/,
    );
    const listing = (await market.chain.getNode(market.node.address))!;
    const error: InfernetError = await failureOf(() => pickModel({ listing, signedOffer: nothing }, "tiny"));
    expect(error.code).to.equal("upstream-unreachable");
    // A job that was opened before costs nothing now, and is served once one is back.
    const opened = { jobId, terms } as Awaited<ReturnType<typeof openSingle>>;
    const refused = await send(opened, chatBytes());
    expect(refused.headers.get("retry-after")).to.equal("5");
    expect(await refusalOf(refused)).to.deep.equal({ status: 502, code: "upstream-unreachable" });
    await startServer({ port: second.port });
    await until(({ live }) => live);
    expect((await served()).offer).to.deep.include({ capacity: 3 });
    expect((await healthz()).status).to.equal(200);
    expect((await readWhole(await send(opened, chatBytes()))).delivery).to.include({ completionTokens: 4 });
    const lights = told.flatMap((event) => (event.type === "lightChanged" ? [event.live] : []));
    expect(lights).to.deep.equal([false, true]);
  });

  it("starts while nothing is up, says so, and is live as soon as the model server comes", async () => {
    const gone = await startServer();
    await gone.close();
    await start([settingsOf(gone)]);
    expect(provider.snapshot()).to.deep.include({ live: false, models: [] });
    await startServer({ port: gone.port });
    await until(({ live }) => live);
    expect((await served()).offer.models).to.have.length(1);
  });

  it("does not start when all servers answer and none has a model that is listed", async () => {
    const other = await startServer({ model: "other" });
    const error: InfernetError = await failureOf(() => start([settingsOf(other)]));
    expect(error).to.include({ code: "model-not-found", hint: "They have: other." });
  });

  it("sends away what waits when it stops, and lets what runs end", async () => {
    const server = await startServer({ tokenMs: 40, answerTokens: 10 });
    await start([settingsOf(server, 1)]);
    const bodies = [chatBytes({ seed: 1 }), chatBytes({ seed: 2 })];
    const jobs = [await openSingle(bodies[0]!), await openSingle(bodies[1]!)];
    const running = await send(jobs[0]!, bodies[0]!);
    const waiting = send(jobs[1]!, bodies[1]!);
    await until(({ queued }) => queued === 1);
    const stopped = provider.stop();
    const refused = await waiting;
    expect(Number(refused.headers.get("retry-after"))).to.be.greaterThan(0);
    expect((await refusalOf(refused)).code).to.equal("node-busy");
    expect((await readWhole(running)).delivery).to.include({ completionTokens: 10 });
    await stopped;
    expect((await market.chain.getJobState(jobs[1]!.jobId)).claimed).to.equal(0n);
  });

  it("sells the model of its own process and that of a server side by side", async () => {
    const server = await startServer({ model: "paced" });
    const embedded: UpstreamSettings = {
      ...{ kind: "embedded", modelFile: tinyModelFile(), modelName: "tiny", threads: 1, contextLength: 512 },
      slots: 1,
    };
    const { chain, node, payee } = market;
    const digest = `0x${"00".repeat(32)}` as const;
    const prices = { digest, inputPrice: 2_000_000n, outputPrice: 5_000_000n };
    const models = ["tiny", "paced"].map((name) => ({ name, ...prices }));
    await createSender(chain, node).send(chain.calls.setModels(models));
    await start([embedded, settingsOf(server, 2)]);
    const { offer } = await served();
    expect(offer.payee).to.equal(payee);
    expect(offer.capacity).to.equal(3);
    expect(offer.models.map(({ name }) => name)).to.deep.equal(["tiny", "paced"]);
    const bodies = ["tiny", "paced"].map((model) => chatBytes({ model, max_tokens: 4, seed: 7 }));
    const answers = await Promise.all(
      bodies.map(async (body) => readWhole(await send(await openSingle(body), body))),
    );
    for (const { errors, delivery } of answers) {
      expect(errors).to.deep.equal([]);
      expect(delivery!.completionTokens).to.equal(4);
    }
    expect(server.answered).to.equal(1);
    expect(answers[0]!.delivery!.modelDigest).to.not.equal(answers[1]!.delivery!.modelDigest);
  });
});
