import { readFileSync } from "node:fs";
import { request as httpRequest } from "node:http";
import { networkInterfaces } from "node:os";
import { expect } from "chai";
import { requestHashOf } from "../../protocol/job.ts";
import { parseServedOffer } from "../../protocol/offer.ts";
import { formatReceipt } from "../../protocol/receipt.ts";
import { HEADERS, OFFER_PATH } from "../../protocol/wire.ts";
import { LOCAL_CHAIN_DEFAULTS, PROVIDER_DEFAULTS, type ProviderConfig } from "../../provider/config.ts";
import type { UpstreamStatus } from "../../provider/dispatch.ts";
import type { ProviderEvent } from "../../provider/events.ts";
import { PROVIDER_MIGRATIONS } from "../../provider/ledger-schema.ts";
import { type Provider, startProvider } from "../../provider/start.ts";
import { systemClock } from "../../runtime/clock.ts";
import { createLogger } from "../../runtime/logger.ts";
import { openStore, type Store } from "../../runtime/store.ts";
import { failureOf } from "../support/machine.ts";
import { readMetrics } from "../support/metrics.ts";
import { ScriptedUpstream, type Step } from "../support/scripted-upstream.ts";
import { type Market, openJob, signReceipt, startMarket, stopMarket } from "./chain-fixture.ts";
import { createFolder } from "./ledger-fixture.ts";
import { CHAT, chatBytes, entriesOf, readWhole } from "./serving-fixture.ts";

const CONFIG: ProviderConfig = {
  ...PROVIDER_DEFAULTS,
  ...LOCAL_CHAIN_DEFAULTS,
  listen: { host: "127.0.0.1", port: 0 },
  endpoint: "http://127.0.0.1:8443",
  prices: { default: { inputPrice: 2_000_000n, outputPrice: 5_000_000n }, byModel: {} },
};
const LABELS = ["upstream", "kind", "model", "outcome", "code", "action", "state", "le"];

/** An address of this machine that is not loopback: whoever calls it comes from it, not from loopback. */
function ownAddress(): string {
  const addresses = Object.values(networkInterfaces()).flatMap((list) => list ?? []);
  const found = addresses.find(({ internal, family }) => !internal && family === "IPv4");
  if (!found) throw new Error("this machine has no address but loopback");
  return found.address;
}

