import { expect } from "chai";
import type { InfernetError } from "../../protocol/errors.ts";
import { requestHashOf, SESSION_REQUEST_HASH, singleRequestId } from "../../protocol/job.ts";
import { parseServedOffer } from "../../protocol/offer.ts";
import { formatReceipt } from "../../protocol/receipt.ts";
import { HEADERS, JOBS_PATH, jobDocumentSchema, OFFER_PATH } from "../../protocol/wire.ts";
import { LOCAL_CHAIN_DEFAULTS, PROVIDER_DEFAULTS, type ProviderConfig } from "../../provider/config.ts";
import type { ProviderEvent } from "../../provider/events.ts";
import { PROVIDER_MIGRATIONS } from "../../provider/ledger-schema.ts";
import { type Provider, startProvider } from "../../provider/start.ts";
import { systemClock } from "../../runtime/clock.ts";
import { createLogger } from "../../runtime/logger.ts";
import { createSigner, generatePrivateKey, type Signer } from "../../runtime/signers/secp256k1.ts";
import { openStore, type Store } from "../../runtime/store.ts";
import { ScriptedUpstream, type Step, words } from "../support/scripted-upstream.ts";
import {
  type Market,
  openChainSide,
  openJob,
  signReceipt,
  startMarket,
  stopMarket,
} from "./chain-fixture.ts";
import { createFolder, newRequest } from "./ledger-fixture.ts";
import { CHAT, chatBytes, entriesOf, readWhole, refusalOf } from "./serving-fixture.ts";

const CONFIG: ProviderConfig = {
  ...PROVIDER_DEFAULTS,
  ...LOCAL_CHAIN_DEFAULTS,
  listen: { host: "127.0.0.1", port: 0 },
  endpoint: "http://127.0.0.1:8443",
  prices: { default: { inputPrice: 2_000_000n, outputPrice: 5_000_000n }, byModel: {} },
};

