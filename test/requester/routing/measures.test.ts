import { join } from "node:path";
import { expect } from "chai";
import { type ErrorCode, InfernetError } from "../../../protocol/errors.ts";
import { REQUESTER_MIGRATIONS } from "../../../requester/ledger-rows.ts";
import { openMeasures } from "../../../requester/routing/measures.ts";
import { openStore, type Store } from "../../../runtime/store.ts";
import { temporaryFolder } from "../../support/machine.ts";
import { account } from "../examples.ts";

const [NODE, OTHER] = [account(1), account(2)];

describe("the measured table", () => {
  let now: number;
  let path: string;
  let store: Store;
  const open = () => {
    store = openStore(path, REQUESTER_MIGRATIONS);
    return openMeasures({ store, clock: { nowSeconds: () => now } });
  };
  const failing = (code: ErrorCode, data = {}) => new InfernetError(code, `${code} it is`, { data });
  beforeEach(() => {
    now = 1_000;
    path = join(temporaryFolder(), "requester.db");
  });
  afterEach(() => store.close());

  it("keeps decaying averages of what was measured, and skips what was not", () => {
    const measures = open();
    expect(measures.of(NODE, "m")).to.include({ requests: 0, firstTokenMs: null, tokensPerSecond: null });
    measures.noteServed(NODE, "m", { firstTokenMs: 100, tokensPerSecond: null });
    measures.noteServed(NODE, "m", { firstTokenMs: 200, tokensPerSecond: 50 });
    measures.noteServed(NODE, "m", { firstTokenMs: null, tokensPerSecond: 50 });
    expect(measures.of(NODE, "m")).to.include({ requests: 3, firstTokenMs: 130, tokensPerSecond: 50 });
    expect(measures.of(OTHER, "m").requests, "another node's").to.equal(0);
  });

  it("counts failures into an error rate that successes wear off", () => {
    const measures = open();
    measures.noteFailed(NODE, "m", failing("upstream-failed"));
    expect(measures.of(NODE, "m").errorRate).to.be.closeTo(0.2, 1e-9);
    measures.noteFailed(NODE, "m", failing("upstream-failed"));
    expect(measures.of(NODE, "m").errorRate).to.be.closeTo(0.36, 1e-9);
    measures.noteServed(NODE, "m", { firstTokenMs: 1, tokensPerSecond: 1 });
    expect(measures.of(NODE, "m").errorRate).to.be.closeTo(0.288, 1e-9);
  });

  it("cools a node down for twice as long with each failure in a row, up to ten minutes", () => {
    const measures = open();
    const waits = Array.from({ length: 9 }, () => {
      measures.noteFailed(NODE, "m", failing("node-unreachable"));
      return measures.of(NODE, "m").coolUntil! - now;
    });
    expect(waits).to.deep.equal([5, 10, 20, 40, 80, 160, 320, 600, 600]);
    expect(measures.of(NODE, "m").coolReason).to.equal("node-unreachable");
    now += 600;
    expect(measures.of(NODE, "m")).to.include({ coolUntil: null, coolReason: null });
    measures.noteServed(NODE, "m", { firstTokenMs: 1, tokensPerSecond: 1 });
    measures.noteFailed(NODE, "m", failing("node-unreachable"));
    expect(measures.of(NODE, "m").coolUntil! - now, "after a success").to.equal(5);
  });

  it("cools the whole node for what the node did, and one model for what the model did", () => {
    const measures = open();
    measures.noteFailed(NODE, "m", failing("upstream-failed"));
    expect(measures.of(NODE, "m").coolUntil).to.equal(1_005);
    expect(measures.of(NODE, "other").coolUntil).to.equal(null);
    measures.noteFailed(OTHER, "m", failing("node-unreachable"));
    expect(measures.of(OTHER, "other").coolUntil).to.equal(1_005);
  });

  it("waits as long as a busy node says, within a minute, and holds it against nobody", () => {
    const measures = open();
    for (const [retryAfter, seconds] of [
      [7, 7],
      [undefined, 1],
      [0, 1],
      [86_400, 60],
      ["soon", 1],
    ] as const) {
      measures.noteFailed(NODE, "m", failing("node-busy", retryAfter === undefined ? {} : { retryAfter }));
      expect(measures.of(NODE, "m").coolUntil! - now, String(retryAfter)).to.equal(seconds);
      now += seconds;
    }
    expect(measures.of(NODE, "m").errorRate).to.equal(0);
    measures.noteFailed(NODE, "m", failing("node-unreachable"));
    expect(measures.of(NODE, "m").coolUntil! - now, "the first failure").to.equal(5);
    measures.noteFailed(NODE, "m", failing("node-busy", { retryAfter: 2 }));
    expect(measures.of(NODE, "m").coolUntil! - now, "never shorter").to.equal(5);
  });

  it("keeps the last three errors, cut short, newest first, and all of it over a restart", async () => {
    const measures = open();
    measures.noteServed(NODE, "m", { firstTokenMs: 100, tokensPerSecond: 40 });
    for (const code of ["node-busy", "upstream-failed", "node-unreachable", "job-closed"] as const) {
      now += 1;
      measures.noteFailed(NODE, "m", new InfernetError(code, "x".repeat(1_000)));
    }
    const [row] = measures.rows();
    expect(row!.lastErrors.map(({ at, code }) => [at, code])).to.deep.equal([
      [1_004, "job-closed"],
      [1_003, "node-unreachable"],
      [1_002, "upstream-failed"],
    ]);
    expect(row!.lastErrors[0]!.message).to.have.length(200);
    await store.commitSoon(() => {});
    store.close();
    const again = open();
    expect(again.rows()).to.deep.equal([row]);
    expect(again.of(NODE, "m")).to.include({ requests: 5, firstTokenMs: 100, tokensPerSecond: 40 });
  });
});
