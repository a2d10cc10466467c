// The routes beside the paid ones: the offer, the models, liveness, and a job's document and close.
import { expect } from "chai";
import type { Hex } from "../../protocol/bytes.ts";
import { requestHashOf, SESSION_REQUEST_HASH, sessionRequestId } from "../../protocol/job.ts";
import { offerDigest, parseServedOffer } from "../../protocol/offer.ts";
import { HEADERS, jobDocumentSchema } from "../../protocol/wire.ts";
import { recoverSigner } from "../../runtime/signers/secp256k1.ts";
import { ScriptedUpstream } from "../support/scripted-upstream.ts";
import { createFolder, DOMAIN, NODE, word } from "./ledger-fixture.ts";
import {
  CHAT,
  openJob,
  readAnswer,
  readWhole,
  refusalOf,
  SALT,
  type Serving,
  send,
  startServing,
} from "./serving-fixture.ts";

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
    expect(other.ledger.findJob(job.jobId)?.charge).to.equal(12n);
    expect((await read(requestId, word(0x77))).status).to.equal(404);
    expect((await read(word(0xcc), SALT)).status).to.equal(404);
    await other.stop();
  });

  it("close a job that was never asked for, for those who show the terms that open its hash", async () => {
    const salt = word(0x32);
    const session = openJob(on, { salt, session: true });
    const single = openJob(on, { salt });
    const offer = on.offers.current().offerHash;
    const close = async ({ jobId }: { jobId: string }, headers: Record<string, string>) => {
      const url = `${on.url}/infernet/jobs/${jobId}/close`;
      return await fetch(url, { method: "POST", headers });
    };
    const terms = { [HEADERS.salt]: salt, [HEADERS.offer]: offer };
    for (const wrong of [
      { [HEADERS.salt]: salt },
      { ...terms, [HEADERS.salt]: SALT },
      { ...terms, [HEADERS.offer]: word(0x33) },
      { ...terms, [HEADERS.request]: word(0x33) },
      { ...terms, [HEADERS.request]: "nonsense" },
    ]) {
      expect((await close(session, wrong)).status).to.equal(404);
    }
    expect(on.ledger.findJob(session.jobId)).to.include({ state: "funded", salt: null });
    const request = requestHashOf(CHAT, single.body);
    expect((await close(single, terms)).status).to.equal(404);
    for (const answer of [
      await close(session, terms),
      await close(single, { ...terms, [HEADERS.request]: request }),
    ]) {
      expect(jobDocumentSchema.parse(await answer.json())).to.deep.include({
        status: "settling",
        charge: 0n,
        requests: [],
      });
    }
    expect(on.ledger.findJob(session.jobId)).to.include({ salt, closeAsked: true });
    expect((await close(session, terms)).status).to.equal(200);
    expect(
      await refusalOf(await send(on, session, 18n, { extra: { [HEADERS.idempotencyKey]: "late" } })),
    ).to.include({ code: "job-closed" });
  });

  it("show the last requests of a session, and each other one by its id", async () => {
    const other = await startServing(`${folder.path}/many`, new ScriptedUpstream(["a", { usage: [10, 1] }]));
    const [job, stranger] = [
      openJob(other, { session: true }),
      openJob(other, { session: true, salt: word(0x34) }),
    ];
    const ids: Hex[] = [];
    for (let index = 0; index < 25; index++) {
      const key = `key-${index}`;
      ids.push(sessionRequestId(job.jobId, key));
      await readWhole(
        await send(other, job, 11n * BigInt(index) + 18n, { extra: { [HEADERS.idempotencyKey]: key } }),
      );
      other.clock.now += 1;
    }
    const read = async (query: string, { jobId }: { jobId: Hex } = job) => {
      const url = `${other.url}/infernet/jobs/${jobId}${query}`;
      const headers = { [HEADERS.salt]: jobId === job.jobId ? SALT : word(0x34) };
      return jobDocumentSchema.parse(await (await fetch(url, { headers })).json());
    };
    const { requests, charge } = await read("");
    expect(charge).to.equal(275n);
    expect(requests.map(({ requestId }) => requestId)).to.deep.equal(ids.slice(5).reverse());
    const [first, ...others] = (await read(`?request=${ids[0]}`)).requests;
    expect(others).to.deep.equal([]);
    expect(first!.delivery).to.include({ requestId: ids[0], jobCharge: 11n });
    for (const nothing of ["?request=", `?request=${word(9)}`, `?request=${ids[0]}&request=${ids[1]}`])
      expect((await read(nothing)).requests).to.deep.equal([]);
    other.ledger.bindTerms(stranger.jobId, {
      salt: word(0x34),
      offerHash: other.offers.current().offerHash,
      requestHash: SESSION_REQUEST_HASH,
    });
    expect((await read(`?request=${ids[0]}`, stranger)).requests).to.deep.equal([]);
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
