import { expect } from "chai";
import type { Address } from "../../../protocol/bytes.ts";
import { InfernetError } from "../../../protocol/errors.ts";
import { chargeOf } from "../../../protocol/price.ts";
import type { ProviderConfig } from "../../../provider/config.ts";
import type { Bought, Buyer as MarketBuyer, RouteWish } from "../../../requester/routing/buyer.ts";
import type { BuyerOptions } from "../../../requester/start.ts";
import { failureOf } from "../../support/machine.ts";
import { type Step, TINY, words } from "../../support/scripted-upstream.ts";
import { NODE_PRICES, type RealNode, startRealNode } from "../real-node.ts";
import { type BodyFields, type Buyer, chatBody, startBuyer, startWorld, type World } from "../world.ts";

const ANSWER: Step[] = [...words(20), { usage: [12, 20] }];
const FAILURE: Step = { fail: new InfernetError("upstream-failed", "the model fell over") };
const CAN_GO_ON = [...TINY.features, "continue" as const];
const FIRST_PRICE = 500_000n;

type Shown = { choices?: { delta?: { content?: string; role?: string } }[]; id?: string; usage?: object };

describe("buying on the market", function () {
  this.timeout(60_000);
  let world: World;
  let wallet: Buyer;
  let buyer: MarketBuyer;
  let nodes: RealNode[];
  let payloads: string[];
  let routes: { node: Address; model: string }[];
  before(async () => {
    world = await startWorld();
  });
  after(() => world.stop());
  beforeEach(async () => {
    [nodes, payloads, routes] = [[], [], []];
    wallet = await startBuyer(world);
  });
  afterEach(async () => {
    await buyer.stop();
    await wallet.requester.stop();
    for (const node of nodes) {
      await retire(node);
      await node.stop().catch(() => {});
    }
  });

  /** The first is the cheapest, and so on. */
  const sell = async (...scripts: Step[][]) => {
    for (const script of scripts) await sellAt(nodes.length, script);
  };
  const sellAt = async (index: number, script: Step[], config: Partial<ProviderConfig> = {}) => {
    const outputPrice = FIRST_PRICE + BigInt(index) * 100_000n;
    const prices = { default: { ...NODE_PRICES, outputPrice }, byModel: {} };
    const node = await startRealNode(world, [script], { prices, ...config });
    nodes.push(node);
    node.upstream.models = [{ ...TINY, features: CAN_GO_ON }];
    await node.restart();
    return node;
  };
  const retire = async (node: RealNode) => void (await node.provider.stop());
  const open = (options: BuyerOptions = {}) => {
    buyer = wallet.requester.createBuyer({ random: () => 0.5, ...options });
  };
  const buy = (
    fields: BodyFields & Record<string, unknown> = {},
    wish: RouteWish = {},
    signal?: AbortSignal,
  ) =>
    buyer.buy({
      path: "/v1/chat/completions",
      body: chatBody({ max_tokens: 64, ...fields }),
      wish: { ...wish, omit: [...(wish.omit ?? [])] },
      signal,
      onRoute: (route) => routes.push(route),
      onPayload: (payload) => payloads.push(payload),
    });
  const shown = () =>
    payloads.filter((payload) => payload !== "[DONE]").map((payload) => JSON.parse(payload) as Shown);
  const text = () =>
    shown()
      .map(({ choices }) => choices?.[0]?.delta?.content ?? "")
      .join("");
  const outcomes = ({ attempts }: Bought) => attempts.map(({ node, outcome }) => [node, outcome]);
  const rowOf = (node: RealNode) => buyer.table().find((row) => row.node === node.address);

  it("asks the cheapest node, and measures it", async () => {
    await sell(ANSWER, ANSWER);
    open();
    const bought = await buy();
    expect(outcomes(bought)).to.deep.equal([[nodes[0]!.address, "served"]]);
    expect(bought).to.include({ promptTokens: 12, completionTokens: 20, text: words(20).join("") });
    expect(routes).to.deep.equal([{ node: nodes[0]!.address, model: "tiny" }]);
    expect(text()).to.equal(words(20).join(""));
    const row = rowOf(nodes[0]!)!;
    expect(row).to.include({ requests: 1, errorRate: 0, coolUntil: null, dropped: null });
    expect(row.firstTokenMs).to.be.greaterThan(0);
    expect(row.tokensPerSecond).to.be.greaterThan(0);
    const [sold] = await buyer.models();
    expect(sold).to.deep.include({ name: "tiny", contextLength: 2048, features: CAN_GO_ON });
    expect(sold!.nodes).to.have.members(nodes.map(({ address }) => address));
    expect(sold!.best.node).to.equal(nodes[0]!.address);
  });

  it("has another node answer when one fails before its first word, at no charge, and says why", async () => {
    await sell([FAILURE], ANSWER);
    open();
    const bought = await buy();
    expect(outcomes(bought)).to.deep.equal([
      [nodes[0]!.address, "upstream-failed"],
      [nodes[1]!.address, "served"],
    ]);
    expect(bought.attempts[0]!.charge).to.equal(0n);
    expect(bought.charge).to.equal(bought.attempts[1]!.charge);
    const row = rowOf(nodes[0]!)!;
    expect(row).to.include({ coolReason: "upstream-failed", requests: 1 });
    expect(row.lastErrors[0]).to.include({ code: "upstream-failed" });
    payloads = [];
    expect(outcomes(await buy()), "while it cools down").to.deep.equal([[nodes[1]!.address, "served"]]);
  });

  it("goes on with another node's same model where one fell over, seamlessly, and pays no token twice", async () => {
    const rest: Step[] = [...["w6 ", "w7 "], { usage: [12 + 6, 2] }];
    await sell([...words(6), FAILURE], rest);
    open();
    const bought = await buy({ stream_options: { include_usage: true } } as BodyFields);
    expect(outcomes(bought).map(([, outcome]) => outcome)).to.deep.equal(["upstream-failed", "served"]);
    expect(text()).to.equal(words(8).join(""));
    expect(bought.text).to.equal(words(8).join(""));
    expect(new Set(shown().map(({ id }) => id)).size, "one id").to.equal(1);
    expect(payloads.filter((payload) => payload === "[DONE]")).to.have.length(1);
    expect(payloads.at(-1)).to.equal("[DONE]");
    const [run] = nodes[1]!.upstream.runs;
    const messages = run!.body.messages as { role: string; content: string }[];
    expect(messages.at(-1)).to.deep.equal({ role: "assistant", content: words(6).join("") });
    expect(run!.body.max_tokens).to.equal(64 - 6);
    expect(bought).to.include({ promptTokens: 12, completionTokens: 8 });
    const usage = shown().findLast((payload) => payload.usage)!.usage;
    expect(usage).to.deep.include({ prompt_tokens: 12, completion_tokens: 8, total_tokens: 20 });
    const [first, second] = bought.attempts;
    const own = { ...NODE_PRICES, outputPrice: FIRST_PRICE + 100_000n };
    expect(second!.charge).to.equal(chargeOf([{ promptTokens: 18, completionTokens: 2 }], own));
    expect(bought.charge).to.equal(first!.charge + second!.charge);
    expect(first!.charge <= 6n + 12n, "what the first one released").to.equal(true);
  });

  it("ends an answer that cannot go on safely with its node's error, and says what it cost", async () => {
    await sell([...words(6), FAILURE], ANSWER);
    open();
    const failure = await failureOf(() => buy({ stop: "x" } as BodyFields));
    expect(failure.code).to.equal("upstream-failed");
    expect(BigInt(failure.data.charge!)).to.be.greaterThan(0n);
    expect(nodes[1]!.upstream.runs).to.have.length(0);
    nodes[1]!.upstream.models = [{ ...TINY, features: CAN_GO_ON, digest: `0x${"66".repeat(32)}` }];
  });

  it("leaves a node that is not there or has no room to others, and asks it last while it cools down", async () => {
    const gate = openGate();
    await sellAt(0, ANSWER);
    await sellAt(1, [gate, ...ANSWER], { capacity: 1 });
    await sellAt(2, ANSWER);
    open();
    await buyer.models();
    await retire(nodes[0]!);
    const held = buy();
    await gate.reached;
    expect(rowOf(nodes[0]!)).to.include({ coolReason: "node-unreachable" });
    expect(outcomes(await buy())).to.deep.equal([[nodes[2]!.address, "served"]]);
    gate.open();
    expect(outcomes(await held)).to.deep.equal([
      [nodes[0]!.address, "node-unreachable"],
      [nodes[1]!.address, "served"],
    ]);
  });

  it("gives up a node that keeps its first word back far longer than it usually does", async () => {
    const gate = openGate();
    await sell([gate, ...ANSWER], ANSWER);
    open({ limits: { leastFirstTokenMs: 150, mostFirstTokenMs: 300 } });
    const bought = await buy();
    gate.open();
    expect(outcomes(bought).map(([, outcome]) => outcome)).to.deep.equal(["upstream-timeout", "served"]);
    expect(text()).to.equal(words(20).join(""));
    expect(rowOf(nodes[0]!)!.lastErrors[0]!.message).to.match(/no first token within \d+ ms/);
    expect(bought.charge).to.equal(bought.attempts[0]!.charge + bought.attempts[1]!.charge);
  });

  it("waits for a slow node when nobody else can serve", async () => {
    const gate = openGate();
    await sell([gate, ...ANSWER]);
    open({ limits: { leastFirstTokenMs: 20, mostFirstTokenMs: 20 } });
    const buying = buy();
    setTimeout(gate.open, 200);
    expect(outcomes(await buying)).to.deep.equal([[nodes[0]!.address, "served"]]);
  });

  it("stays within the limit of one request over all its attempts", async () => {
    await sell([...words(6), FAILURE]);
    await sellAt(1, [...words(40), { usage: [18, 40] }], { receiptTimeoutSeconds: 1 });
    open();
    const failure = await failureOf(() => buy({ max_tokens: 200 }, { maxCharge: 20n }));
    expect(failure.code).to.equal("over-budget");
    expect(BigInt(failure.data.charge!) <= 20n).to.equal(true);
  });

  it("asks no other node for what no other node can mend", async () => {
    await sell(ANSWER, ANSWER);
    open();
    expect((await failureOf(() => buy({ max_tokens: 300 }))).code).to.equal("bad-request");
    expect((await failureOf(() => buy({ tools: [{ type: "function" }] } as BodyFields))).code).to.equal(
      "unsupported",
    );
    expect((await failureOf(() => buy({}, { maxCharge: 1n }))).code).to.equal("over-budget");
    const gone = AbortSignal.abort(new InfernetError("interrupted", "the client left"));
    expect((await failureOf(() => buy({}, {}, gone))).code).to.equal("interrupted");
    for (const node of nodes) expect(node.upstream.runs).to.have.length(0);
    expect(buyer.table()).to.deep.equal([]);
  });

  it("sends another name's request under the model's own, and nothing else changed", async () => {
    await sell(ANSWER);
    open({ aliases: new Map([["gpt-4o", "tiny"]]) });
    const body = '{"seed":7,"model":"gpt-4o","messages":[{"role":"user","content":"Hi"}],"max_tokens":32}';
    const bought = await buyer.buy({
      path: "/v1/chat/completions",
      body: Buffer.from(body),
      onPayload: (payload) => payloads.push(payload),
    });
    expect(bought.model).to.equal("tiny");
    expect(nodes[0]!.upstream.runs[0]!.body.model).to.equal("tiny");
    expect(JSON.parse(payloads[0]!).choices[0].message.content).to.equal(words(20).join(""));
  });

  it("gives the client the answer of a node that inflates its counts, asks it no more, and again once it is forgiven", async () => {
    await sellAt(0, [...words(20), { usage: [12, 40] }], { receiptTimeoutSeconds: 1 });
    await sellAt(1, ANSWER);
    const countWords = async (text: string) => text.split(" ").length;
    open({ counters: new Map([["tiny", countWords]]) });
    const isClosed = new Promise<void>((resolve) => {
      wallet.requester.sessions.subscribe(({ type }) => type === "closed" && resolve());
    });
    const { jobId, text: told } = await buy();
    expect(told).to.equal(words(20).join(""));
    await isClosed;
    const reason = "the delivery counts 40 completion tokens where the model's vocabulary counts 21";
    expect(wallet.requester.dropped()).to.deep.equal([{ node: nodes[0]!.address, reason }]);
    expect(JSON.parse((await wallet.requester.status(jobId)).evidence!)).to.include({ told: 40, most: 32 });
    expect(outcomes(await buy())).to.deep.equal([[nodes[1]!.address, "served"]]);
    expect(rowOf(nodes[0]!)!.dropped).to.equal(reason);
    const failure = await failureOf(() => buy({}, { omit: [nodes[1]!.address] }));
    expect(failure.code).to.equal("no-node");
    expect(failure.message).to.contain(reason);
    expect(wallet.requester.forgive(nodes[0]!.address)).to.equal(true);
    expect(wallet.requester.forgive(nodes[0]!.address), "once").to.equal(false);
    expect(outcomes(await buy())).to.deep.equal([[nodes[0]!.address, "served"]]);
  });
});

/** A step that tells when it is reached, and is passed once it is opened. */
function openGate() {
  const reached = Promise.withResolvers<void>();
  const opened = Promise.withResolvers<void>();
  return {
    get until() {
      reached.resolve();
      return opened.promise;
    },
    reached: reached.promise,
    open: opened.resolve,
  };
}
