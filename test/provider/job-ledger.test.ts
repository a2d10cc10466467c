import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { expect } from "chai";
import { deliveryDigest } from "../../protocol/delivery.ts";
import type { Receipt } from "../../protocol/receipt.ts";
import { transcriptOf } from "../../protocol/transcript.ts";
import { recoverSigner } from "../../runtime/signers/secp256k1.ts";
import { failureOf } from "../support/machine.ts";
import {
  addFundedJob,
  createFolder,
  DOMAIN,
  type Ledgers,
  NODE,
  newRequest,
  openLedgers,
  receiptOf,
  SESSION_TERMS,
  SINGLE_TERMS,
  word,
} from "./ledger-fixture.ts";

const counts = (promptTokens: number, completionTokens: number) => ({ promptTokens, completionTokens });

describe("job ledger", () => {
  const folder = createFolder();
  let ledgers: Ledgers;
  let jobId: `0x${string}`;
  let run = 0;

  beforeEach(() => {
    ledgers = openLedgers(`${folder.path}/${run++}`);
    jobId = addFundedJob(ledgers, SINGLE_TERMS, 10_000n);
  });
  afterEach(() => ledgers.store.close());
  after(() => folder.remove());

  /** Lets the process state go, as a crash would, and opens the same store again. */
  const reopen = () => {
    ledgers.store.close();
    ledgers = openLedgers(`${folder.path}/${run - 1}`);
    return ledgers.ledger;
  };

  it("keeps the highest receipt, whatever order they come in", async () => {
    const { ledger } = ledgers;
    expect(await ledger.acceptReceipt(receiptOf(jobId, 500n))).to.equal(500n);
    expect(await ledger.acceptReceipt(receiptOf(jobId, 300n))).to.equal(500n);
    expect(await ledger.acceptReceipt(receiptOf(jobId, 900n))).to.equal(900n);
    expect(reopen().findJob(jobId)?.receipt).to.deep.equal(receiptOf(jobId, 900n));
  });

  it("refuses a receipt that no deposit could cover, and one of an unknown job", async () => {
    const { ledger } = ledgers;
    const codeOf = async (receipt: Receipt) => (await failureOf(() => ledger.acceptReceipt(receipt))).code;
    expect(await codeOf(receiptOf(jobId, 1n << 64n))).to.equal("bad-receipt");
    expect(await codeOf(receiptOf(word(9), 1n))).to.equal("job-not-found");
  });

  it("binds the terms that open the job's hash, once, and no others", () => {
    const { ledger } = ledgers;
    expect(() => ledger.bindTerms(jobId, { ...SINGLE_TERMS, salt: word(8) }))
      .to.throw()
      .with.property("code", "request-mismatch");
    ledger.bindTerms(jobId, SINGLE_TERMS);
    expect(ledger.findJob(jobId)).to.include(SINGLE_TERMS);
  });

  it("releases in order, extends the transcript and replays after any event", async () => {
    const { ledger } = ledgers;
    const request = newRequest(jobId);
    await ledger.startRequest(request);
    await Promise.all([
      ledger.release(request.requestId, ["a", "b"], counts(0, 2)),
      ledger.release(request.requestId, ["c"], counts(0, 3)),
    ]);
    const found = reopen().findRequest(request.requestId)!;
    expect(found).to.include({ lastEventId: 3, status: "running" });
    expect(found.transcript).to.equal(transcriptOf(request.requestId, ["a", "b", "c"]));
    expect(ledgers.ledger.payloadsAfter(request.requestId, 1)).to.deep.equal([
      { id: 2, payload: "b" },
      { id: 3, payload: "c" },
    ]);
  });

  it("ends a request with a delivery that the node signed, and gives the same one again", async () => {
    const { ledger } = ledgers;
    const { requestId } = newRequest(jobId);
    await ledger.startRequest(newRequest(jobId));
    await ledger.release(requestId, ["a"], counts(0, 7));
    const end = { counts: counts(90, 8), estimated: false, reason: "stop" };
    const delivery = await ledger.endRequest(requestId, end);
    expect(delivery).to.include({ jobId, requestId, promptTokens: 90, completionTokens: 8, jobCharge: 220n });
    expect(recoverSigner(deliveryDigest(DOMAIN, delivery), delivery.signature)).to.equal(NODE.address);
    expect(await ledger.endRequest(requestId, { ...end, counts: counts(900, 900) })).to.deep.equal(delivery);
    expect(reopen().findRequest(requestId)?.delivery).to.deep.equal(delivery);
    expect(ledgers.ledger.findJob(jobId)?.reserved).to.equal(0n);
  });

  it("releases nothing once the request has ended", async () => {
    const { ledger } = ledgers;
    const { requestId } = newRequest(jobId);
    await ledger.startRequest(newRequest(jobId));
    const ended = ledger.endWithoutUsage(requestId, "aborted");
    const late = await ledger.release(requestId, ["late"], counts(0, 9)).catch((error) => error);
    expect(late).to.have.property("code", "interrupted");
    expect(await ended).to.include({ promptTokens: 0, completionTokens: 0, jobCharge: 0n });
  });

  it("a single job is over when its request ends; a session when it is finished", async () => {
    const { ledger } = ledgers;
    await ledger.startRequest(newRequest(jobId));
    expect(() => ledger.finishJob(jobId))
      .to.throw()
      .with.property("code", "request-in-progress");
    await ledger.endWithoutUsage(newRequest(jobId).requestId, "aborted");
    expect(ledger.findJob(jobId)?.state).to.equal("settling");
    expect((await failureOf(() => ledger.startRequest(newRequest(jobId, 2)))).code).to.equal("job-closed");

    const session = addFundedJob(ledgers, SESSION_TERMS, 10_000n);
    for (const index of [3, 4]) await ledger.startRequest(newRequest(session, index));
    expect(ledger.findJob(session)?.reserved).to.equal(1680n);
    for (const index of [3, 4]) await ledger.endWithoutUsage(word(0x40 + index), "aborted");
    expect(ledger.findJob(session)?.state).to.equal("funded");
    ledger.finishJob(session);
    expect(ledger.findJob(session)?.state).to.equal("settling");
  });

  it("rounds the charge of several requests once", async () => {
    const { ledger } = ledgers;
    const session = addFundedJob(ledgers, SESSION_TERMS, 10_000n);
    const prices = { inputPrice: 0n, outputPrice: 100_000n };
    for (const index of [1, 2, 3]) {
      await ledger.startRequest({ ...newRequest(session, index), prices });
      await ledger.release(word(0x40 + index), ["x"], counts(0, 3));
    }
    expect(ledger.findJob(session)?.charge).to.equal(1n);
  });

  it("forgets a request of which nothing was released, so that it may be sent again, and no other", async () => {
    const { ledger } = ledgers;
    const { requestId } = newRequest(jobId);
    await ledger.startRequest(newRequest(jobId));
    ledger.forgetRequest(requestId, "upstream-failed");
    expect(ledger.findRequest(requestId)).to.equal(undefined);
    expect(ledger.findJob(jobId)?.reserved).to.equal(0n);
    expect(ledgers.told.at(-1)).to.include({ type: "streamEnded", requestId, jobCharge: 0n });
    await ledger.startRequest(newRequest(jobId));
    await ledger.release(requestId, ["text"], counts(0, 1));
    ledger.forgetRequest(requestId, "upstream-failed");
    expect(ledger.findRequest(requestId)).to.include({ status: "running", lastEventId: 1 });
  });

  describe("a request that ends without usage", () => {
    const endAfter = async (
      signed: bigint,
      released: { promptTokens: number; completionTokens: number } | null,
    ) => {
      const { ledger } = ledgers;
      const { requestId } = newRequest(jobId);
      await ledger.acceptReceipt(receiptOf(jobId, signed));
      await ledger.startRequest(newRequest(jobId));
      if (released) await ledger.release(requestId, ["text"], released);
      const running = reopen().runningRequests();
      expect(running.map((request) => request.requestId)).to.deep.equal([requestId]);
      return await ledgers.ledger.endWithoutUsage(requestId, "the node crashed");
    };

    it("costs nothing when nothing was released", async () => {
      expect(await endAfter(900n, null)).to.include({ promptTokens: 0, completionTokens: 0, jobCharge: 0n });
    });
    it("costs the released tokens and a quarter of the prompt's bytes, marked as estimated", async () => {
      const delivery = await endAfter(900n, counts(0, 10));
      expect(delivery).to.include({
        promptTokens: 100,
        completionTokens: 10,
        estimated: true,
        jobCharge: 250n,
      });
    });
    it("costs no more of the prompt than was signed for", async () => {
      expect(await endAfter(101n, counts(0, 10))).to.include({ promptTokens: 25, jobCharge: 100n });
    });
    it("costs none of the prompt when the receipt covers only the completion", async () => {
      expect(await endAfter(50n, counts(0, 10))).to.include({ promptTokens: 0, jobCharge: 50n });
    });
    it("costs the upstream's count of the prompt when it told one", async () => {
      expect(await endAfter(50n, counts(120, 10))).to.include({ promptTokens: 120, jobCharge: 290n });
    });
  });

  it("forgets output an hour after the end, and not before", async () => {
    const { ledger, clock } = ledgers;
    const session = addFundedJob(ledgers, SESSION_TERMS, 10_000n);
    const endOne = async (index: number) => {
      await ledger.startRequest(newRequest(session, index));
      await ledger.release(word(0x40 + index), ["x"], counts(0, 1));
      await ledger.endWithoutUsage(word(0x40 + index), "aborted");
    };
    await endOne(1);
    clock.now += 3600;
    await endOne(2);
    expect(ledger.payloadsAfter(word(0x41), 0)).to.have.length(1);
    clock.now += 1;
    await endOne(3);
    expect(ledger.payloadsAfter(word(0x41), 0)).to.have.length(0);
    expect(ledger.payloadsAfter(word(0x42), 0)).to.have.length(1);
    expect(ledger.findRequest(word(0x41))?.delivery).to.not.equal(null);
    clock.now += 3601;
    ledger.forgetOldOutput();
    for (const index of [2, 3]) expect(ledger.payloadsAfter(word(0x40 + index), 0)).to.have.length(0);
    const kept = ledgers.store.db.prepare("SELECT count(*) AS rows FROM payloads").get();
    expect(kept).to.deep.equal({ ...kept, rows: 0 });
  });

  it("a killed process has recorded every payload that it let go", async () => {
    const path = `${folder.path}/killed`;
    const script = fileURLToPath(new URL("./releasing-process.ts", import.meta.url));
    const child = spawn(process.execPath, ["--import", "tsx", script, path], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    let left = 0;
    for await (const line of createInterface({ input: child.stdout })) {
      left = Number(line);
      if (left === 40) child.kill("SIGKILL");
    }
    await once(child, "close").catch(() => {});
    expect(child.signalCode).to.equal("SIGKILL");
    ledgers.store.close();
    ledgers = openLedgers(path);
    const [request] = ledgers.ledger.runningRequests();
    expect(request!.lastEventId).to.be.at.least(left);
    expect(request!.counts.completionTokens).to.equal(request!.lastEventId);
    const payloads = ledgers.ledger.payloadsAfter(request!.requestId, 0).map(({ payload }) => payload);
    expect(transcriptOf(request!.requestId, payloads)).to.equal(request!.transcript);
  });
});
