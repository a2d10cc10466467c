// Many requests on one session of a real node and a real chain: 20 at once and 200 in a row, each charged exactly.
import { expect } from "chai";
import { SESSION_REQUEST_HASH } from "../../protocol/job.ts";
import { parseServedOffer } from "../../protocol/offer.ts";
import { most, roundCharge } from "../../protocol/price.ts";
import { formatReceipt } from "../../protocol/receipt.ts";
import { HEADERS, JOBS_PATH, jobDocumentSchema, OFFER_PATH } from "../../protocol/wire.ts";
import { LOCAL_CHAIN_DEFAULTS, PROVIDER_DEFAULTS, type ProviderConfig } from "../../provider/config.ts";
import type { ProviderEvent } from "../../provider/events.ts";
import { PROVIDER_MIGRATIONS } from "../../provider/ledger-schema.ts";
import { type Provider, startProvider } from "../../provider/start.ts";
import { systemClock } from "../../runtime/clock.ts";
import { createLogger } from "../../runtime/logger.ts";
import { openStore, type Store } from "../../runtime/store.ts";
import { ScriptedUpstream, type Step, words } from "../support/scripted-upstream.ts";
import { type Market, openJob, signReceipt, startMarket, stopMarket } from "./chain-fixture.ts";
import { createFolder } from "./ledger-fixture.ts";
import { type Answer, chatBytes, entriesOf } from "./serving-fixture.ts";
import { HandSession } from "./session-client.ts";

const PRICES = { inputPrice: 1_999_999n, outputPrice: 4_999_999n };
const PROMPT_TOKENS = 10;
const CONFIG: ProviderConfig = {
  ...PROVIDER_DEFAULTS,
  ...LOCAL_CHAIN_DEFAULTS,
  listen: { host: "127.0.0.1", port: 0 },
  endpoint: "http://127.0.0.1:8443",
  prices: { default: PRICES, byModel: {} },
  chunkTokens: 4,
  capacity: 20,
};

