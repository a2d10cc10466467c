import { expect } from "chai";
import type { NodeListing } from "../../../chain/chain.ts";
import { type Address, ZERO_WORD } from "../../../protocol/bytes.ts";
import type { Offer } from "../../../protocol/offer.ts";
import { readModelRequest } from "../../../requester/model-request.ts";
import type { Seller } from "../../../requester/offer-check.ts";
import type { RouteWish } from "../../../requester/routing/buyer.ts";
import { findCandidates } from "../../../requester/routing/candidates.ts";
import type { Measure } from "../../../requester/routing/measures.ts";
import { isWantedModel, readWantedModel } from "../../../requester/routing/model-names.ts";
import { exampleOffer } from "../../support/examples.ts";
import { failureOf } from "../../support/machine.ts";
import { account, word } from "../examples.ts";

const [A, B, C] = [account(1), account(2), account(3)];
type Terms = {
  price?: bigint;
  name?: string;
  digest?: `0x${string}`;
  features?: string[];
  capacity?: number;
};

function seller(node: Address, terms: Terms = {}): Seller {
  const { price = 1_000_000n, name = "m", digest = word(5), features = ["chat"], capacity = 2 } = terms;
  const prices = { inputPrice: price, outputPrice: price };
  const models: Offer["models"] = [{ name, digest, ...prices, contextLength: 4096, features }];
  const offer = exampleOffer({ node, models, capacity, maxCompletionTokens: 256 });
  const listing: NodeListing = { node, payee: node, endpoint: "https://node.example", active: true, models };
  return {
    listing,
    latencyMs: 10,
    signedOffer: { offer, bytes: new Uint8Array(), offerHash: word(1), signature: "0x" },
  };
}

type Scene = {
  sellers: Seller[];
  model?: string;
  wish?: RouteWish;
  measures?: Record<Address, Partial<Measure>>;
  busy?: Record<Address, number>;
  dropped?: Address;
  tried?: Address[];
  digest?: `0x${string}`;
  chance?: number[];
  body?: object;
  maxCharge?: bigint;
};

function find(scene: Scene): Address[] {
  const { sellers, model = "m", wish = {}, measures = {}, busy = {}, chance = [] } = scene;
  const body = {
    model: "m",
    stream: true,
    max_tokens: 100,
    messages: [{ role: "user", content: "Hi" }],
    ...scene.body,
  };
  const request = readModelRequest("/v1/chat/completions", Buffer.from(JSON.stringify(body)));
  const none = { requests: 0, firstTokenMs: null, tokensPerSecond: null, errorRate: 0, lastErrors: [] };
  return findCandidates(
    { sellers, absent: [] },
    {
      ...{
        request,
        wanted: readWantedModel(
          model,
          new Map([
            ["mine", "m"],
            ["quick", "auto:fast"],
          ]),
        ),
        wish,
      },
      ...{ maxCharge: scene.maxCharge ?? 1_000_000n, tried: new Set(scene.tried), digest: scene.digest },
    },
    {
      verdictOn: (node) => (node === scene.dropped ? "it lied" : undefined),
      measureOf: (node, name) => ({
        ...none,
        coolUntil: null,
        coolReason: null,
        node,
        model: name,
        ...measures[node],
      }),
      inFlight: (node) => busy[node] ?? 0,
      random: () => chance.shift() ?? 0.99,
    },
  ).map(({ choice }) => choice.node);
}

const measured = (firstTokenMs: number, tokensPerSecond: number) => ({ firstTokenMs, tokensPerSecond });

