import { expect } from "chai";
import { InfernetError } from "../../../protocol/errors.ts";
import { chargeOf } from "../../../protocol/price.ts";
import { openLedger, type RequesterLedger } from "../../../requester/ledger.ts";
import { failureOf } from "../../support/machine.ts";
import { CHUNK_TOKENS, honest, type LyingNode, PRICES, startLyingNode } from "../lying-node.ts";
import { type Buyer, chatBody, startBuyer, startWorld, type World } from "../world.ts";
import { type Asking, ask as askNode } from "./asking.ts";

describe("a request of a session", function () {
  this.timeout(60_000);
  let world: World;
  let node: LyingNode;
  let buyer: Buyer;
  let ledger: RequesterLedger;
  before(async () => {
    world = await startWorld();
  });
  after(() => world.stop());
  beforeEach(async () => {
    node = await startLyingNode(world);
    buyer = await startBuyer(world);
    ledger = openLedger(buyer.store);
  });
  afterEach(async () => {
    await buyer.requester.stop();
    await node.stop();
  });

  const ask = (asking: Asking = {}, from: Pick<Buyer, "requester"> = buyer) =>
    askNode(world, from, node.signer.address, asking);
  const cost = (promptTokens: number, completionTokens: number) =>
    chargeOf([{ promptTokens, completionTokens }], PRICES);
  const session = () => ledger.unfinishedSessions()[0]!;
  /** Resolves once the ledger knows what became of a key's request. */
  const stateOf = async (key: string, wanted: string) => {
    while (ledger.requests.findByKey(key)?.state !== wanted && wanted !== "refused")
      await new Promise((resolve) => setTimeout(resolve, 20));
  };

  it("S-ask-1: is kept with its key before it leaves", async () => {
    let kept: string | undefined;
    node.script = (line) => {
      kept = ledger.requests.findByKey("first")?.state;
      return honest(20)(line);
    };
    const bill = await ask({ idempotencyKey: "first" });
    expect(kept).to.equal("running");
    expect(ledger.requests.findByKey("first")).to.deep.include({ state: "ended", cost: bill.costMillionths });
  });

  it("S-ask-2: is refused under a key that names other bytes", async () => {
    await ask({ idempotencyKey: "one" });
    const seen = node.seen.requests;
    expect((await failureOf(() => ask({ idempotencyKey: "one" }))).code).to.equal("request-mismatch");
    expect((await failureOf(() => ask({ idempotencyKey: "no spaces" }))).code).to.equal("bad-request");
    expect(node.seen.requests).to.equal(seen);
  });

  it("S-ask-3: is not sent twice while it runs", async () => {
    const body = chatBody({ max_tokens: 64 });
    const going = Promise.withResolvers<void>();
    node.script = async (line) => {
      await going.promise;
      return honest(20)(line);
    };
    const running = ask({ body, idempotencyKey: "twice" });
    await stateOf("twice", "running");
    expect((await failureOf(() => ask({ body, idempotencyKey: "twice" }))).code).to.equal(
      "request-in-progress",
    );
    going.resolve();
    await running;
    expect(node.seen.requests).to.equal(1);
  });

  it("S-ask-4: is replayed at no new charge once it has ended", async () => {
    const body = chatBody({ max_tokens: 64 });
    const first = await ask({ body, idempotencyKey: "again" });
    const payloads: string[] = [];
    const again = await ask({
      ...{ body, idempotencyKey: "again" },
      onEvent: (event) => event.type === "payload" && payloads.push(event.payload),
    });
    expect(again.text).to.equal(first.text);
    expect(again).to.include({ jobId: first.jobId, charge: first.charge });
    expect(payloads.at(-1)).to.equal("[DONE]");
    expect(node.seen.requests).to.equal(1);
    expect(session().settled).to.equal(first.costMillionths);
  });

  it("S-ask-5: goes on under its job after a restart of the process, and is charged once", async () => {
    const body = chatBody({ max_tokens: 64 });
    node.script = async (line) => {
      await honest(10)({ ...line, finish: () => {}, deliver: () => {} });
      return line.gone;
    };
    const crashed = failureOf(() => ask({ body, idempotencyKey: "cut" }));
    await stateOf("cut", "running");
    while (session().signed < cost(5, 10)) await new Promise((resolve) => setTimeout(resolve, 20));
    node.script = honest(20);
    const requester = await buyer.restart();
    const bill = await ask({ body, idempotencyKey: "cut" }, { requester });
    expect(bill.text).to.match(/^word1 .* word20 $/);
    expect(bill.charge).to.equal(cost(5, 20));
    expect(session().settled).to.equal(bill.costMillionths);
    await Promise.all([requester.stop(), buyer.requester.stop(), crashed]);
  });

  it("S-ask-6: reserves nothing any more when its node refuses it before a token", async () => {
    node.refusals = [new InfernetError("upstream-unreachable", "no model")];
    const failure = await failureOf(() => ask({ idempotencyKey: "no" }));
    expect(failure.code).to.equal("upstream-unreachable");
    expect(failure.data.charge).to.equal(undefined);
    expect(session()).to.include({ settled: 0n, lost: 0n });
    expect(ledger.requests.findByKey("no")).to.equal(undefined);
    const { signed } = session();
    await ask();
    // What was signed for the one pays for the other.
    expect(signed < session().signed && session().signed <= cost(60, 20 + 2 * CHUNK_TOKENS)).to.equal(true);
  });

  it("S-ask-7: is signed for up to two chunks when its receipt is refused as too small", async () => {
    const need = cost(6, 2 * CHUNK_TOKENS);
    node.refusals = [new InfernetError("receipt-too-small", "small", { data: { need: need.toString() } })];
    await ask();
    expect(node.seen.receipts[0]).to.equal(need);
    const greedy = (1n << 80n).toString();
    node.refusals = Array.from({ length: 9 }, () => {
      return new InfernetError("receipt-too-small", "small", { data: { need: greedy } });
    });
    const before = session();
    expect((await failureOf(() => ask())).code).to.equal("receipt-too-small");
    const most = chargeOf([{ promptTokens: 80, completionTokens: 2 * CHUNK_TOKENS }], PRICES);
    expect(session().signed <= before.signed + most).to.equal(true);
  });

  it("S-ask-8: goes on after a broken line where it stopped, at no new charge", async () => {
    node.script = async (line) => {
      if (line.attempt > 2) return honest(20)(line);
      for (let piece = 0; piece < 3; piece += 1) line.say(`word${line.lastEventId + piece + 1} `);
      line.cut();
    };
    const bill = await ask();
    expect(bill.text).to.match(/^word1 word2 .* word20 $/);
    expect(bill.charge).to.equal(cost(5, 20));
    expect(node.seen.requests).to.equal(3);
  });

  it("S-ask-9: is signed for to its end at its start when it is unstreamed", async () => {
    const bill = await ask({ fields: { stream: false, max_tokens: 30 } });
    expect(bill).to.include({ text: "word ".repeat(10), charge: cost(5, 10), finishReason: "stop" });
    expect(JSON.parse(bill.payload!).choices[0].finish_reason).to.equal("stop");
    expect(node.seen.receipts).to.have.length(1);
    expect(session().signed >= cost(5, 30)).to.equal(true);
  });

  it("S-ask-10, S-ask-11: keeps what was signed reserved when its caller goes away, until its node shows its delivery", async () => {
    const stop = new AbortController();
    const told = Promise.withResolvers<void>();
    node.script = async (line) => {
      line.say("one ");
      await line.gone;
      await told.promise;
      line.deliver({ estimated: true });
    };
    const onEvent = ({ type }: { type: string }) => type === "text" && stop.abort();
    const failure = await failureOf(() => ask({ idempotencyKey: "gone", signal: stop.signal, onEvent }));
    expect(failure.code).to.equal("interrupted");
    const { allowed, state } = ledger.requests.findByKey("gone")!;
    expect(state).to.equal("lost");
    expect(allowed >= 5n * PRICES.inputPrice + BigInt(CHUNK_TOKENS) * PRICES.outputPrice).to.equal(true);
    expect(session()).to.include({ lost: allowed, settled: 0n });
    told.resolve();
    await stateOf("gone", "ended");
    expect(session()).to.include({ lost: 0n, settled: 5n * PRICES.inputPrice + PRICES.outputPrice });
  });

  it("S-ask-12: is free again when its node never ran it", async () => {
    node.refusals = [new InfernetError("interrupted", "the node is stopping")];
    await failureOf(() => ask({ idempotencyKey: "never" }));
    expect(ledger.requests.findByKey("never")!.state).to.equal("lost");
    while (session().lost > 0n) await new Promise((resolve) => setTimeout(resolve, 50));
    expect(session()).to.include({ lost: 0n, settled: 0n });
    expect(ledger.requests.findByKey("never")).to.equal(undefined);
  });

  it("S-ask-13: ends its session, with its other requests, for a false delivery; the evidence is kept", async () => {
    const lies = [
      [{ jobCharge: 10_000n }, {}, "more than"],
      [{ completionTokens: 5_000 }, {}, "completion tokens"],
      [{ cost: 1n }, {}, "cost"],
      [{}, { promptTokens: 6 }, "not signed"],
    ] as const;
    for (const [changes, forged, message] of lies) {
      const liar = await startLyingNode(world);
      const started = Promise.withResolvers<void>();
      liar.script = async (line) => {
        line.say("a word ");
        if (liar.seen.requests === 1) {
          started.resolve();
          return line.gone;
        }
        line.finish();
        line.deliver(changes, forged);
      };
      const beside = failureOf(() => askNode(world, buyer, liar.signer.address));
      await started.promise;
      const failure = await failureOf(() => askNode(world, buyer, liar.signer.address));
      expect(failure.code, message).to.equal("node-misbehaved");
      expect(failure.message).to.contain(message);
      expect((await beside).code).to.equal("node-misbehaved");
      const job = ledger.findJob(String(failure.data.jobId) as `0x${string}`)!;
      expect(job.evidence).to.contain(message);
      await buyer.requester.sessions.close();
      expect(ledger.findJob(job.jobId)!.phase).to.be.oneOf(["ended", "closed"]);
      await liar.stop();
    }
  });
});
