import { expect } from "chai";
import type { Delivery, SignedDelivery } from "../../protocol/delivery.ts";
import { InfernetError } from "../../protocol/errors.ts";
import { chargeOf } from "../../protocol/price.ts";
import type { SubmitInput } from "../../requester/submission.ts";
import { failureOf } from "../support/machine.ts";
import { word } from "./examples.ts";
import { CHUNK_TOKENS, honest, type LyingNode, PRICES, startLyingNode } from "./lying-node.ts";
import { type Buyer, chatBody, startBuyer, startWorld, type World } from "./world.ts";

const SETTLED_WITHIN_MS = 10_000;

describe("a paid request", function () {
  this.timeout(30_000);
  let world: World;
  let node: LyingNode;
  before(async () => {
    world = await startWorld();
  });
  after(() => world.stop());
  beforeEach(async () => {
    node = await startLyingNode(world);
  });
  afterEach(() => node.stop());

  const submit = ({ requester }: Buyer, input: Partial<SubmitInput> = {}) =>
    requester.submit({
      path: "/v1/chat/completions",
      body: chatBody({ max_tokens: 64 }),
      node: node.signer.address,
      settlementTimeoutMs: SETTLED_WITHIN_MS,
      ...input,
    });
  const cost = (promptTokens: number, completionTokens: number) =>
    chargeOf([{ promptTokens, completionTokens }], PRICES);

  describe("of an honest node", () => {
    it("opens a job straight from the wallet, reads the answer, and gets the rest back as credit", async () => {
      const buyer = await startBuyer(world);
      const bill = await submit(buyer);
      expect(bill.text).to.match(/^word1 .* word20 $/);
      expect(bill).to.deep.include({ promptTokens: 5, completionTokens: 20, charge: 21n, estimated: false });
      expect(bill.settled).to.deep.equal({ charge: 21n, returned: bill.deposit - 21n });
      expect(await world.chain.getCredit(buyer.wallet.address)).to.equal(bill.deposit - 21n);
      const kinds = buyer.events.map(({ type }) => type).filter((type) => !/text|payload|receipt/.test(type));
      expect(kinds).to.deep.equal(["chosen", "opening", "opened", "delivered", "settled"]);
      expect(buyer.requester.listJobs()[0]).to.include({ phase: "closed", charge: 21n, evidence: null });
    });

    it("opens from the credit when it suffices, and from the wallet when another job takes the credit", async () => {
      const buyer = await startBuyer(world);
      await submit(buyer);
      await submit(buyer, { maxCharge: 900n });
      const usdc = await world.chain.getUsdc(buyer.wallet.address);
      const { deposit } = await submit(buyer);
      expect(await world.chain.getUsdc(buyer.wallet.address)).to.equal(usdc);
      await Promise.all([submit(buyer), submit(buyer), submit(buyer)]);
      expect(await world.chain.getUsdc(buyer.wallet.address)).to.equal(usdc - 2n * deposit);
    });

    it("signs one chunk ahead for a node without history, two for one that has delivered", async () => {
      const buyer = await startBuyer(world);
      await submit(buyer);
      await submit(buyer);
      const firsts = buyer.events.filter(({ type }, index) => {
        return type === "receipt" && buyer.events[index - 1]!.type === "opened";
      });
      const promptTokens = 7; // "Say something (nn)" is 18 or 19 bytes of text: at most 5 tokens, and some room.
      const [first, second] = firsts.map((event) => (event as { amount: bigint }).amount);
      expect(first! <= cost(promptTokens, CHUNK_TOKENS)).to.equal(true);
      expect(second! > cost(promptTokens, CHUNK_TOKENS)).to.equal(true);
      expect(second! <= cost(promptTokens, 2 * CHUNK_TOKENS)).to.equal(true);
    });

    it("reads an unstreamed answer whole, signing all that it may cost at its start", async () => {
      const buyer = await startBuyer(world);
      const bill = await submit(buyer, { body: chatBody({ stream: false, max_tokens: 30 }) });
      expect(bill.text).to.equal("word ".repeat(10));
      expect(bill).to.include({ finishReason: "stop", charge: cost(5, 10) });
      expect(node.seen.receipts).to.have.length(1);
      expect(bill.signed >= cost(5, 30)).to.equal(true);
    });

    it("raises its first receipt when the node wants two chunks before it starts", async () => {
      const need = cost(6, 2 * CHUNK_TOKENS);
      node.refusals = [new InfernetError("receipt-too-small", "small", { data: { need: need.toString() } })];
      const buyer = await startBuyer(world);
      await submit(buyer);
      expect(node.seen.receipts[0]).to.equal(need);
    });

    it("waits while the node does not know the job yet or is busy", async () => {
      node.refusals = (["job-not-found", "job-unconfirmed", "node-busy"] as const).map(
        (code) => new InfernetError(code, "not yet"),
      );
      expect((await submit(await startBuyer(world))).charge).to.equal(21n);
      expect(node.seen.requests).to.equal(4);
    });

    it("goes on after a broken line where it stopped, under the same job and at no new charge", async () => {
      const whole = honest(20);
      node.script = async (line) => {
        if (line.attempt > 2) return whole(line);
        for (let piece = 0; piece < 3; piece += 1) line.say(`word${line.lastEventId + piece + 1} `);
        line.cut();
      };
      const bill = await submit(await startBuyer(world));
      expect(bill.text).to.match(/^word1 word2 .* word20 $/);
      expect(bill.charge).to.equal(21n);
      expect(node.seen.requests).to.equal(3);
    });

    it("charges what was released when the model fails midway, and says so", async () => {
      node.script = (line) => {
        for (const text of ["one ", "two "]) line.say(text);
        const problem = { code: "upstream-failed", detail: "the model stopped" };
        line.send({ event: "infernet", data: JSON.stringify({ type: "error", problem }) });
        line.deliver({ estimated: true });
      };
      const buyer = await startBuyer(world);
      const failure = await failureOf(() => submit(buyer));
      expect(failure.code).to.equal("upstream-failed");
      expect(failure.data).to.include({ charge: String(cost(5, 2)) });
    });

    it("takes an answer that ends in the middle, without a word why, for no whole answer", async () => {
      const buyer = await startBuyer(world);
      node.script = (line) => {
        line.say("half a ");
        line.deliver({ estimated: true });
      };
      const failure = await failureOf(() => submit(buyer));
      expect(failure).to.deep.include({ code: "upstream-failed" });
      expect(failure.data).to.include({ charge: cost(5, 1).toString() });
    });

    it("signs nothing beyond its first receipt when the request fails before a token, and the deposit returns", async () => {
      node.refusals = [new InfernetError("upstream-unreachable", "no model")];
      node.script = honest(0);
      const buyer = await startBuyer(world);
      node.refusals.unshift(new InfernetError("node-busy", "busy"));
      const failure = await failureOf(() => submit(buyer));
      expect(failure.code).to.equal("upstream-unreachable");
      const [job] = buyer.requester.listJobs();
      expect(job!.signed <= cost(7, CHUNK_TOKENS)).to.equal(true);
      expect(node.seen.closes).to.equal(1);
    });

    it("stops at the highest charge that was allowed, and pays for what came until then", async () => {
      node.script = async (line) => {
        const problem = { code: "receipt-timeout", detail: "no receipt came" };
        for (let token = 1; token <= 40; token += 1) {
          if (token % CHUNK_TOKENS === 0) line.need(cost(5, token + 2 * CHUNK_TOKENS));
          if (cost(5, token) > 20n) break;
          await line.held(cost(5, token));
          line.say(`word${token} `);
        }
        line.send({ event: "infernet", data: JSON.stringify({ type: "error", problem }) });
        line.deliver();
      };
      const buyer = await startBuyer(world);
      const failure = await failureOf(() => submit(buyer, { maxCharge: 20n }));
      expect(failure.code).to.equal("over-budget");
      expect(failure.data.charge).to.equal("20");
      expect(buyer.requester.listJobs()[0]!.signed).to.equal(20n);
    });

    it("refuses before it opens anything when money or budget are missing", async () => {
      const poor = await startBuyer(world, { usdc: 10n });
      expect((await failureOf(() => submit(poor))).code).to.equal("insufficient-funds");
      expect(poor.requester.listJobs()[0]!.phase).to.equal("dropped");
      const frugal = await startBuyer(world, { budget: { perDay: 0n } });
      expect((await failureOf(() => submit(frugal))).code).to.equal("over-budget");
      expect(node.seen.requests).to.equal(0);
    });

    it("refuses a deadline that no job may have before it opens anything", async () => {
      const buyer = await startBuyer(world);
      for (const deadlineSeconds of [0, 31 * 24 * 3600])
        expect((await failureOf(() => submit(buyer, { deadlineSeconds }))).code).to.equal("bad-request");
      expect(buyer.requester.listJobs()).to.deep.equal([]);
    });

    it("is interrupted by its caller: the node is asked to close, and nothing hangs", async () => {
      const stop = new AbortController();
      node.script = (line) => {
        line.say("one ");
        return line.gone;
      };
      const buyer = await startBuyer(world);
      const onEvent = ({ type }: { type: string }) => type === "text" && stop.abort();
      const failure = await failureOf(() => submit(buyer, { signal: stop.signal, onEvent }));
      expect(failure.code).to.equal("interrupted");
      expect(node.seen.closes).to.equal(1);
      expect(buyer.requester.snapshot().active).to.deep.equal([]);
    });

    it("after a crash the same request reads the whole answer from the job that was left, never signing below the mark", async () => {
      node.script = async (line) => {
        for (let token = 1; token <= 12; token += 1) {
          line.need(cost(5, token + 8));
          await line.held(cost(5, token));
          line.say(`word${token} `);
        }
        return line.gone;
      };
      const buyer = await startBuyer(world);
      const body = chatBody({ max_tokens: 64 });
      const texts: string[] = [];
      const twelve = Promise.withResolvers<void>();
      const crashed = submit(buyer, {
        body,
        onEvent(event) {
          if (event.type === "text" && texts.push(event.text) === 12) twelve.resolve();
        },
      });
      await twelve.promise;
      const [left] = buyer.requester.listJobs();
      node.script = honest(20);
      const requester = await buyer.restart();
      const bill = await submit({ ...buyer, requester }, { body });
      expect(bill.jobId).to.equal(left!.jobId);
      expect(bill.text).to.match(/^word1 .* word20 $/);
      expect(bill.signed >= left!.signed).to.equal(true);
      expect(node.seen.receipts).to.deep.equal(node.seen.receipts.toSorted((a, b) => Number(a - b)));
      expect(requester.listJobs()).to.have.length(1);
      await Promise.all([buyer.requester.stop(), failureOf(() => crashed)]);
    });
  });

  describe("of a node that lies", () => {
    /** Runs a request that must end in `node-misbehaved`, and returns what the ledger kept of it. */
    const expectCaught = async (message: string | RegExp) => {
      const buyer = await startBuyer(world);
      const failure = await failureOf(() => submit(buyer));
      expect(failure.code).to.equal("node-misbehaved");
      expect(failure.message).to.match(new RegExp(message));
      const [job] = buyer.requester.listJobs();
      expect(job!.evidence).to.be.a("string");
      expect(job!.delivery).to.equal(null);
      expect(node.seen.closes).to.equal(1);
      return { buyer, job: job! };
    };

    it("signs no more once an event is missing, repeated or without an id", async () => {
      const data = JSON.stringify({ choices: [{ delta: { content: "x" } }] });
      for (const id of [3, 1, undefined]) {
        node.seen.closes = 0;
        node.script = (line) => {
          line.say("one ");
          line.send({ ...(id === undefined ? {} : { id }), data });
          line.need(500n);
          line.deliver();
        };
        const { job } = await expectCaught("event 2 came as");
        expect(job.signed <= cost(7, CHUNK_TOKENS)).to.equal(true);
      }
    });

    it("never signs ahead of what arrived, however much the node asks for", async () => {
      const beyond = 10n ** 15n;
      node.script = async (line) => {
        for (let token = 1; token <= 60; token += 1) {
          line.need(beyond);
          await line.held(cost(5, Math.max(token - 4, 0)));
          line.say(`w${token} `);
        }
        line.finish();
        line.deliver({ completionTokens: 60 });
      };
      const buyer = await startBuyer(world);
      let arrived = 0;
      const bill = await submit(buyer, {
        onEvent(event) {
          if (event.type === "text") arrived += 1;
          if (event.type !== "receipt") return;
          // The prompt is 19 bytes at most; 48 tokens are the template's.
          expect(event.amount <= cost(19 + 48, arrived + CHUNK_TOKENS)).to.equal(true);
        },
      });
      expect(bill.signed <= cost(19 + 48, 64)).to.equal(true);
      expect(bill.charge).to.equal(cost(5, 60));
    });

    it("does not start with a node that wants more than two chunks before its first token", async () => {
      node.refusals = [1, 2, 3].map(
        (more) => new InfernetError("receipt-too-small", "small", { data: { need: String(500 + more) } }),
      );
      const buyer = await startBuyer(world);
      const failure = await failureOf(() => submit(buyer));
      expect(failure.code).to.equal("receipt-too-small");
      expect(buyer.requester.listJobs()[0]!.signed <= cost(19 + 48, 2 * CHUNK_TOKENS)).to.equal(true);
    });

    const forgeries: [string, Partial<Delivery>, Partial<SignedDelivery>, string][] = [
      ["that it did not sign", {}, { promptTokens: 6 }, "not signed by the node"],
      ["for another request", { requestId: word(1) }, {}, "another request"],
      ["for another job", { jobId: word(1) }, {}, "another request"],
      ["from another model", { modelDigest: word(1) }, {}, "another model"],
      ["over another transcript", { transcript: word(1) }, {}, "transcript"],
      ["of more tokens than the text holds", { completionTokens: 60 }, {}, "60 completion tokens"],
      ["of more tokens than the prompt holds", { promptTokens: 200 }, {}, "200 prompt tokens"],
      ["at other prices", { cost: 1n }, {}, "cost is not"],
      ["with a charge beside its cost", { jobCharge: 4n }, {}, "charge is not"],
    ];
    for (const [what, changes, forged, message] of forgeries) {
      it(`refuses a delivery ${what}, and keeps it as evidence`, async () => {
        node.script = (line) => {
          for (const text of ["one ", "two "]) line.say(text);
          line.deliver(changes, forged);
        };
        const { job } = await expectCaught(message);
        expect(JSON.parse(job.evidence!)).to.have.nested.property("delivery.signature");
      });
    }

    it("refuses a delivery above what was signed", async () => {
      node.script = (line) => {
        for (let piece = 0; piece < 30; piece += 1) line.say("a whole word ");
        line.deliver();
      };
      await expectCaught("more than was signed");
    });

    it("keeps the proof when the node claims more than its delivery charges", async () => {
      node.claim = 9n;
      node.script = honest(2);
      const buyer = await startBuyer(world);
      const bill = await submit(buyer);
      expect(bill).to.deep.include({
        charge: cost(5, 2),
        settled: { charge: 9n, returned: bill.deposit - 9n },
      });
      const [job] = buyer.requester.listJobs();
      expect(JSON.parse(job!.evidence!)).to.include({ claimed: "9" });
    });

    it("gives up on a line that breaks again and again without anything new", async () => {
      node.script = (line) => line.cut();
      const buyer = await startBuyer(world);
      expect((await failureOf(() => submit(buyer))).code).to.equal("node-unreachable");
      expect(node.seen.requests).to.be.within(3, 10);
    });
  });

  it("ends an answer that takes longer than the offer's longest request", async () => {
    await node.stop();
    node = await startLyingNode(world, { longestRequestSeconds: 1, receiptTimeoutSeconds: 1 });
    node.script = (line) => line.gone;
    const failure = await failureOf(async () => submit(await startBuyer(world)));
    expect(failure.code).to.equal("upstream-timeout");
    expect(node.seen.closes).to.equal(1);
  });
});