describe("provider", function () {
  this.timeout(20_000);
  const folder = createFolder();
  let market: Market;
  let provider: Provider;
  let store: Store;
  let told: ProviderEvent[];
  let base: string;
  let run = 0;

  before(async () => {
    market = await startMarket();
  });
  beforeEach(async () => {
    run += 1;
    base = await market.local.snapshot();
  });
  afterEach(async () => {
    await provider?.stop();
    store?.close();
    await market.local.revert(base);
  });
  after(async () => {
    await stopMarket(market);
    folder.remove();
  });

  const start = async (
    script: Step[],
    config: Partial<ProviderConfig> = {},
    signer: Signer = market.node,
  ) => {
    store = openStore(`${folder.path}/${run}`, PROVIDER_MIGRATIONS, { exclusive: true });
    provider = await startProvider({
      config: { ...CONFIG, ...config },
      chain: market.chain,
      store,
      log: createLogger({ level: "silent" }),
      signer,
      upstreams: entriesOf(new ScriptedUpstream(script)),
      certificate: null,
      clock: systemClock,
    });
    told = [];
    provider.subscribe((event) => told.push(event));
  };
  /** Resolves at the next event of this type, or at once if it was told already. */
  const eventOf = async <Type extends ProviderEvent["type"]>(type: Type) => {
    const isIt = (event: ProviderEvent): event is Extract<ProviderEvent, { type: Type }> =>
      event.type === type;
    const known = told.find(isIt);
    if (known) return known;
    return await new Promise<Extract<ProviderEvent, { type: Type }>>((resolve) => {
      const unsubscribe = provider.subscribe((event) => {
        if (!isIt(event)) return;
        unsubscribe();
        resolve(event);
      });
    });
  };
  /** Opens a job for this body under the node's offer, as a requester would. */
  const openPaid = async (body: Buffer) => {
    const served = await (await fetch(`${provider.url}${OFFER_PATH}`)).text();
    const { offerHash } = parseServedOffer(served);
    return await openJob(market, { terms: { offerHash, requestHash: requestHashOf(CHAT, body) } });
  };
  const send = (opened: Awaited<ReturnType<typeof openPaid>>, body: Buffer, signed: bigint) =>
    fetch(`${provider.url}${CHAT}`, {
      method: "POST",
      headers: {
        "content-type": "application/json",
        [HEADERS.job]: opened.jobId,
        [HEADERS.salt]: opened.terms.salt,
        [HEADERS.offer]: opened.terms.offerHash,
        [HEADERS.receipt]: formatReceipt(signReceipt(market, opened.jobId, signed)),
      },
      body: new Uint8Array(body),
    });

  it("sells a request from its opening to the pay-out, and tells the whole trip", async () => {
    const paidBefore = await market.chain.getUsdc(market.payee);
    await start(["Hel", "lo", { usage: [10, 2] }]);
    const opened = await openPaid(chatBytes());
    const answer = await readWhole(await send(opened, chatBytes(), 1_000n));
    expect(answer).to.deep.include({ text: "Hello", errors: [] });
    expect(answer.delivery?.jobCharge).to.equal(30n);
    expect(await eventOf("settled")).to.include({ jobId: opened.jobId, claimed: 30n, returned: 99_970n });
    expect(await eventOf("paidOut")).to.include({ amount: 30n });
    expect((await market.chain.getUsdc(market.payee)) - paidBefore).to.equal(30n);
    const { activity, offer, head, ...books } = provider.snapshot();
    expect(activity.today).to.deep.equal({ requests: 1, promptTokens: 10, completionTokens: 2 });
    expect(offer.models[0]).to.include({ name: "tiny", outputPrice: 5_000_000n });
    expect(head?.number).to.be.at.least(opened.outcome.block);
    expect(books).to.deep.equal({
      node: market.node.address,
      payee: market.payee,
      endpoint: CONFIG.endpoint,
      models: ["tiny"],
      live: true,
      hindrances: [],
      upstreams: [
        {
          ...{ name: "only", kind: "openai", state: "up", reason: null },
          ...{ models: ["tiny"], running: 0, capacity: 4 },
        },
      ],
      activeStreams: 0,
      queued: 0,
      jobs: { open: 0, settling: 0, closed: 1 },
      charged: 30n,
      settled: 30n,
      paidOut: 30n,
      earnedOnChain: 0n,
      lastError: null,
    });
    const trip = [
      "jobFunded",
      "streamStarted",
      "tokensReleased",
      "streamEnded",
      "jobOver",
      "settled",
      "paidOut",
    ];
    expect(
      told.map(({ type }) => type).filter((type, index, all) => all.indexOf(type) === index),
    ).to.include.members(trip);
  });

  it("ends and settles at its start what a crash cut off, at exactly what was released", async () => {
    const side = openChainSide(market, `${folder.path}/${run}`);
    const opened = await openJob(market);
    await side.intake.ensureFunded(opened.jobId, opened.terms, market.offer);
    side.ledger.bindTerms(opened.jobId, opened.terms);
    await side.ledger.acceptReceipt(signReceipt(market, opened.jobId, 1_000n));
    const requestId = singleRequestId(opened.jobId, opened.terms.requestHash);
    await side.ledger.startRequest({ ...newRequest(opened.jobId), requestId });
    await side.ledger.release(requestId, ["a", "b"], { promptTokens: 0, completionTokens: 20 });
    await side.close();

    await start([]);
    expect(await eventOf("settled")).to.include({ jobId: opened.jobId, claimed: 300n });
    const { status, claimed } = await market.chain.getJobState(opened.jobId);
    expect({ status, claimed }).to.deep.equal({ status: "closed", claimed: 300n });
  });

  it("cuts running streams when it stops, charges what was released, and settles it", async () => {
    const { promise: never } = Promise.withResolvers<void>();
    await start([...words(5), { until: never }], { stopGraceSeconds: 0 });
    const opened = await openPaid(chatBytes());
    let stopped: Promise<void> | undefined;
    const answer = await readWhole(await send(opened, chatBytes(), 1_000n), {
      onEvent: (event) => {
        if ("payload" in event && event.payload.includes("w4")) stopped = provider.stop();
      },
    });
    await stopped;
    expect(answer.errors).to.deep.equal(["interrupted"]);
    expect(answer.delivery).to.include({
      estimated: true,
      promptTokens: 10,
      completionTokens: 5,
      jobCharge: 45n,
    });
    expect((await market.chain.getJobState(opened.jobId)).claimed).to.equal(45n);
    expect(provider.snapshot()).to.include({ live: false, settled: 45n });
    const gone = await fetch(provider.url).catch((error: Error) => error);
    expect(gone).to.be.instanceOf(Error);
  });

  it("lets running streams end when it stops, and takes no new request meanwhile", async () => {
    const { promise: later, resolve: goOn } = Promise.withResolvers<void>();
    await start(["one ", { until: later }, "two", { usage: [10, 2] }]);
    const [first, second] = [await openPaid(chatBytes()), await openPaid(chatBytes())];
    let refused: Promise<Response> | undefined;
    let stopped: Promise<void> | undefined;
    const answer = await readWhole(await send(first, chatBytes(), 1_000n), {
      async onEvent(event) {
        if (!("payload" in event) || !event.payload.includes("one")) return;
        stopped = provider.stop();
        refused = send(second, chatBytes(), 1_000n);
        await refused;
        goOn();
      },
    });
    await stopped;
    expect(answer).to.deep.include({ text: "one two", errors: [] });
    const refusal = await refused!;
    expect(refusal.headers.get("retry-after")).to.match(/^\d+$/);
    expect((await refusalOf(refusal)).code).to.equal("node-busy");
    expect((await market.chain.getJobState(first.jobId)).claimed).to.equal(30n);
  });

  it("gives the deposit of a session that was never used back as soon as its requester closes it", async () => {
    await start([], { pollMs: 60_000 });
    const before = await market.chain.getCredit(market.requester.address);
    const { offerHash } = parseServedOffer(await (await fetch(`${provider.url}${OFFER_PATH}`)).text());
    const { jobId, terms, amount } = await openJob(market, {
      terms: { offerHash, requestHash: SESSION_REQUEST_HASH },
    });
    expect(await market.chain.getCredit(market.requester.address)).to.equal(before - amount);
    const headers = { [HEADERS.salt]: terms.salt, [HEADERS.offer]: offerHash };
    const url = `${provider.url}${JOBS_PATH}/${jobId}/close`;
    const answer = await fetch(url, { method: "POST", headers });
    expect(jobDocumentSchema.parse(await answer.json())).to.include({ status: "closed", charge: 0n });
    expect(await market.chain.getCredit(market.requester.address)).to.equal(before);
  });

  it("does not start for a node that the Registry does not know, and leaves nothing running", async () => {
    const unknown = createSigner(generatePrivateKey());
    const error: InfernetError = await start([], {}, unknown).catch((reason) => reason);
    expect(error.code).to.equal("not-registered");
  });

  it("settles what a stopped provider left behind when it starts again", async () => {
    const side = openChainSide(market, `${folder.path}/${run}`);
    const opened = await openJob(market);
    await side.intake.ensureFunded(opened.jobId, opened.terms, market.offer);
    side.ledger.bindTerms(opened.jobId, opened.terms);
    await side.ledger.acceptReceipt(signReceipt(market, opened.jobId, 1_000n));
    await side.ledger.startRequest(newRequest(opened.jobId));
    const counts = { promptTokens: 10, completionTokens: 4 };
    await side.ledger.release(newRequest(opened.jobId).requestId, ["a"], counts);
    await side.ledger.endRequest(newRequest(opened.jobId).requestId, {
      counts,
      estimated: false,
      reason: "stop",
    });
    await side.close();
    await start([]);
    expect((await eventOf("settled")).jobId).to.equal(opened.jobId);
    expect((await market.chain.getJobState(opened.jobId)).claimed).to.equal(40n);
  });
});
