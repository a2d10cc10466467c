import { join } from "node:path";
import { expect } from "chai";
import fc from "fast-check";
import { formatCsv } from "../../cli/csv.ts";
import { openLedger } from "../../requester/ledger.ts";
import { REQUESTER_MIGRATIONS } from "../../requester/ledger-rows.ts";
import { readSpending, type SpendingSum } from "../../requester/spending.ts";
import { openStore } from "../../runtime/store.ts";
import { temporaryFolder } from "../support/machine.ts";
import { holds } from "../support/properties.ts";
import { account, openJob, word } from "./examples.ts";

const SECONDS_PER_DAY = 86_400;
const spentRequest = fc.record({
  node: fc.integer({ min: 1, max: 3 }),
  model: fc.constantFrom("a", "b", 'c,"d"'),
  createdAt: fc.integer({ min: 1_800_000_000, max: 1_800_000_000 + 3 * SECONDS_PER_DAY }),
  end: fc.constantFrom("ended", "lost", "running", "refused"),
  cost: fc.bigInt({ min: 0n, max: 10n ** 15n }),
  allowed: fc.bigInt({ min: 0n, max: 10n ** 12n }),
  promptTokens: fc.integer({ min: 0, max: 9_999 }),
  completionTokens: fc.integer({ min: 0, max: 9_999 }),
});

describe("spending", () => {
  it("sums to the ledger to the millionth, by day, by node and by model, whatever is asked for", () => {
    const run = (wanted: { since: number; until: number; node: number; model: string }, all: unknown[]) => {
      const requests = all as ReturnType<typeof spentRequest.generate>["value"][];
      const store = openStore(join(temporaryFolder(), "requester.db"), REQUESTER_MIGRATIONS);
      try {
        const ledger = openLedger(store);
        const jobId = openJob(ledger, {});
        for (const [index, request] of requests.entries()) {
          const { createdAt, promptTokens, completionTokens, cost } = request;
          const requestId = word(index + 100);
          ledger.requests.start({
            ...{ requestId, jobId, idempotencyKey: `k${index}`, bodyHash: word(1), path: "/v1/completions" },
            ...{
              node: account(request.node),
              model: request.model,
              createdAt,
              promptBound: 1,
              tokenLimit: 1,
            },
            ...{ day: Math.floor(createdAt / SECONDS_PER_DAY), canCost: 1n },
          });
          ledger.requests.allow(requestId, request.allowed);
          if (request.end === "lost") ledger.requests.lose(requestId, createdAt);
          if (request.end === "refused") ledger.requests.refuse(requestId, createdAt);
          if (request.end !== "ended") continue;
          ledger.requests.end(
            requestId,
            {
              ...{
                jobId,
                requestId,
                transcript: word(3),
                modelDigest: word(4),
                promptTokens,
                completionTokens,
              },
              ...{ estimated: false, cost, jobCharge: 1n, signature: `0x${"11".repeat(65)}` },
            },
            createdAt,
          );
        }
        const all = readSpending(store);
        expect(all.total.cost).to.equal(ledger.findJob(jobId)!.settled);
        const open = requests.filter(({ end }) => end === "lost" || end === "running");
        expect(all.total.pending).to.equal(open.reduce((sum, { allowed }) => sum + allowed, 0n));
        const filter = { ...wanted, node: account(wanted.node) };
        for (const spending of [all, readSpending(store, filter)]) {
          const { total } = spending;
          for (const sums of [spending.days, spending.nodes, spending.models])
            expect(sumOf([...sums.values()])).to.deep.equal(total);
          expect(spending.requests).to.have.length(total.requests);
        }
        const fitting = requests.filter(
          ({ node, model, createdAt, end }) =>
            end === "ended" &&
            node === wanted.node &&
            model === wanted.model &&
            createdAt >= wanted.since &&
            createdAt < wanted.until,
        );
        expect(readSpending(store, filter).total.cost).to.equal(
          fitting.reduce((sum, { cost }) => sum + cost, 0n),
        );
        expect(readSpending(store, { job: word(9) }).total.requests).to.equal(0);
      } finally {
        store.close();
      }
    };
    const wish = fc.record({
      since: fc.constantFrom(0, 1_800_050_000),
      until: fc.constantFrom(1_800_100_000, 2_000_000_000),
      node: fc.integer({ min: 1, max: 3 }),
      model: fc.constantFrom("a", "b", 'c,"d"'),
    });
    holds(fc.property(wish, fc.array(spentRequest, { maxLength: 12 }), run), 15);
  }).timeout(30_000);

  it("writes values that hold commas, quotes and lines so that other programs read them back", () => {
    const records = [
      { a: 'x,"y"', b: 1 },
      { a: "two\nlines", b: null },
      { a: "=1+1", b: true },
    ];
    expect(formatCsv(["a", "b"], records)).to.equal('a,b\r\n"x,""y""",1\r\n"two\nlines",\r\n\'=1+1,true\r\n');
  });
});

function sumOf(sums: readonly SpendingSum[]): SpendingSum {
  const sum = { requests: 0, promptTokens: 0, completionTokens: 0, cost: 0n, pending: 0n };
  for (const part of sums) {
    sum.requests += part.requests;
    sum.promptTokens += part.promptTokens;
    sum.completionTokens += part.completionTokens;
    sum.cost += part.cost;
    sum.pending += part.pending;
  }
  return sum;
}
