// The charge rules of a paid stream, each over a real server, a real ledger and real signatures.
import { expect } from "chai";
import { deliveryDigest } from "../../protocol/delivery.ts";
import { InfernetError } from "../../protocol/errors.ts";
import { requestHashOf, singleRequestId } from "../../protocol/job.ts";
import { transcriptOf } from "../../protocol/transcript.ts";
import { recoverSigner } from "../../runtime/signers/secp256k1.ts";
import { ScriptedUpstream, type Step, words } from "../support/scripted-upstream.ts";
import { createFolder, DOMAIN, NODE } from "./ledger-fixture.ts";
import {
  type AnswerEvent,
  CHAT,
  chatBytes,
  openJob,
  readAnswer,
  readWhole,
  refusalOf,
  type Serving,
  send,
  sendReceipt,
  startServing,
} from "./serving-fixture.ts";

const BROKEN = new InfernetError("upstream-failed", "the model broke");

describe("a paid stream", () => {
  const folder = createFolder();
  let serving: Serving | undefined;
  let store = 0;
  const start = async (upstream: ScriptedUpstream, options?: Parameters<typeof startServing>[2]) => {
    store += 1;
    serving = await startServing(`${folder.path}/${store}`, upstream, options);
    return serving;
  };
  afterEach(async () => {
    await serving?.stop();
    serving = undefined;
  });
  after(() => folder.remove());

  it("carries every piece, the usage and [DONE] with ids from 1 on, and ends with a delivery that the node signed", async () => {
    const on = await start(new ScriptedUpstream(["Hel", "lo", { usage: [7, 2] }]));
    const job = openJob(on);
    const answer = await readWhole(await send(on, job, 18n));
    expect(answer.text).to.equal("Hello");
    expect(answer.ids).to.deep.equal([1, 2, 3, 4, 5]);
    expect(answer.payloads.at(-1)).to.equal("[DONE]");
    expect(JSON.parse(answer.payloads.at(-2)!).usage).to.deep.equal({
      prompt_tokens: 7,
      completion_tokens: 2,
      total_tokens: 9,
    });
    const { delivery } = answer;
    const requestId = singleRequestId(job.jobId, requestHashOf(CHAT, job.body));
    expect(delivery).to.include({
      requestId,
      promptTokens: 7,
      completionTokens: 2,
      estimated: false,
      jobCharge: 9n,
    });
    expect(delivery!.transcript).to.equal(transcriptOf(requestId, answer.payloads));
    expect(recoverSigner(deliveryDigest(DOMAIN, delivery!), delivery!.signature)).to.equal(NODE.address);
  });

  it("lets tokens reach the requester while the model still works", async () => {
    const gate = Promise.withResolvers<void>();
    const on = await start(
      new ScriptedUpstream(["first", { until: gate.promise }, "second", { usage: [7, 2] }]),
    );
    const seen: string[] = [];
    await readWhole(await send(on, openJob(on), 18n), {
      onEvent(event: AnswerEvent) {
        if (!("payload" in event)) return;
        seen.push(event.payload);
        if (event.payload.includes("first")) {
          expect(on.running()).to.equal(1);
          gate.resolve();
        }
      },
    });
    expect(seen.join()).to.match(/first.*second/s);
  });

  it("asks for one chunk more when less than a chunk is left, and goes on when it is signed", async () => {
    const gates = Array.from({ length: 12 }, () => Promise.withResolvers<void>());
    const script: Step[] = gates.flatMap(({ promise }, index) => [{ until: promise }, `w${index} `]);
    const on = await start(new ScriptedUpstream([...script, { usage: [10, 12] }]));
    const job = openJob(on);
    const needs: [made: number, need: bigint][] = [];
    let made = 0;
    gates[0]!.resolve();
    const answer = await readWhole(await send(on, job, 18n), {
      async onNeed(need) {
        needs.push([made, need]);
        expect((await sendReceipt(on, job, job.receipt(need))).status).to.equal(200);
      },
      onEvent(event) {
        if (!("payload" in event) || !/w\d/.test(event.payload)) return;
        made += 1;
        gates[made]?.resolve();
      },
    });
    expect(answer.delivery).to.include({ completionTokens: 12, jobCharge: 22n });
    // 8 tokens are covered at first; after the 5th fewer than 4 are left, and then again after every 4 more.
    expect(needs).to.deep.equal([
      [5, 22n],
      [9, 26n],
    ]);
  });

  it("releases no more than the receipts cover to a requester that stops signing", async () => {
    const upstream = new ScriptedUpstream([...words(100), { usage: [10, 100] }]);
    const on = await start(upstream);
    const answer = await readWhole(await send(on, openJob(on), 18n));
    expect(answer.text).to.equal(words(8).join(""));
    expect(answer.errors).to.deep.equal(["receipt-timeout"]);
    expect(answer.delivery).to.include({
      promptTokens: 10,
      completionTokens: 8,
      estimated: true,
      jobCharge: 18n,
    });
    expect(upstream.madeTokens, "the model was not read on").to.be.lessThan(20);
  });

  it("releases what a smaller receipt than asked for covers", async () => {
    const on = await start(new ScriptedUpstream([...words(100), { usage: [10, 100] }]));
    const job = openJob(on);
    const answer = await readWhole(await send(on, job, 18n), {
      onNeed: (need) => need === 22n && sendReceipt(on, job, job.receipt(20n)),
    });
    expect(answer.delivery).to.include({ completionTokens: 10, jobCharge: 20n });
  });

  it("never asks for more than max_tokens can cost", async () => {
    const on = await start(new ScriptedUpstream([...words(6), { usage: [10, 6] }]));
    const body = chatBytes({ max_tokens: 6 });
    const answer = await readWhole(await send(on, openJob(on, { body }), 16n));
    expect(answer.needs).to.deep.equal([]);
    expect(answer.delivery).to.include({ completionTokens: 6, jobCharge: 16n });
  });

  it("charges nothing when the upstream fails before the first token, and runs the request when it is sent again", async () => {
    const upstream = new ScriptedUpstream([{ fail: BROKEN }], ["ok", { usage: [3, 1] }]);
    const on = await start(upstream);
    const job = openJob(on);
    expect(await refusalOf(await send(on, job, 18n))).to.deep.equal({ status: 502, code: "upstream-failed" });
    expect(on.ledger.findJob(job.jobId)?.charge).to.equal(0n);
    expect(on.ledger.findJob(job.jobId)?.reserved).to.equal(0n);
    const answer = await readWhole(await send(on, job, 18n));
    expect(answer.delivery).to.include({ jobCharge: 4n });
    expect(upstream.runs).to.have.length(2);
  });

  it("charges what was released when the upstream fails in the middle, and says why before the delivery", async () => {
    const on = await start(new ScriptedUpstream([...words(3), { fail: BROKEN }]));
    const words3 = await readWhole(await send(on, openJob(on), 18n));
    expect(words3.text).to.equal(words(3).join(""));
    expect(words3.errors).to.deep.equal(["upstream-failed"]);
    expect(words3.delivery).to.include({
      promptTokens: 10,
      completionTokens: 3,
      estimated: true,
      jobCharge: 13n,
    });
  });

  it("releases and charges nothing that a full disk does not keep, and says so", async () => {
    const gate = Promise.withResolvers<void>();
    const large = "x".repeat(200_000);
    const on = await start(new ScriptedUpstream(["a", { until: gate.promise }, large, { usage: [10, 2] }]));
    const job = openJob(on);
    const answer = await readWhole(await send(on, job, 18n), {
      onEvent(event) {
        if (!("payload" in event) || !event.payload.includes('"a"')) return;
        const { page_count: pages } = on.store.db.prepare("PRAGMA page_count").get()!;
        on.store.db.exec(`PRAGMA max_page_count = ${pages}`);
        gate.resolve();
      },
    });
    expect(answer.text).to.equal("a");
    expect(answer.errors).to.deep.equal(["store-unusable"]);
    const requestId = singleRequestId(job.jobId, requestHashOf(CHAT, job.body));
    const kept = on.ledger.payloadsAfter(requestId, 0).map(({ payload }) => payload);
    expect(kept).to.deep.equal(answer.payloads);
    expect(on.ledger.findRequest(requestId)!.counts.completionTokens).to.equal(1);
  });

  it("charges the prompt alone for an empty completion", async () => {
    const on = await start(new ScriptedUpstream([{ usage: [9, 0] }]));
    const answer = await readWhole(await send(on, openJob(on), 18n));
    expect(answer.delivery).to.include({
      promptTokens: 9,
      completionTokens: 0,
      jobCharge: 9n,
      estimated: false,
    });
  });

  it("charges the deltas and a prompt rounded down when the upstream never counts", async () => {
    const on = await start(new ScriptedUpstream([...words(3)]));
    const body = chatBytes({ messages: [{ role: "user", content: "x".repeat(43) }] });
    const answer = await readWhole(await send(on, openJob(on, { body }), 19n));
    expect(answer.delivery).to.include({
      promptTokens: 10,
      completionTokens: 3,
      estimated: true,
      jobCharge: 13n,
    });
  });

  it("asks in chunks, not in tokens, when the prompt turns out far longer than its estimate", async () => {
    const upstream = new ScriptedUpstream([
      { usage: [60, 0], final: false },
      ...words(12),
      { usage: [60, 12] },
    ]);
    const on = await start(upstream);
    const job = openJob(on);
    const answer = await readWhole(await send(on, job, 18n), {
      onNeed: (need) => sendReceipt(on, job, job.receipt(need)),
    });
    expect(answer.delivery).to.include({
      promptTokens: 60,
      completionTokens: 12,
      estimated: false,
      jobCharge: 72n,
    });
    expect(answer.needs.length).to.be.at.most(4);
  });

  it("charges by the upstream's running usage as soon as it tells it", async () => {
    const gate = Promise.withResolvers<void>();
    const script: Step[] = [
      "a word",
      { usage: [6, 2], final: false },
      { until: gate.promise },
      { fail: BROKEN },
    ];
    const on = await start(new ScriptedUpstream(script));
    const job = openJob(on);
    const answer = await readWhole(await send(on, job, 18n), { onEvent: () => gate.resolve() });
    expect(answer.delivery).to.include({ promptTokens: 6, completionTokens: 2, jobCharge: 8n });
  });

  it("asks for the rest before the closing events when the final count costs more than is signed", async () => {
    const on = await start(new ScriptedUpstream([...words(4), { usage: [25, 4] }]));
    const job = openJob(on);
    let closed = false;
    const answer = await readWhole(await send(on, job, 18n), {
      onNeed(need) {
        expect(closed).to.equal(false);
        return sendReceipt(on, job, job.receipt(need));
      },
      onEvent(event) {
        closed ||= "payload" in event && event.payload === "[DONE]";
      },
    });
    expect(answer.needs.at(-1)).to.equal(29n);
    expect(answer.delivery).to.include({
      promptTokens: 25,
      completionTokens: 4,
      estimated: false,
      jobCharge: 29n,
    });
  });

  it("takes what was signed when the final count costs more and the requester does not sign the rest", async () => {
    const on = await start(new ScriptedUpstream([...words(4), { usage: [25, 4] }]));
    const answer = await readWhole(await send(on, openJob(on), 18n));
    expect(answer.payloads.at(-1)).to.equal("[DONE]");
    expect(answer.delivery).to.include({
      promptTokens: 14,
      completionTokens: 4,
      estimated: true,
      jobCharge: 18n,
    });
  });

  it("never counts more completion tokens than bytes of text", async () => {
    const on = await start(new ScriptedUpstream(["4", { usage: [5, 3] }]));
    const answer = await readWhole(await send(on, openJob(on), 18n));
    expect(answer.delivery).to.include({ completionTokens: 1, jobCharge: 6n, estimated: true });
  });

  it("ends a request that its requester left, charging what was released", async () => {
    const upstream = new ScriptedUpstream([...words(2), { hang: true }]);
    const on = await start(upstream, { patienceMs: 30 });
    const job = openJob(on);
    const leave = new AbortController();
    const response = await send(on, job, 18n, { signal: leave.signal });
    const ended = new Promise<void>((done) =>
      on.events.subscribe((event) => event.type === "streamEnded" && done()),
    );
    let texts = 0;
    for await (const event of readAnswer(response)) {
      if ("payload" in event && /w1/.test(event.payload)) break;
      texts += 1;
    }
    leave.abort();
    await ended;
    expect(texts).to.be.greaterThan(0);
    expect(on.ledger.findJob(job.jobId)?.charge).to.equal(12n);
    await on.api.stop();
    expect(upstream.runs[0]!.signal.aborted, "the model was told to stop").to.equal(true);
    expect(on.running()).to.equal(0);
  });

  it("goes on where it was cut when the requester comes back in time, without running twice", async () => {
    const gate = Promise.withResolvers<void>();
    const upstream = new ScriptedUpstream(["a ", "b ", { until: gate.promise }, "c ", { usage: [10, 3] }]);
    const on = await start(upstream);
    const job = openJob(on);
    const leave = new AbortController();
    for await (const event of readAnswer(await send(on, job, 18n, { signal: leave.signal }))) {
      if ("payload" in event && event.payload.includes('"a "')) break;
    }
    leave.abort();
    const back = await send(on, job, 18n, { extra: { "last-event-id": "2" } });
    gate.resolve();
    const answer = await readWhole(back);
    expect(answer.text).to.equal("b c ");
    expect(answer.ids).to.deep.equal([3, 4, 5, 6]);
    expect(answer.delivery).to.include({ jobCharge: 13n });
    expect(upstream.runs).to.have.length(1);
  });

  it("ends a model that hangs after the longest time of a request, for free before the first token", async () => {
    const on = await start(new ScriptedUpstream([{ hang: true }]), { config: { longestRequestSeconds: 1 } });
    const job = openJob(on);
    expect(await refusalOf(await send(on, job, 18n))).to.deep.equal({
      status: 504,
      code: "upstream-timeout",
    });
    expect(on.ledger.findJob(job.jobId)?.charge).to.equal(0n);
  });

  it("ends a stream that was opened with a delivery of nothing when the upstream fails before the first token", async () => {
    // The real prompt is dearer than what is signed for, so the node has to ask before the first token.
    const on = await start(new ScriptedUpstream([{ usage: [25, 0], final: false }, "a", { usage: [25, 1] }]));
    const answer = await readWhole(await send(on, openJob(on), 18n));
    expect(answer.needs).to.deep.equal([29n]);
    expect(answer.errors).to.deep.equal(["receipt-timeout"]);
    expect(answer.payloads).to.deep.equal([]);
    expect(answer.delivery).to.include({ promptTokens: 0, completionTokens: 0, jobCharge: 0n });
  });

  it("ends running requests with their deliveries when the node stops", async () => {
    const on = await start(new ScriptedUpstream([...words(2), { hang: true }]));
    const job = openJob(on);
    let stopping: Promise<void> | undefined;
    const answer = await readWhole(await send(on, job, 18n), {
      onEvent(event) {
        if ("payload" in event && event.payload.includes("w1")) stopping ??= on.api.stop();
      },
    });
    await stopping;
    expect(answer.errors).to.deep.equal(["interrupted"]);
    expect(answer.delivery).to.include({ completionTokens: 2, jobCharge: 12n });
  });

  it("gives the upstream the limit that the prepayment was sized for", async () => {
    const upstream = new ScriptedUpstream(["a", { usage: [10, 1] }]);
    const on = await start(upstream);
    await readWhole(await send(on, openJob(on), 18n));
    expect(upstream.runs[0]!.body).to.include({ max_tokens: 100 });
  });
});