describe("a session under load", function () {
  this.timeout(60_000);
  const folder = createFolder();
  let market: Market;
  let provider: Provider;
  let store: Store;
  let told: ProviderEvent[];
  let run = 0;

  before(async () => {
    market = await startMarket();
  });
  afterEach(async () => {
    await provider.stop();
    store.close();
  });
  after(async () => {
    await stopMarket(market);
    folder.remove();
  });

  const start = async (...scripts: Step[][]) => {
    store = openStore(`${folder.path}/${++run}`, PROVIDER_MIGRATIONS, { exclusive: true });
    provider = await startProvider({
      ...{ config: CONFIG, chain: market.chain, store, signer: market.node, certificate: null },
      upstreams: entriesOf(new ScriptedUpstream(...scripts), CONFIG.capacity),
      log: createLogger({ level: "silent" }),
      clock: systemClock,
    });
    told = [];
    provider.subscribe((event) => told.push(event));
  };
  const openSession = async (step: bigint, amount = 1_000_000n) => {
    const { offerHash } = parseServedOffer(await (await fetch(`${provider.url}${OFFER_PATH}`)).text());
    const opened = await openJob(market, { amount, terms: { offerHash, requestHash: SESSION_REQUEST_HASH } });
    const { jobId, terms } = opened;
    const headers = { [HEADERS.job]: jobId, [HEADERS.salt]: terms.salt, [HEADERS.offer]: offerHash };
    const receipt = (signed: bigint) => formatReceipt(signReceipt(market, jobId, signed));
    const session = new HandSession({ url: provider.url, jobId, headers, receipt, step });
    const call = async (method: "GET" | "POST", path = "") => {
      const response = await fetch(`${provider.url}${JOBS_PATH}/${jobId}${path}`, { method, headers });
      return jobDocumentSchema.parse(await response.json());
    };
    return { ...opened, session, call };
  };
  const costOf = (tokens: number) =>
    BigInt(PROMPT_TOKENS) * PRICES.inputPrice + BigInt(tokens) * PRICES.outputPrice;
  const wordsOf = (tokens: number): Step[] => [...words(tokens), { usage: [PROMPT_TOKENS, tokens] }];
  /** Closes the session and compares deliveries, node and chain to the base unit. */
  const settle = async (
    { jobId, amount, call, session }: Awaited<ReturnType<typeof openSession>>,
    answers: Answer[],
  ) => {
    const charge = roundCharge(answers.reduce((sum, { delivery }) => sum + delivery!.cost, 0n));
    const charges = answers.map(({ delivery }) => delivery!.jobCharge);
    expect(most(0n, ...charges)).to.equal(charge);
    expect(charge <= session.signed).to.equal(true);
    const before = await market.chain.getCredit(market.requester.address);
    await call("POST", "/close");
    expect(await call("GET")).to.include({ status: "closed", charge, claimed: charge });
    expect(await market.chain.getJobState(jobId)).to.deep.include({ status: "closed", claimed: charge });
    expect(await market.chain.getCredit(market.requester.address)).to.equal(before + amount - charge);
    const row = store.db.prepare("SELECT running_reserved, running_requests FROM jobs").get();
    expect(row).to.deep.equal({ ...row, running_reserved: 0, running_requests: 0 });
  };

  it("20 requests at once, signed for in steps of one base unit, all end and cost what they made", async () => {
    const sizes = Array.from({ length: 20 }, (_, index) => 5 + index);
    await start(...sizes.map(wordsOf));
    const opened = await openSession(1n);
    const { session } = opened;
    const answers = await Promise.all(sizes.map((_, index) => session.ask(`key-${index}`, body())));
    const made = answers.map(({ delivery }) => delivery!.completionTokens).sort((one, other) => one - other);
    expect(made).to.deep.equal(sizes);
    for (const { errors, delivery, needs, text } of answers) {
      expect(errors).to.deep.equal([]);
      expect(delivery).to.include({ estimated: false, cost: costOf(delivery!.completionTokens) });
      expect(text).to.equal(words(delivery!.completionTokens).join(""));
      expect([...needs].sort((one, other) => (one < other ? -1 : 1))).to.deep.equal(needs);
    }
    expect(session.receipts).to.be.greaterThan(20);
    // Never asked for more than all of it, with its two chunks ahead.
    const most = roundCharge(
      sizes.reduce((sum, tokens) => sum + costOf(tokens + 2 * CONFIG.chunkTokens), 0n),
    );
    expect(session.signed <= most).to.equal(true);
    await settle(opened, answers);
  });

  it("200 requests in a row share one receipt, and the job's document stays short", async () => {
    await start(wordsOf(3));
    const opened = await openSession(1_000n);
    const { session, call } = opened;
    const answers: Answer[] = [];
    for (let index = 0; index < 200; index++) answers.push(await session.ask(`key-${index}`, body()));
    for (const [index, { delivery }] of answers.entries()) {
      expect(delivery).to.include({ cost: costOf(3), jobCharge: roundCharge(BigInt(index + 1) * costOf(3)) });
    }
    const document = await call("GET");
    expect(document.requests).to.have.length(20);
    const { requestId } = answers[0]!.delivery!;
    const [first] = (await call("GET", `?request=${requestId}`)).requests;
    expect(first!.delivery).to.deep.equal(answers[0]!.delivery);
    await settle(opened, answers);
  });

  it("a stream that waits for a receipt lets the others run to their end", async () => {
    await start(wordsOf(20), wordsOf(8));
    const opened = await openSession(1_000n);
    const { session } = opened;
    const otherEnded = new Promise<void>((resolve) => {
      const unsubscribe = provider.subscribe((event) => {
        if (event.type !== "streamEnded") return;
        unsubscribe();
        resolve();
      });
    });
    const firstNeed = Promise.withResolvers<void>();
    const long = session.ask("long", body(), async (need) => {
      firstNeed.resolve();
      await otherEnded;
      await session.sign(need);
    });
    await firstNeed.promise;
    const short = await session.ask("short", body());
    expect(short.delivery).to.include({ completionTokens: 8 });
    const waited = await long;
    expect(waited.delivery).to.include({ completionTokens: 20, estimated: false });
    const ends = told.flatMap((event) =>
      event.type === "streamEnded" ? [event.counts.completionTokens] : [],
    );
    expect(ends).to.deep.equal([8, 20]);
    await settle(opened, [short, waited]);
  });
});

function body(): Uint8Array<ArrayBuffer> {
  return new Uint8Array(chatBytes());
}
