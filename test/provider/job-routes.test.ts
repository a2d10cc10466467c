// The routes beside the paid ones: the offer, the models, liveness, and a job's document and close.
import { expect } from "chai";
import { offerDigest, parseServedOffer } from "../../protocol/offer.ts";
import { HEADERS, jobDocumentSchema } from "../../protocol/wire.ts";
import { recoverSigner } from "../../runtime/signers/secp256k1.ts";
import { ScriptedUpstream } from "../support/scripted-upstream.ts";
import { createFolder, DOMAIN, NODE, word } from "./ledger-fixture.ts";
import { openJob, readAnswer, readWhole, SALT, type Serving, send, startServing } from "./serving-fixture.ts";

describe("a provider's routes", () => {
  const folder = createFolder();
  const gate = Promise.withResolvers<void>();
  let on: Serving;
  before(async () => {
    on = await startServing(
      folder.path,
      new ScriptedUpstream(["a", { until: gate.promise }, { usage: [10, 1] }]),
    );
  });
  after(async () => {
    await on.stop();
    folder.remove();
  });

  it("serve the offer as it was signed", async () => {
    const text = await (await fetch(`${on.url}/.well-known/infernet`)).text();
    const { offer, offerHash, signature } = parseServedOffer(text);
    expect(recoverSigner(offerDigest(DOMAIN, offer, offerHash), signature)).to.equal(NODE.address);
    expect(offerHash).to.equal(on.offers.current().offerHash);
  });

  it("list the models as OpenAI does, and say that the node lives", async () => {
    const models = (await (await fetch(`${on.url}/v1/models`)).json()) as {
      object: string;
      data: { id: string }[];
    };
    expect(models.object).to.equal("list");
    expect(models.data.map(({ id }) => id)).to.deep.equal(["tiny"]);
    expect(await (await fetch(`${on.url}/healthz`)).json()).to.deep.equal({ status: "ok" });
  });

  it("tell a job's state to those who have its salt, and close it once nothing of it runs", async () => {
    const job = openJob(on);
    const url = `${on.url}/infernet/jobs/${job.jobId}`;
    const headers = { [HEADERS.salt]: SALT };
    const response = await send(on, job, 18n);
    const running = jobDocumentSchema.parse(await (await fetch(url, { headers })).json());
    expect(running).to.include({ status: "open", deposit: 1000n, receipt: 18n });
    expect(running.requests[0]).to.include({ status: "running", delivery: null });
    expect((await fetch(`${url}/close`, { method: "POST", headers })).status).to.equal(409);

    gate.resolve();
    const { delivery } = await readWhole(response);
    const closed = await fetch(`${url}/close`, { method: "POST", headers });
    const document = jobDocumentSchema.parse(await closed.json());
    expect(document).to.include({ status: "settling", charge: 11n });
    expect(document.requests[0]!.delivery).to.deep.equal(delivery);
    expect(on.reviews()).to.equal(1);
  });

  it("end what a requester left running when it closes the job, charging what was released", async () => {
    const other = await startServing(`${folder.path}/left`, new ScriptedUpstream(["a", { hang: true }]));
    const job = openJob(other);
    const leave = new AbortController();
    for await (const event of readAnswer(await send(other, job, 18n, { signal: leave.signal }))) {
      if ("payload" in event && event.payload.includes('"a"')) break;
    }
    leave.abort();
    const url = `${other.url}/infernet/jobs/${job.jobId}/close`;
    const closed = await fetch(url, { method: "POST", headers: { [HEADERS.salt]: SALT } });
    const document = jobDocumentSchema.parse(await closed.json());
    expect(document).to.include({ status: "settling", charge: 11n });
    expect(document.requests[0]!.delivery).to.include({ completionTokens: 1, estimated: true });
    await other.stop();
  });

  it("give an answer again once it has ended, to those who have the job's salt, and charge nothing for it", async () => {
    const open = Promise.withResolvers<void>();
    const script = ["a", "b", { until: open.promise }, { usage: [10, 2] as [number, number] }];
    const other = await startServing(`${folder.path}/again`, new ScriptedUpstream(script));
    const job = openJob(other);
    const response = await send(other, job, 18n);
    const url = `${other.url}/infernet/jobs/${job.jobId}`;
    const { requests } = jobDocumentSchema.parse(
      await (await fetch(url, { headers: { [HEADERS.salt]: SALT } })).json(),
    );
    const read = (requestId: string, salt: string) =>
      fetch(`${url}/requests/${requestId}`, { headers: { [HEADERS.salt]: salt } });
    const { requestId } = requests[0]!;
    expect((await read(requestId, SALT)).status).to.equal(409);
    open.resolve();
    const first = await readWhole(response);
    const again = await read(requestId, SALT);
    expect(again.headers.get("content-type")).to.contain("text/event-stream");
    expect(await readWhole(again)).to.deep.equal(first);
    expect(other.ledger.jobCharge(job.jobId)).to.equal(12n);
    expect((await read(requestId, word(0x77))).status).to.equal(404);
    expect((await read(word(0xcc), SALT)).status).to.equal(404);
    await other.stop();
  });

  it("hide a job from everybody else: wrong salt, no salt and unknown job are the same 404", async () => {
    const job = openJob(on, { salt: word(0x31) });
    const read = async (jobId: string, headers: Record<string, string>) => {
      const response = await fetch(`${on.url}/infernet/jobs/${jobId}`, { headers });
      return { status: response.status, body: await response.text() };
    };
    const unused = await read(job.jobId, { [HEADERS.salt]: word(0x31) });
    expect(unused.status).to.equal(404);
    expect(await read(job.jobId, { [HEADERS.salt]: SALT })).to.deep.equal(unused);
    expect(await read(job.jobId, {})).to.deep.equal(unused);
    expect(await read(word(0xcc), { [HEADERS.salt]: SALT })).to.deep.equal(unused);
    expect(await read("nonsense", { [HEADERS.salt]: SALT })).to.deep.equal(unused);
  });
});
