// The charge rules of a request that is answered in one body.
import { expect } from "chai";
import { InfernetError } from "../../protocol/errors.ts";
import { transcriptOf } from "../../protocol/transcript.ts";
import { ScriptedUpstream, words } from "../support/scripted-upstream.ts";
import { createFolder } from "./ledger-fixture.ts";
import {
  chatBytes,
  deliveryOf,
  openJob,
  refusalOf,
  type Serving,
  send,
  startServing,
} from "./serving-fixture.ts";

const BROKEN = new InfernetError("upstream-failed", "the model broke");

describe("an unstreamed paid request", () => {
  const folder = createFolder();
  let serving: Serving | undefined;
  let store = 0;
  const start = async (upstream: ScriptedUpstream) => {
    store += 1;
    serving = await startServing(`${folder.path}/${store}`, upstream);
    return serving;
  };
  afterEach(async () => {
    await serving?.stop();
    serving = undefined;
  });
  after(() => folder.remove());
  const body = chatBytes({ stream: false, max_tokens: 20 });

  it("reserves the prompt and all its tokens up front", async () => {
    const on = await start(new ScriptedUpstream(["Hi", { usage: [7, 1] }]));
    const refusal = await refusalOf(await send(on, openJob(on, { body }), 29n));
    expect(refusal).to.deep.equal({ status: 402, code: "receipt-too-small", need: "30" });
  });

  it("answers with one body that the transcript covers, and the delivery in a header", async () => {
    const on = await start(new ScriptedUpstream(["Hel", "lo", { usage: [7, 2] }]));
    const response = await send(on, openJob(on, { body }), 30n);
    const text = await response.text();
    const delivery = deliveryOf(response);
    expect(JSON.parse(text)).to.deep.include({ object: "chat.completion" });
    expect(JSON.parse(text).choices[0].message.content).to.equal("Hello");
    expect(delivery).to.include({ promptTokens: 7, completionTokens: 2, jobCharge: 9n });
    expect(delivery.transcript).to.equal(transcriptOf(delivery.requestId, [text]));
  });

  it("charges nothing when the upstream fails, for nothing was released", async () => {
    const on = await start(new ScriptedUpstream([...words(3), { fail: BROKEN }]));
    const job = openJob(on, { body });
    expect(await refusalOf(await send(on, job, 30n))).to.deep.equal({ status: 502, code: "upstream-failed" });
    expect(on.ledger.findJob(job.jobId)?.charge).to.equal(0n);
  });

  it("is answered again from the ledger without running twice", async () => {
    const upstream = new ScriptedUpstream(["Hi", { usage: [7, 1] }]);
    const on = await start(upstream);
    const job = openJob(on, { body });
    const first = await send(on, job, 30n);
    const again = await send(on, job, 30n);
    expect(await again.text()).to.equal(await first.text());
    expect(deliveryOf(again)).to.deep.equal(deliveryOf(first));
    expect(upstream.runs).to.have.length(1);
  });
});
