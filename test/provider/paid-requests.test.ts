// What a request meets on its way to the model: known or new, whose job, which bytes, which receipt, how many at once.
import { expect } from "chai";
import type { Hex } from "../../protocol/bytes.ts";
import { requestHashOf, singleRequestId } from "../../protocol/job.ts";
import { transcriptOf } from "../../protocol/transcript.ts";
import { HEADERS } from "../../protocol/wire.ts";
import { createSigner } from "../../runtime/signers/secp256k1.ts";
import { ScriptedUpstream, type Step, words } from "../support/scripted-upstream.ts";
import { account, createFolder, DOMAIN, newRequest, word } from "./ledger-fixture.ts";
import {
  CHAT,
  chatBytes,
  openJob,
  readAnswer,
  readWhole,
  refusalOf,
  SALT,
  type Serving,
  send,
  sendRaw,
  sendReceipt,
  startServing,
} from "./serving-fixture.ts";

describe("paid requests", () => {
  const folder = createFolder();
  let serving: Serving | undefined;
  let store = 0;
  const start = async (upstream: ScriptedUpstream, options?: Parameters<typeof startServing>[2]) => {
    store += 1;
    serving = await startServing(`${folder.path}/${store}`, upstream, options);
    return serving;
  };
  const restart = async (upstream: ScriptedUpstream) => {
    await serving?.stop();
    serving = await startServing(`${folder.path}/${store}`, upstream);
    return serving;
  };
  const SHORT: Step[] = ["Hel", "lo", { usage: [10, 2] }];
  afterEach(async () => {
    await serving?.stop();
    serving = undefined;
  });
  after(() => folder.remove());

  describe("that are sent again", () => {
    it("are replayed after their end, with the same delivery and no new charge", async () => {
      const upstream = new ScriptedUpstream(SHORT);
      const on = await start(upstream);
      const job = openJob(on);
      const first = await readWhole(await send(on, job, 18n));
      expect(await readWhole(await send(on, job, 18n))).to.deep.equal(first);
      const rest = await readWhole(await send(on, job, undefined, { extra: { "last-event-id": "3" } }));
      expect(rest.payloads).to.deep.equal(first.payloads.slice(3));
      expect(on.ledger.findJob(job.jobId)?.charge).to.equal(12n);
      expect(upstream.runs).to.have.length(1);
    });

    it("are replayed after the node was started anew", async () => {
      const job = openJob(await start(new ScriptedUpstream(SHORT)));
      const first = await readWhole(await send(serving!, job, 18n));
      const upstream = new ScriptedUpstream(SHORT);
      const on = await restart(upstream);
      expect(await readWhole(await send(on, job, 18n))).to.deep.equal(first);
      expect(upstream.runs).to.have.length(0);
    });

    it("run once when two arrive together, and both get the whole answer", async () => {
      const upstream = new ScriptedUpstream(SHORT);
      const on = await start(upstream);
      const job = openJob(on);
      const both = await Promise.all([1, 2].map(async () => readWhole(await send(on, job, 18n))));
      expect(both[0]).to.deep.equal(both[1]);
      expect(both[0]!.text).to.equal("Hello");
      expect(upstream.runs).to.have.length(1);
    });

    it("are not to be had without their job's salt", async () => {
      const on = await start(new ScriptedUpstream(SHORT));
      const job = openJob(on);
      await readWhole(await send(on, job, 18n));
      const wrong = await send(on, job, 18n, { extra: { [HEADERS.salt]: word(0xbb) } });
      expect(await refusalOf(wrong)).to.deep.equal({ status: 404, code: "job-not-found" });
    });

    it("are not run while the ledger holds a run of them that a crash cut off", async () => {
      const upstream = new ScriptedUpstream(SHORT);
      const on = await start(upstream);
      const job = openJob(on);
      const requestHash = requestHashOf(CHAT, job.body);
      const requestId = singleRequestId(job.jobId, requestHash);
      await on.ledger.startRequest({ ...newRequest(job.jobId), requestId, requestHash });
      expect(await refusalOf(await send(on, job, 18n))).to.deep.equal({
        status: 409,
        code: "request-in-progress",
      });
      on.ledger.forgetRequest(requestId, "the node was cut off");
      expect((await readWhole(await send(on, job, 18n))).text).to.equal("Hello");
    });

    it("say that the answer is gone when it is kept no more", async () => {
      const on = await start(new ScriptedUpstream(SHORT));
      const job = openJob(on);
      await readWhole(await send(on, job, 18n));
      on.clock.now += 3601;
      const other = openJob(on, { body: chatBytes({ temperature: 0 }) });
      await readWhole(await send(on, other, 18n));
      expect(await refusalOf(await send(on, job, 18n))).to.deep.equal({ status: 404, code: "not-found" });
    });
  });

  describe("of a session", () => {
    const key = (name: string) => ({ extra: { [HEADERS.idempotencyKey]: name } });

    it("share one receipt: a second runs only when both are covered", async () => {
      const gate = Promise.withResolvers<void>();
      const on = await start(new ScriptedUpstream(["a", { until: gate.promise }, "b", { usage: [10, 2] }]));
      const job = openJob(on, { session: true });
      const first = await send(on, job, 18n, key("one"));
      expect(await refusalOf(await send(on, job, 18n, key("two")))).to.deep.include({
        status: 402,
        need: "36",
      });
      const second = await send(on, job, 36n, key("two"));
      gate.resolve();
      const answers = await Promise.all([readWhole(first), readWhole(second)]);
      expect(answers.map(({ text }) => text)).to.deep.equal(["ab", "ab"]);
      expect(on.ledger.findJob(job.jobId)?.charge).to.equal(24n);
    });

    it("keep what was signed and not used for the next request", async () => {
      const on = await start(new ScriptedUpstream(SHORT));
      const job = openJob(on, { session: true });
      await readWhole(await send(on, job, 30n, key("one")));
      await readWhole(await send(on, job, undefined, key("two")));
      expect(on.ledger.findJob(job.jobId)?.charge).to.equal(24n);
    });

    it("refuse other bytes under the same Idempotency-Key", async () => {
      const on = await start(new ScriptedUpstream(SHORT));
      const job = openJob(on, { session: true });
      await readWhole(await send(on, job, 18n, key("one")));
      const other = await send(on, job, 36n, { ...key("one"), body: chatBytes({ seed: 1 }) });
      expect(await refusalOf(other)).to.deep.equal({ status: 409, code: "request-mismatch" });
    });

    it("need a well-formed Idempotency-Key", async () => {
      const on = await start(new ScriptedUpstream(SHORT));
      const refusal = await refusalOf(await send(on, openJob(on, { session: true }), 18n, key("no spaces")));
      expect(refusal).to.deep.equal({ status: 400, code: "bad-request" });
    });
  });

  describe("are refused, and neither run nor charged,", () => {
    let upstream: ScriptedUpstream;
    let on: Serving;
    beforeEach(async () => {
      upstream = new ScriptedUpstream(SHORT);
      on = await start(upstream);
    });
    afterEach(() => expect(upstream.runs, "the model never ran").to.have.length(0));

    it("with 402 and x402's PAYMENT-REQUIRED when they name no job", async () => {
      const headers = { "content-type": "application/json" };
      const response = await fetch(`${on.url}${CHAT}`, {
        method: "POST",
        headers,
        body: new Uint8Array(chatBytes()),
      });
      const required = JSON.parse(
        Buffer.from(response.headers.get("payment-required")!, "base64").toString(),
      );
      expect(required).to.deep.include({ x402Version: 2 });
      expect(required.accepts).to.have.length(1);
      const { offer, offerHash } = on.offers.current();
      expect(required.accepts[0]).to.deep.include({
        scheme: "infernet-escrow",
        network: "eip155:31337",
        asset: offer.usdc,
        payTo: offer.escrow,
        amount: "1000",
      });
      expect(required.accepts[0].extra).to.deep.include({ node: offer.node, payee: offer.payee, offerHash });
      expect(await refusalOf(response)).to.deep.equal({ status: 402, code: "payment-required" });
    });

    it("with 400 when a job header is malformed", async () => {
      const wrong = await send(on, openJob(on), 18n, { extra: { [HEADERS.salt]: "0x12" } });
      expect(await refusalOf(wrong)).to.deep.equal({ status: 400, code: "bad-request" });
    });

    it("with 400 when the body is not JSON, naming no secret", async () => {
      const response = await send(on, openJob(on), 18n, { body: Buffer.from("{not json") });
      expect(await refusalOf(response)).to.deep.equal({ status: 400, code: "bad-request" });
    });

    it("with 413 when the body has 50 MB", async () => {
      const status = await sendRaw(
        `${on.url}${CHAT}`,
        openJob(on).headers(18n),
        Buffer.alloc(50_000_000, " "),
      );
      expect(status).to.equal(413);
    });

    it("with 415 when the body is not called JSON", async () => {
      const response = await send(on, openJob(on), 18n, { extra: { "content-type": "text/plain" } });
      expect(await refusalOf(response)).to.deep.equal({ status: 415, code: "wrong-content-type" });
    });

    it("with 404 when the node does not offer the model", async () => {
      const body = chatBytes({ model: "other" });
      const refusal = await refusalOf(await send(on, openJob(on, { body }), 18n));
      expect(refusal).to.deep.equal({ status: 404, code: "model-not-offered" });
    });

    it("with 400 when the model lacks what they need, before anything runs or is charged", async () => {
      const body = chatBytes({ tools: [{ type: "function", function: { name: "f" } }] });
      const job = openJob(on, { body });
      const refusal = await refusalOf(await send(on, job, 18n));
      expect(refusal).to.deep.equal({ status: 400, code: "unsupported" });
      const requestId = singleRequestId(job.jobId, requestHashOf(CHAT, body));
      expect(on.ledger.findRequest(requestId)).to.equal(undefined);
    });

    it("with 400 when they ask for more tokens than the offer allows", async () => {
      const body = chatBytes({ max_tokens: 101 });
      const refusal = await refusalOf(await send(on, openJob(on, { body }), 18n));
      expect(refusal).to.deep.equal({ status: 400, code: "bad-request" });
    });

    it("with 404 when the chain shows no such job", async () => {
      const job = openJob(on);
      const unknown = await send(on, job, undefined, { extra: { [HEADERS.job]: word(0xcc) } });
      expect(await refusalOf(unknown)).to.deep.equal({ status: 404, code: "job-not-found" });
    });

    it("with 409 when the bytes are not those that the job was opened for", async () => {
      const other = await send(on, openJob(on), 18n, { body: chatBytes({ seed: 1 }) });
      expect(await refusalOf(other)).to.deep.equal({ status: 409, code: "request-mismatch" });
    });

    it("with 409 when the node never made the offer", async () => {
      const wrong = await send(on, openJob(on), 18n, { extra: { [HEADERS.offer]: word(0xdd) } });
      expect(await refusalOf(wrong)).to.deep.equal({ status: 409, code: "job-not-funded" });
    });

    it("with 402 that tells the need when the receipt is missing or too small", async () => {
      const job = openJob(on);
      const need = { status: 402, code: "receipt-too-small", need: "18" };
      expect(await refusalOf(await send(on, job))).to.deep.equal(need);
      expect(await refusalOf(await send(on, job, 17n))).to.deep.equal(need);
    });
  });

  describe("at the node's capacity", () => {
    it("are refused with 429 and Retry-After, and run when there is room again", async () => {
      const gate = Promise.withResolvers<void>();
      const upstream = new ScriptedUpstream(["a", { until: gate.promise }, { usage: [10, 1] }]);
      const queue = { perRequester: 0, total: 0, waitMs: 1_000 };
      const on = await start(upstream, { config: { capacity: 1, queue } });
      const [first, second] = [openJob(on), openJob(on, { body: chatBytes({ seed: 1 }) })];
      const running = await send(on, first, 18n);
      const busy = await send(on, second, 18n);
      expect(busy.headers.get("retry-after")).to.match(/^\d+$/);
      expect(await refusalOf(busy)).to.deep.equal({ status: 429, code: "node-busy" });
      gate.resolve();
      await readWhole(running);
      expect((await readWhole(await send(on, second, 18n))).delivery).to.include({ jobCharge: 11n });
    });
  });

  describe("receipts", () => {
    const codeOf = async (response: Response) => ((await response.json()) as { code: string }).code;
    let on: Serving;
    let job: ReturnType<typeof openJob>;
    let finish: () => void;
    let answer: Awaited<ReturnType<typeof send>>;
    beforeEach(async () => {
      const gate = Promise.withResolvers<void>();
      finish = gate.resolve;
      on = await start(new ScriptedUpstream(["a", { until: gate.promise }, "b", { usage: [10, 2] }]));
      job = openJob(on, { deposit: 500n });
      answer = await send(on, job, 18n);
    });

    it("raise the mark, and a lower one changes nothing", async () => {
      expect(await (await sendReceipt(on, job, job.receipt(30n))).json()).to.deep.equal({ accepted: "30" });
      expect(await (await sendReceipt(on, job, job.receipt(20n))).json()).to.deep.equal({ accepted: "30" });
      expect(on.ledger.findJob(job.jobId)!.receipt!.amount).to.equal(30n);
    });

    it("of another key, chain or Escrow, above the deposit, or malformed are refused and change nothing", async () => {
      const bad = [
        job.receipt(30n, { signer: createSigner(word(8)) }),
        job.receipt(30n, { domain: { ...DOMAIN, chainId: DOMAIN.chainId + 1n } }),
        job.receipt(30n, { domain: { ...DOMAIN, escrow: account(0x77) } }),
        job.receipt(501n),
        "30;0x12;0x34",
        job.receipt(30n).replace("30;", "31;"),
      ];
      for (const header of bad)
        expect(await codeOf(await sendReceipt(on, job, header))).to.equal("bad-receipt");
      expect(on.ledger.findJob(job.jobId)!.receipt!.amount).to.equal(18n);
    });

    it("carry a transcript that the request reached, or none", async () => {
      const payloads: string[] = [];
      for await (const event of readAnswer(answer)) {
        if (!("payload" in event)) continue;
        payloads.push(event.payload);
        if (event.payload.includes('"a"')) break;
      }
      const requestId = singleRequestId(job.jobId, requestHashOf(CHAT, job.body));
      const accept = async (amount: bigint, transcript: Hex) =>
        (await sendReceipt(on, job, job.receipt(amount, { transcript }))).status;
      expect(await accept(19n, requestId)).to.equal(200);
      expect(await accept(20n, transcriptOf(requestId, payloads))).to.equal(200);
      expect(await accept(21n, transcriptOf(requestId, [...payloads, "more"]))).to.equal(400);
      expect(on.ledger.findJob(job.jobId)!.receipt!.amount).to.equal(20n);
    });

    it("need the job's salt: a wrong one, none, and an unknown job are the same 404", async () => {
      const post = async (jobId: Hex, headers: Record<string, string>) => {
        const url = `${on.url}/infernet/jobs/${jobId}/receipts`;
        const response = await fetch(url, {
          method: "POST",
          headers: { [HEADERS.receipt]: job.receipt(30n), ...headers },
        });
        return { status: response.status, body: await response.json() };
      };
      const wrong = await post(job.jobId, { [HEADERS.salt]: word(0xbb) });
      expect(wrong.status).to.equal(404);
      expect(await post(job.jobId, {})).to.deep.equal(wrong);
      expect(await post(word(0xcc), { [HEADERS.salt]: SALT })).to.deep.equal(wrong);
    });

    afterEach(async () => {
      finish();
      await answer.body?.cancel().catch(() => {});
    });
  });
});

describe("the words of a long answer", () => {
  it("leave in their order under one transcript when thousands are ready at once", async () => {
    const folder = createFolder();
    const upstream = new ScriptedUpstream([...words(2000), { usage: [10, 2000] }]);
    const config = { maxCompletionTokens: 4000, chunkTokens: 64 };
    const on = await startServing(folder.path, upstream, { config });
    const job = openJob(on, { deposit: 10_000n });
    const answer = await readWhole(await send(on, job, 138n), {
      onNeed: (need) => sendReceipt(on, job, job.receipt(need)),
    });
    expect(answer.text).to.equal(words(2000).join(""));
    expect(answer.delivery).to.include({ jobCharge: 2010n, estimated: false });
    expect(answer.delivery!.transcript).to.equal(transcriptOf(answer.delivery!.requestId, answer.payloads));
    await on.stop();
    folder.remove();
  });
});