describe("a node's metrics", function () {
  this.timeout(20_000);
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
    await provider?.stop();
    store?.close();
  });
  after(async () => {
    await stopMarket(market);
    folder.remove();
  });

  const start = async (script: Step[] = [], config: Partial<ProviderConfig> = {}) => {
    run += 1;
    store = openStore(`${folder.path}/${run}`, PROVIDER_MIGRATIONS, { exclusive: true });
    provider = await startProvider({
      config: { ...CONFIG, ...config },
      chain: market.chain,
      store,
      log: createLogger({ level: "silent" }),
      signer: market.node,
      upstreams: entriesOf(new ScriptedUpstream(script)),
      certificate: null,
      clock: systemClock,
    });
    told = [];
    provider.subscribe((event) => told.push(event));
  };
  const scrape = async (url = `${provider.url}/metrics`) => {
    const response = await fetch(url);
    expect(response.status).to.equal(200);
    expect(response.headers.get("content-type")).to.match(/^text\/plain; version=0\.0\.4/);
    return readMetrics(await response.text());
  };
  const untilEvent = (type: ProviderEvent["type"]) =>
    new Promise<void>((resolve) => {
      if (told.some((event) => event.type === type)) resolve();
      provider.subscribe((event) => event.type === type && resolve());
    });
  /** Opens a job and asks; the caller reads the answer. */
  const ask = async () => {
    const body = chatBytes();
    const { offerHash } = parseServedOffer(await (await fetch(`${provider.url}${OFFER_PATH}`)).text());
    const opened = await openJob(market, { terms: { offerHash, requestHash: requestHashOf(CHAT, body) } });
    const headers = {
      "content-type": "application/json",
      [HEADERS.job]: opened.jobId,
      [HEADERS.salt]: opened.terms.salt,
      [HEADERS.offer]: opened.terms.offerHash,
      [HEADERS.receipt]: formatReceipt(signReceipt(market, opened.jobId, 1_000n)),
    };
    return fetch(`${provider.url}${CHAT}`, { method: "POST", headers, body: new Uint8Array(body) });
  };

  it("tell a request, its tokens, its money and its gas, from the first token to the pay-out", async () => {
    const { promise: later, resolve: goOn } = Promise.withResolvers<void>();
    await start(["Hel", { until: later }, "lo", { usage: [10, 2] }]);
    const answer = await ask();
    await untilEvent("tokensReleased");
    const during = await scrape();
    expect(during.value("infernet_requests_running")).to.equal(1);
    expect(during.value('infernet_released_tokens_total{model="tiny"}')).to.equal(1);
    expect(during.value("infernet_tokens_per_second")).to.be.greaterThan(0);
    expect(during.value('infernet_requests_total{model="tiny",outcome="done"}')).to.equal(undefined);
    goOn();
    await readWhole(answer);
    await untilEvent("settled");
    await untilEvent("paidOut");

    const { value } = await scrape();
    expect(value('infernet_requests_total{model="tiny",outcome="done"}')).to.equal(1);
    expect(value('infernet_prompt_tokens_total{model="tiny"}')).to.equal(10);
    expect(value('infernet_completion_tokens_total{model="tiny"}')).to.equal(2);
    expect(value('infernet_released_tokens_total{model="tiny"}')).to.equal(2);
    expect(value('infernet_time_to_first_token_seconds_count{model="tiny"}')).to.equal(1);
    expect(value('infernet_request_duration_seconds_count{model="tiny"}')).to.equal(1);
    expect(value("infernet_requests_running")).to.equal(0);
    expect(value("infernet_receipts_total")).to.equal(1);
    for (const name of ["charged", "settled", "paid_out"])
      expect(value(`infernet_${name}_usdc_total`)).to.equal(0.00003);
    expect(value("infernet_earned_usdc")).to.equal(0);
    for (const action of ["settle", "payOut"]) {
      const event = told.find(({ type }) => type === (action === "settle" ? "settled" : "paidOut"));
      const gas = event && "gasUsed" in event ? Number(event.gasUsed) : Number.NaN;
      expect(gas).to.be.greaterThan(0);
      expect(value(`infernet_gas_used_total{action="${action}"}`)).to.equal(gas);
    }
    expect(value('infernet_jobs{state="closed"}')).to.equal(1);
    expect(value("infernet_live")).to.equal(1);
    expect(value("infernet_slots")).to.equal(provider.snapshot().offer.capacity);
    expect(value("infernet_requests_queued")).to.equal(0);
    const [{ name, kind, capacity }] = provider.snapshot().upstreams as [UpstreamStatus];
    const labels = `{upstream="${name}",kind="${kind}"}`;
    expect(value(`infernet_upstream_up${labels}`)).to.equal(1);
    expect(value(`infernet_upstream_slots${labels}`)).to.equal(capacity);
    expect(value(`infernet_upstream_requests_running${labels}`)).to.equal(0);
  });

  it("tell how busy the slots are: seconds that requests held them, by seconds that they were there", async () => {
    const { promise: later, resolve: goOn } = Promise.withResolvers<void>();
    await start(["a", { until: later }, { usage: [10, 1] }], { capacity: 2 });
    const answer = await ask();
    const before = await scrape();
    const after = await scrape();
    const rise = (series: string) => after.value(series)! - before.value(series)!;
    expect(rise("infernet_slot_seconds_total")).to.be.greaterThan(0);
    expect(rise("infernet_busy_slot_seconds_total") / rise("infernet_slot_seconds_total")).to.be.closeTo(
      0.5,
      1e-6,
    );
    goOn();
    await readWhole(answer);
  });

  it("tell the offer's age, the chain's head and the process", async () => {
    await start();
    const { value, names } = await scrape();
    const { number } = await market.chain.getBlock("latest");
    expect(value("infernet_chain_head_block")).to.equal(number);
    expect(value("infernet_chain_head_lag_seconds")).to.be.at.least(0);
    // An offer is dated a minute back, for chains whose clock lags.
    expect(value("infernet_offer_age_seconds")).to.be.within(60, 70);
    expect(value("infernet_offer_remaining_seconds")).to.be.within(3590, 3600);
    for (const name of ["process_resident_memory_bytes", "process_cpu_seconds_total", "nodejs_version_info"])
      expect([...names]).to.include(name);
  });

  it("are all that Grafana's dashboard and the documentation name", async () => {
    await start();
    const { names } = await scrape();
    const named = (path: string) => {
      const text = readFileSync(new URL(`../../${path}`, import.meta.url), "utf8");
      return [...new Set(text.match(/\binfernet_[a-z_]+/g))];
    };
    const inDashboard = named("docker/grafana/dashboards/infernet.json");
    expect(inDashboard.length).to.be.greaterThan(15);
    expect(inDashboard.filter((name) => !names.has(name))).to.deep.equal([]);
    const documented = named("docs/operations.md");
    const bare = (name: string) => name.replace(/_(bucket|sum|count)$/, "");
    const ours = [...names].filter((name) => name.startsWith("infernet_")).map(bare);
    expect([...new Set(ours)].sort()).to.deep.equal(documented.sort());
  });

  it("count refusals by the code of the error, whatever was refused", async () => {
    await start();
    await fetch(`${provider.url}/nothing`);
    await fetch(`${provider.url}${CHAT}`, { method: "POST", body: "{}" });
    const headers = { "content-type": "application/json" };
    await fetch(`${provider.url}${CHAT}`, { method: "POST", headers, body: "{}" });
    const { value } = await scrape();
    expect(value('infernet_refusals_total{code="not-found"}')).to.equal(1);
    expect(value('infernet_refusals_total{code="wrong-content-type"}')).to.equal(1);
    expect(value('infernet_refusals_total{code="payment-required"}')).to.equal(1);
  });

  it("carry no job, no requester and nothing that a requester sent", async () => {
    await start(["Hel", { usage: [10, 1] }]);
    await readWhole(await ask());
    await untilEvent("paidOut");
    await fetch(`${provider.url}/infernet/jobs/secret-path`);
    const text = await (await fetch(`${provider.url}/metrics`)).text();
    const { labels } = readMetrics(text.replaceAll(/^(?!infernet_).*$/gm, ""));
    expect([...labels.keys()].filter((label) => !LABELS.includes(label))).to.deep.equal([]);
    expect(text).to.not.match(/0x[0-9a-f]{40}/i);
    expect(text).to.not.contain("secret-path");
    expect([...labels.get("model")!]).to.deep.equal(["tiny"]);
  });

  it("are told to this machine alone, and to nobody through a proxy", async () => {
    const host = ownAddress();
    await start([], { listen: { host: "0.0.0.0", port: 0 } });
    const { port } = new URL(provider.url);
    const statusOf = async (address: string, headers = {}) =>
      (await fetch(`http://${address}:${port}/metrics`, { headers })).status;
    expect(await statusOf("127.0.0.1")).to.equal(200);
    expect(await statusOf(host)).to.equal(404);
    expect(await statusOf(host, { "x-forwarded-for": "127.0.0.1" })).to.equal(404);
    expect(await statusOf(host, { forwarded: "for=127.0.0.1" })).to.equal(404);
    expect(await statusOf("127.0.0.1", { "x-forwarded-for": "203.0.113.7" })).to.equal(404);
    expect((await fetch(`http://${host}:${port}/healthz`)).status).to.equal(200);
  });

  it("are told to IPv6's loopback, also in IPv4's clothes", async () => {
    await start([], { listen: { host: "::", port: 0 } });
    const { port } = new URL(provider.url);
    for (const address of ["[::1]", "127.0.0.1"])
      expect((await fetch(`http://${address}:${port}/metrics`)).status).to.equal(200);
    expect((await fetch(`http://${ownAddress()}:${port}/metrics`)).status).to.equal(404);
  });

  it("are told elsewhere by a listener that has nothing else, until the node stops", async () => {
    const host = ownAddress();
    await start([], { metricsListen: { host, port: 0 } });
    const url = provider.metricsUrl!;
    expect(url).to.match(new RegExp(`^http://${host.replaceAll(".", "\\.")}:\\d+/metrics$`));
    expect((await scrape(url)).value("infernet_live")).to.equal(1);
    for (const path of ["/", "/healthz", "/v1/models", OFFER_PATH])
      expect((await fetch(new URL(path, url))).status).to.equal(404);
    await provider.stop();
    await new Promise<void>((resolve, reject) => {
      httpRequest(url, () => reject(new Error("it still listens")))
        .on("error", () => resolve())
        .end();
    });
  });

  it("do not start a node whose listener's port is taken", async () => {
    await start();
    const port = Number(new URL(provider.url).port);
    const other = openStore(`${folder.path}/other`, PROVIDER_MIGRATIONS, { exclusive: true });
    const failure = await failureOf(() =>
      startProvider({
        config: { ...CONFIG, metricsListen: { host: "127.0.0.1", port } },
        ...{ chain: market.chain, store: other, log: createLogger({ level: "silent" }) },
        ...{
          signer: market.node,
          upstreams: entriesOf(new ScriptedUpstream([])),
          certificate: null,
          clock: systemClock,
        },
      }),
    );
    other.close();
    expect(failure.code).to.equal("port-in-use");
  });
});
