// A job's running sums are what its requests' rows sum to, after any order of work and in a store of an older version.
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { expect } from "chai";
import fc from "fast-check";
import type { Hex } from "../../protocol/bytes.ts";
import { costMillionths, roundCharge } from "../../protocol/price.ts";
import { type JobSums, type Row, readingBigInts, requestOfRow } from "../../provider/ledger-rows.ts";
import { PROVIDER_MIGRATIONS } from "../../provider/ledger-schema.ts";
import { openStore, type Store } from "../../runtime/store.ts";
import { holds, holdsAsync } from "../support/properties.ts";
import {
  addFundedJob,
  createFolder,
  type Ledgers,
  newRequest,
  openLedgers,
  receiptOf,
  SESSION_TERMS,
  word,
} from "./ledger-fixture.ts";

/** The migrations before sums were kept. */
const WITHOUT_SUMS = PROVIDER_MIGRATIONS.slice(0, 2);
const OPENING_FEE = 7n;

function sumRows(store: Store, jobId: Hex, openingFee: bigint): JobSums {
  const statement = readingBigInts(store.db.prepare("SELECT * FROM requests WHERE job_id = ?"));
  const requests = (statement.all(jobId) as Row[]).map(requestOfRow);
  const costOf = (status: string) =>
    requests
      .filter((request) => request.status === status)
      .reduce((sum, { counts, prices }) => sum + costMillionths(counts, prices), 0n);
  const running = requests.filter(({ status }) => status === "running");
  const [endedCost, runningCost] = [costOf("ended"), costOf("running")];
  return {
    charge: openingFee + roundCharge(endedCost + runningCost),
    endedCharge: openingFee + roundCharge(endedCost),
    endedCost,
    runningCost,
    reserved: running.reduce((sum, { reserved }) => sum + reserved, 0n),
    running: running.length,
  };
}

const price = fc.oneof(
  fc.constantFrom(0n, 1n, 999_999n, 1_000_000n),
  fc.bigInt({ min: 0n, max: 10n ** 13n }),
);
const tokens = fc.oneof(fc.constant(0), fc.nat(300), fc.nat(200_000));
const step = fc.record({
  act: fc.constantFrom(
    "start",
    "start",
    "release",
    "release",
    "reserve",
    "end",
    "abort",
    "forget",
    "restart",
  ),
  request: fc.integer({ min: 1, max: 5 }),
  inputPrice: price,
  outputPrice: price,
  promptTokens: tokens,
  completionTokens: tokens,
});
type Step = typeof step extends fc.Arbitrary<infer Value> ? Value : never;

/** Does a step if it can be done; what the ledger refuses changes nothing. */
async function apply({ ledger }: Ledgers, jobId: Hex, step: Step): Promise<void> {
  const { act, request, inputPrice, outputPrice, promptTokens, completionTokens } = step;
  const { requestId, ...rest } = newRequest(jobId, request);
  const counts = { promptTokens, completionTokens };
  const found = ledger.findRequest(requestId);
  if (act === "start" && !found)
    await ledger.startRequest({ requestId, ...rest, prices: { inputPrice, outputPrice } });
  if (found?.status !== "running") return;
  const reserved = act === "reserve" ? BigInt(completionTokens) : undefined;
  if (act === "release" || act === "reserve") await ledger.release(requestId, ["x"], counts, reserved);
  if (act === "end") await ledger.endRequest(requestId, { counts, estimated: false, reason: "stop" });
  if (act === "abort") await ledger.endWithoutUsage(requestId, "aborted");
  if (act === "forget") ledger.forgetRequest(requestId, "failed");
}

describe("a job's running sums", () => {
  const folder = createFolder();
  let run = 0;
  after(() => folder.remove());

  it("equal its rows after every start, release, reservation, end, forgetting and restart", async () => {
    const property = fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
      const path = `${folder.path}/${run++}`;
      let ledgers = openLedgers(path);
      const jobId = addFundedJob(ledgers, SESSION_TERMS, 1n << 50n);
      const other = addFundedJob(ledgers, { ...SESSION_TERMS, salt: word(8) }, 1_000n);
      await ledgers.ledger.acceptReceipt(receiptOf(jobId, 1n << 49n));
      for (const one of steps) {
        if (one.act === "restart") {
          ledgers.store.close();
          ledgers = openLedgers(path);
        } else await apply(ledgers, jobId, one);
        expect(ledgers.ledger.findJob(jobId)).to.deep.include(sumRows(ledgers.store, jobId, 0n));
      }
      expect(ledgers.ledger.findJob(other)).to.deep.include(sumRows(ledgers.store, other, 0n));
      ledgers.store.close();
    });
    await holdsAsync(property, 40);
  }).timeout(30_000);

  it("are right in a store that was written before they were kept", () => {
    const row = fc.record({
      job: fc.integer({ min: 1, max: 3 }),
      status: fc.constantFrom("running", "ended"),
      inputPrice: price,
      outputPrice: price,
      promptTokens: tokens,
      completionTokens: tokens,
    });
    const property = fc.property(fc.array(row, { maxLength: 30 }), (rows) => {
      const path = `${folder.path}/${run++}`;
      mkdirSync(path);
      const file = join(path, "provider.db");
      const old = openStore(file, WITHOUT_SUMS);
      for (const job of [1, 2, 3]) insertOldJob(old, word(job));
      rows.forEach((one, index) => {
        const reserved = one.status === "running" ? BigInt(index) : 0n;
        insertOldRequest(old, { ...one, jobId: word(one.job), requestId: word(0x40 + index), reserved });
      });
      old.close();
      const ledgers = openLedgers(path);
      for (const job of [1, 2, 3]) {
        const sums = sumRows(ledgers.store, word(job), OPENING_FEE);
        expect(ledgers.ledger.findJob(word(job))).to.deep.include(sums);
      }
      ledgers.store.close();
    });
    holds(property, 20);
  }).timeout(30_000);
});

function insertOldJob({ db }: Store, jobId: Hex): void {
  db.prepare(`
    INSERT INTO jobs (job_id, requester, signer, node, payee, job_hash, deadline, deposit, opened_at, opened_block,
      registered_payee, opening_fee, state)
    VALUES (?, '0x1', '0x2', '0x3', '0x4', '0x5', 2, 1000, 1, 1, '0x4', ?, 'funded')`).run(
    jobId,
    OPENING_FEE,
  );
}

function insertOldRequest(
  { db }: Store,
  row: Omit<Step, "act" | "request"> & { requestId: Hex; jobId: Hex; status: string; reserved: bigint },
): void {
  db.prepare(`
    INSERT INTO requests (request_id, job_id, request_hash, model, model_digest, path, input_price, output_price,
      prompt_text_bytes, status, reserved, prompt_tokens, completion_tokens, transcript)
    VALUES (?, ?, '0x1', 'tiny', '0x2', '/v1/completions', ?, ?, 1, ?, ?, ?, ?, '0x3')`).run(
    row.requestId,
    row.jobId,
    row.inputPrice,
    row.outputPrice,
    row.status,
    row.reserved,
    row.promptTokens,
    row.completionTokens,
  );
}
