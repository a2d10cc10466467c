import { expect } from "chai";
import { createSender } from "../../chain/sender.ts";
import type { Address } from "../../protocol/bytes.ts";
import type { Offer } from "../../protocol/offer.ts";
import { chooseNode } from "../../requester/choose.ts";
import { readModelRequest } from "../../requester/model-request.ts";
import { systemClock } from "../../runtime/clock.ts";
import { createSigner, generatePrivateKey } from "../../runtime/signers/secp256k1.ts";
import { failureOf } from "../support/machine.ts";
import { account, word } from "./examples.ts";
import { type LyingNode, MODEL_DIGEST, PRICES, startLyingNode } from "./lying-node.ts";
import { chatBody, fundedSigner, MODEL, startWorld, type World } from "./world.ts";

describe("choosing a node", function () {
  this.timeout(30_000);
  let world: World;
  let node: LyingNode;
  before(async () => {
    world = await startWorld();
    node = await startLyingNode(world);
  });
  after(async () => {
    await node.stop();
    await world.stop();
  });
  afterEach(() => {
    node.offerChanges = {};
    node.offerSigner = node.signer;
  });

  const choose = (wish: { node?: Address; body?: Uint8Array; maxCharge?: bigint } = {}) =>
    chooseNode(
      { chain: world.chain, clock: systemClock },
      {
        request: readModelRequest("/v1/chat/completions", wish.body ?? chatBody({ max_tokens: 64 })),
        maxCharge: wish.maxCharge ?? 1_000_000n,
        node: wish.node,
      },
    );

  it("takes a registered node with a true offer over HTTPS, with its key and prices", async () => {
    const choice = await choose();
    expect(choice).to.include({ node: node.signer.address, endpoint: node.endpoint });
    expect(choice.signedOffer.offer.tlsKeyHash).to.equal(node.certificate.keyHash);
    expect(choice.model).to.deep.include({ name: MODEL, digest: MODEL_DIGEST, ...PRICES });
  });

  const now = Math.floor(Date.now() / 1000);
  const forgeries: [string, Partial<Offer>, string, string][] = [
    ["names another node", { node: account(9) }, "offer-invalid", "names another node"],
    ["is for another chain", { chainId: 1 }, "offer-invalid", "is for chain 1"],
    ["names another Registry", { registry: account(9) }, "offer-invalid", "another registry"],
    ["names another Escrow", { escrow: account(9) }, "offer-invalid", "another escrow"],
    ["names another token", { usdc: account(9) }, "offer-invalid", "another usdc"],
    ["names another payee than the Registry", { payee: account(9) }, "offer-invalid", "another payee"],
    ["is not valid yet", { issuedAt: now + 3_000 }, "offer-invalid", "not valid yet"],
    ["has expired", { issuedAt: now - 500, expires: now - 1 }, "offer-invalid", "expired"],
    ["is about to expire", { expires: now + 20 }, "offer-invalid", "expired"],
    ["names another TLS key", { tlsKeyHash: word(9) }, "node-key-mismatch", "another TLS key"],
    ["names no TLS key", { tlsKeyHash: null }, "node-key-mismatch", "another TLS key"],
    ["lacks the model", { models: [modelOf({ name: "other" })] }, "model-not-offered", "does not offer"],
    ["is dearer than listed", { models: [modelOf({ outputPrice: 1_000_001n })] }, "offer-invalid", "dearer"],
    ["has too small a context", { models: [modelOf({ contextLength: 2 })] }, "bad-request", "context of 2"],
    [
      "does not do what is asked",
      { models: [modelOf({ features: ["tools"] })] },
      "unsupported",
      "not do: chat",
    ],
    ["gives fewer tokens", { maxCompletionTokens: 10 }, "bad-request", "at most 10 tokens"],
  ];
  for (const [what, changes, code, message] of forgeries) {
    it(`refuses an offer that ${what}`, async () => {
      node.offerChanges = changes;
      const failure = await failureOf(() => choose());
      expect(failure.code).to.equal(code);
      expect(failure.message).to.contain(message).and.to.contain(node.signer.address);
    });
  }

  it("refuses an offer that another key signed", async () => {
    node.offerSigner = createSigner(generatePrivateKey());
    expect((await failureOf(() => choose())).message).to.contain("not signed by the node");
  });

  it("refuses a node whose first step costs more than the limit", async () => {
    const failure = await failureOf(() => choose({ maxCharge: 2n }));
    expect(failure.code).to.equal("over-budget");
  });

  it("says which models there are when no active node lists the wanted one", async () => {
    const body = Buffer.from(JSON.stringify({ model: "absent", messages: [] }));
    const failure = await failureOf(() => choose({ body }));
    expect(failure.code).to.equal("no-node");
    expect(failure.hint).to.contain(MODEL);
  });

  it("says that a named node is not registered", async () => {
    expect((await failureOf(() => choose({ node: account(9) }))).code).to.equal("no-node");
  });

  it("takes the cheapest of several nodes, and names every one when none will do", async () => {
    const cheap = await startLyingNode(world);
    cheap.offerChanges = { models: [modelOf({ outputPrice: 500_000n })] };
    const stranger = await fundedSigner(world);
    const { calls } = world.chain;
    const listed = [{ name: MODEL, digest: MODEL_DIGEST, ...PRICES }];
    await createSender(world.chain, stranger).send(
      calls.register(account(8), "http://203.0.113.7:80", listed),
    );
    try {
      expect((await choose()).node).to.equal(cheap.signer.address);
      expect((await choose({ node: node.signer.address })).node).to.equal(node.signer.address);
      cheap.offerChanges = { payee: account(9) };
      node.offerChanges = { tlsKeyHash: word(9) };
      const failure = await failureOf(() => choose());
      expect(failure.code).to.equal("no-node");
      for (const part of [node.signer.address, cheap.signer.address, "another payee", "TLS key", "not https"])
        expect(failure.message).to.contain(part);
    } finally {
      await cheap.stop();
    }
    node.offerChanges = {};
    expect((await choose()).node, "while the cheap one is down").to.equal(node.signer.address);
  });
});

function modelOf(changes: Partial<Offer["models"][number]>): Offer["models"][number] {
  return {
    name: MODEL,
    digest: MODEL_DIGEST,
    ...PRICES,
    contextLength: 4096,
    features: ["chat"],
    ...changes,
  };
}
