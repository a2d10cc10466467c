// The node's offer: what stands in it, when it is signed anew, and how long it is kept.
import { expect } from "chai";
import { InfernetError } from "../../protocol/errors.ts";
import type { ListedModel } from "../../protocol/offer.ts";
import { formatServedOffer, offerDigest, parseServedOffer } from "../../protocol/offer.ts";
import type { ProviderConfig } from "../../provider/config.ts";
import { createDispatcher, type Dispatcher } from "../../provider/dispatch.ts";
import { createOffers } from "../../provider/offers.ts";
import { createLogger } from "../../runtime/logger.ts";
import { recoverSigner } from "../../runtime/signers/secp256k1.ts";
import { failureOf } from "../support/machine.ts";
import { ScriptedUpstream, TINY } from "../support/scripted-upstream.ts";
import {
  account,
  createFolder,
  DOMAIN,
  type Ledgers,
  NODE,
  OPENED_AT,
  openLedgers,
  word,
} from "./ledger-fixture.ts";
import { CONFIG, entriesOf, LISTED } from "./serving-fixture.ts";

const log = createLogger({ level: "silent" });

describe("offers", () => {
  const folder = createFolder();
  let ledgers: Ledgers;
  let upstream: ScriptedUpstream;
  let listed: ListedModel[] | undefined;
  let store = 0;
  let dispatcher: Dispatcher;
  const create = async (
    config: Partial<ProviderConfig> = {},
    upstreams: Parameters<typeof entriesOf>[0] = upstream,
  ) => {
    dispatcher?.stop(new InfernetError("interrupted", "the test goes on"));
    const settings = { ...CONFIG, ...config };
    dispatcher = await createDispatcher(entriesOf(upstreams), settings, log);
    return createOffers({
      config: settings,
      domain: DOMAIN,
      contracts: { registry: account(0x11), escrow: DOMAIN.escrow, usdc: account(0x13) },
      listing: async () => listed && { payee: account(0x23), models: listed, active: true },
      tlsKeyHash: word(0x44),
      dispatcher,
      signer: NODE,
      store: ledgers.store,
      clock: ledgers.clock,
      log,
    });
  };
  beforeEach(() => {
    store += 1;
    ledgers = openLedgers(`${folder.path}/${store}`);
    upstream = new ScriptedUpstream([]);
    listed = LISTED;
  });
  afterEach(() => {
    dispatcher.stop(new InfernetError("interrupted", "the test is over"));
    ledgers.store.close();
  });
  after(() => folder.remove());

  it("are signed by the node and read as they were written", async () => {
    const { offer, offerHash, signature } = (await create()).current();
    expect(recoverSigner(offerDigest(DOMAIN, offer, offerHash), signature)).to.equal(NODE.address);
    expect(parseServedOffer(formatServedOffer((await create()).current())).offer).to.deep.equal(offer);
    expect(offer).to.include({
      node: NODE.address,
      payee: account(0x23),
      tlsKeyHash: word(0x44),
      chunkTokens: 4,
    });
  });

  it("are valid for openings in blocks whose time lags behind this machine's clock", async () => {
    const { offer } = (await create()).current();
    expect(offer.issuedAt).to.be.lessThan(OPENED_AT);
    expect(offer.expires).to.equal(OPENED_AT + 3600);
  });

  it("hold the models that the upstream has and the Registry lists, never above its ceiling", async () => {
    upstream.models = [TINY, { ...TINY, name: "unlisted" }];
    listed = [...LISTED, { ...LISTED[0]!, name: "not here" }];
    const prices = { default: { inputPrice: 9_000_000n, outputPrice: 9_000_000n }, byModel: {} };
    const { contextLength, features } = TINY;
    const dear = await create({ prices });
    expect(dear.current().offer.models).to.deep.equal([{ ...LISTED[0]!, contextLength, features }]);
    const own = { tiny: { inputPrice: 5n, outputPrice: 6n } };
    const cheap = await create({ prices: { ...prices, byModel: own } });
    expect(cheap.current().offer.models[0]).to.include({ inputPrice: 5n, outputPrice: 6n });
  });

  it("are refused without a registration, and without any listed model", async () => {
    listed = undefined;
    expect((await failureOf(() => create())).code).to.equal("not-registered");
    listed = [{ ...LISTED[0]!, name: "other" }];
    expect((await failureOf(() => create())).code).to.equal("model-not-found");
  });

  it("stay as they are until half of their life is over", async () => {
    const offers = await create();
    const first = offers.current();
    ledgers.clock.now += 1799;
    expect(await offers.refresh()).to.equal(first);
    ledgers.clock.now += 1;
    const second = await offers.refresh();
    expect(second.offer.expires).to.equal(first.offer.expires + 1800);
    expect(offers.current()).to.equal(second);
  });

  /** Resolves at the next change of the upstream, which the offers have heard of already. */
  const upstreamChange = () =>
    new Promise<void>((resolve) => {
      const unsubscribe = dispatcher.subscribe(() => {
        unsubscribe();
        resolve();
      });
    });

  it("are signed anew at once when the models change", async () => {
    const offers = await create();
    const first = offers.current();
    upstream.models = [{ ...TINY, digest: word(0x66) }];
    await upstreamChange();
    expect(offers.current().offer.models[0]!.digest).to.equal(word(0x66));
    expect(offers.byHash(first.offerHash)?.offer).to.deep.equal(first.offer);
  });

  it("offer nothing while the upstream is down, also at the start, and the models again once it is back", async () => {
    const offers = await create();
    const { models } = offers.current().offer;
    const { listModels } = upstream;
    upstream.listModels = () => Promise.reject(new InfernetError("upstream-unreachable", "down"));
    await upstreamChange();
    expect(offers.current().offer).to.deep.include({ models: [], capacity: 0 });
    const anew = await create();
    expect(anew.current().offer).to.deep.include({ models: [], capacity: 0 });
    upstream.listModels = listModels;
    await upstreamChange();
    expect(anew.current().offer).to.deep.include({ models, capacity: 4 });
  });

  it("prefer the model whose digest the Registry names among upstreams that have others of its name", async () => {
    const other = new ScriptedUpstream([]);
    other.models = [{ ...TINY, digest: word(0x77), contextLength: 512 }];
    const third = new ScriptedUpstream([]);
    third.models = [{ ...TINY, contextLength: 1024, features: ["chat"] }];
    const entries = [other, upstream, third].map((one, index) => ({
      name: `${index}`,
      upstream: one,
      capacity: 3,
    }));
    const { offer } = (await create({}, entries)).current();
    expect(offer.models).to.have.length(1);
    expect(offer.models[0]).to.deep.include({
      digest: LISTED[0]!.digest,
      contextLength: 1024,
      features: ["chat"],
    });
    expect(offer.capacity).to.equal(6);
    listed = [{ ...LISTED[0]!, digest: word(0) }];
    expect((await create({}, entries)).current().offer).to.deep.include({ capacity: 3 });
    expect((await create({ capacity: 2 }, entries)).current().offer).to.deep.include({ capacity: 2 });
  });

  it("are kept as long as a job that was opened under them may live, across restarts, and then forgotten", async () => {
    const { offerHash } = (await create()).current();
    const longestLife = 30 * 24 * 3600;
    ledgers.store.close();
    ledgers = openLedgers(`${folder.path}/${store}`);
    ledgers.clock.now = OPENED_AT + 3600 + longestLife;
    const later = await create();
    expect(later.byHash(offerHash)?.offerHash).to.equal(offerHash);
    expect(later.byHash(word(0x99))).to.equal(undefined);
    ledgers.clock.now += 24 * 3600 + 1;
    await later.refresh();
    expect(later.byHash(offerHash)).to.equal(undefined);
  });
});
