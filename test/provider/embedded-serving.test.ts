// A paid stream whose model is real: llama.cpp in this process, with a tiny model of random weights.
import { expect } from "chai";
import { costMillionths } from "../../protocol/price.ts";
import { transcriptOf } from "../../protocol/transcript.ts";
import { openEmbedded } from "../../provider/upstreams/embedded.ts";
import type { Upstream } from "../../provider/upstreams/upstream.ts";
import { tinyModelFile } from "../support/tiny-model.ts";
import { createFolder } from "./ledger-fixture.ts";
import {
  chatBytes,
  deliveryOf,
  LISTED,
  openJob,
  readAnswer,
  readWhole,
  type Serving,
  send,
  sendReceipt,
  startServing,
} from "./serving-fixture.ts";

describe("a paid request on a real model", function () {
  this.timeout(20_000);
  const folder = createFolder();
  let upstream: Upstream;
  let on: Serving;
  before(async () => {
    upstream = await openEmbedded({
      modelFile: tinyModelFile(),
      modelName: "tiny",
      threads: 1,
      contextLength: 512,
    });
    on = await startServing(folder.path, upstream, { config: { chunkTokens: 8 } });
  });
  after(async () => {
    await on.stop();
    await upstream.close();
    folder.remove();
  });

  it("streams for receipts and charges the model's own counts", async () => {
    const job = openJob(on, {
      body: chatBytes({ temperature: 0, max_tokens: 60, seed: 1 }),
      deposit: 10_000n,
    });
    const answer = await readWhole(await send(on, job, 26n), {
      onNeed: (need) => sendReceipt(on, job, job.receipt(need)),
    });
    const { usage } = JSON.parse(answer.payloads.at(-2)!);
    const delivery = answer.delivery!;
    expect(answer.errors).to.deep.equal([]);
    expect(answer.needs).to.not.have.length(0);
    expect(usage.prompt_tokens).to.be.greaterThan(0);
    expect(delivery).to.include({
      promptTokens: usage.prompt_tokens,
      completionTokens: usage.completion_tokens,
      modelDigest: on.offers.current().offer.models[0]!.digest,
      cost: costMillionths(delivery, LISTED[0]!),
    });
    expect(delivery.transcript).to.equal(transcriptOf(delivery.requestId, answer.payloads));
    expect(delivery.jobCharge <= on.ledger.findJob(job.jobId)!.receipt!.amount).to.equal(true);
  });

  it("answers unstreamed with the same text", async () => {
    const limits = { temperature: 0, max_tokens: 12, seed: 1 };
    const streamed = await readWhole(await send(on, openJob(on, { body: chatBytes(limits) }), 1000n));
    const body = chatBytes({ ...limits, stream: false });
    const response = await send(on, openJob(on, { body }), 1000n);
    const whole = (await response.json()) as { choices: { message: { content: string } }[] };
    expect(whole.choices[0]!.message.content).to.equal(streamed.text);
    expect(deliveryOf(response)).to.include({ completionTokens: streamed.delivery!.completionTokens });
  });

  it("is stopped when its requester leaves and closes the job, and serves the next one", async () => {
    const job = openJob(on, { body: chatBytes({ max_tokens: 90, seed: 2 }) });
    const leave = new AbortController();
    for await (const event of readAnswer(await send(on, job, 1000n, { signal: leave.signal }))) {
      if ("payload" in event) break;
    }
    leave.abort();
    const url = `${on.url}/infernet/jobs/${job.jobId}/close`;
    await fetch(url, { method: "POST", headers: { "infernet-salt": job.headers()["infernet-salt"]! } });
    expect(on.running()).to.equal(0);
    const next = openJob(on, { body: chatBytes({ max_tokens: 5, seed: 3 }) });
    expect((await readWhole(await send(on, next, 1000n))).delivery).to.include({ estimated: false });
  });
});