describe("who is asked for a request", () => {
  const three = [
    seller(A, { price: 3_000_000n }),
    seller(B, { price: 1_000_000n }),
    seller(C, { price: 2_000_000n }),
  ];

  it("is the cheapest first, then the quickest to begin", () => {
    expect(find({ sellers: three })).to.deep.equal([B, C, A]);
    const measures = { [A]: measured(90, 10), [B]: measured(50, 10), [C]: measured(70, 10) };
    expect(find({ sellers: [seller(A), seller(B), seller(C)], measures })).to.deep.equal([B, C, A]);
  });

  it("counts what fails as asked for again: a dearer node that works comes before a cheap one that does not", () => {
    expect(find({ sellers: three, measures: { [B]: { errorRate: 0.6 } } })).to.deep.equal([C, B, A]);
  });

  it("puts the preferred ones first, leaves the omitted, tried and dropped ones out, and holds the ceiling", () => {
    expect(find({ sellers: three, wish: { prefer: [A, C] } })).to.deep.equal([A, C, B]);
    expect(find({ sellers: three, wish: { omit: [B] } })).to.deep.equal([C, A]);
    expect(find({ sellers: three, tried: [C] })).to.deep.equal([B, A]);
    expect(find({ sellers: three, dropped: B })).to.deep.equal([C, A]);
    const priceCeiling = { inputPrice: 2_000_000n, outputPrice: 2_000_000n };
    expect(find({ sellers: three, wish: { priceCeiling } })).to.deep.equal([B, C]);
  });

  it("puts those that are full behind those with room, and those that cool down last, even when preferred", () => {
    const measures = { [B]: { coolUntil: 9, coolReason: "node-unreachable" } };
    expect(find({ sellers: three, measures, wish: { prefer: [B] } })).to.deep.equal([C, A, B]);
    expect(find({ sellers: three, busy: { [B]: 2 } })).to.deep.equal([C, A, B]);
    expect(
      find({ sellers: [seller(B, { capacity: 1 }), seller(A, { price: 2_000_000n })], busy: { [B]: 1 } }),
    ).to.deep.equal([A, B]);
  });

  it("knows aliases, Ollama's tag, and every model where any will do", async () => {
    const named = [
      seller(A, { name: "m:latest" }),
      seller(B, { name: "other", price: 5n }),
      seller(C, { name: "m:1b" }),
    ];
    expect(find({ sellers: named })).to.deep.equal([A]);
    expect(find({ sellers: named, model: "m:latest" })).to.deep.equal([A]);
    expect(find({ sellers: named, model: "mine" })).to.deep.equal([A]);
    expect(find({ sellers: named, model: "auto:cheap" })[0]).to.equal(B);
    expect(isWantedModel("m", { kind: "named", name: "m:latest" })).to.equal(true);
    expect((await failureOf(() => find({ sellers: named, model: "auto:good" }))).code).to.equal(
      "bad-request",
    );
  });

  it("is the fastest by what was measured, and now and then one that never was", () => {
    const measures = { [A]: measured(100, 50), [B]: measured(2_000, 50) };
    const scene = { sellers: three, measures, model: "auto:fast" };
    expect(find(scene)).to.deep.equal([A, B, C]);
    expect(find({ ...scene, model: "quick" })[0], "an alias of it").to.equal(A);
    expect(find({ ...scene, chance: [0.1] })).to.deep.equal([A, B, C]);
    expect(find({ ...scene, chance: [0.0999, 0.5] })).to.deep.equal([C, A, B]);
    expect(find({ ...scene, chance: [0], measures: { ...measures, [C]: measured(1, 1) } })[0]).to.equal(A);
    expect(find({ ...scene, measures: {} })[0], "nothing measured: the cheapest").to.equal(B);
  });

  it("goes on only with the same known weights, and with what can go on", async () => {
    const sellers = [
      seller(A, { digest: word(6) }),
      seller(B),
      seller(C, { features: ["chat", "continue"] }),
    ];
    expect(find({ sellers, digest: word(5) })).to.deep.equal([B, C]);
    const messages = [
      { role: "user", content: "Hi" },
      { role: "assistant", content: "He" },
    ];
    expect(find({ sellers, digest: word(5), body: { messages } })).to.deep.equal([C]);
    const unknown = [seller(A, { digest: ZERO_WORD })];
    const failure = await failureOf(() => find({ sellers: unknown, digest: ZERO_WORD }));
    expect(failure.code).to.equal("model-not-offered");
  });

  it("says why nobody can: each node's reason, or the models there are", async () => {
    const failure = await failureOf(() =>
      find({ sellers: three, dropped: B, wish: { omit: [A] }, maxCharge: 1n }),
    );
    for (const part of [A, B, C, "left out", "it lied", "needs"]) expect(failure.message).to.contain(part);
    expect((await failureOf(() => find({ sellers: three, maxCharge: 1n }))).code).to.equal("over-budget");
    expect(
      (await failureOf(() => find({ sellers: three, body: { response_format: { type: "json_object" } } })))
        .code,
    ).to.equal("unsupported");
    const none = await failureOf(() => find({ sellers: three, model: "x" }));
    expect([none.code, none.hint]).to.deep.equal(["no-node", "Models listed: m."]);
  });
});
