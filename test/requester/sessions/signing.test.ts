import { join } from "node:path";
import { expect } from "chai";
import fc from "fast-check";
import type { Hex } from "../../../protocol/bytes.ts";
import type { SignedDelivery } from "../../../protocol/delivery.ts";
import type { InfernetError } from "../../../protocol/errors.ts";
import { SESSION_REQUEST_HASH } from "../../../protocol/job.ts";
import { costMillionths, roundCharge } from "../../../protocol/price.ts";
import type { Arrived } from "../../../requester/answer-reader.ts";
import { type BudgetLimits, createReceiptDesk } from "../../../requester/budget.ts";
import { openLedger, type RequesterLedger } from "../../../requester/ledger.ts";
import { REQUESTER_MIGRATIONS } from "../../../requester/ledger-rows.ts";
import type { Payment } from "../../../requester/payment.ts";
import { SessionAccount } from "../../../requester/sessions/session-account.ts";
import { openStore } from "../../../runtime/store.ts";
import { failureOf, temporaryFolder } from "../../support/machine.ts";
import { holds } from "../../support/properties.ts";
import { account, DOMAIN, OPENED_AT, openJob, SEED, word } from "../examples.ts";

const PRICES = { inputPrice: 100_000n, outputPrice: 1_000_000n };
const PROMPT_BOUND = 50;
const MAX_TOKENS = 100;
const AHEAD = 16;
const CAN_COST = costMillionths({ promptTokens: PROMPT_BOUND, completionTokens: MAX_TOKENS }, PRICES);
const WIDE: BudgetLimits = {
  ...{ perRequest: 1n << 40n, perJob: 1n << 40n, perDay: 1n << 40n, perNode: 1n << 40n },
  perNewNode: 1n << 40n,
};

function openBook(limits: Partial<BudgetLimits> = {}, path = join(temporaryFolder(), "requester.db")) {
  const ledger = openLedger(openStore(path, REQUESTER_MIGRATIONS));
  const clock = { nowSeconds: () => OPENED_AT };
  const desk = createReceiptDesk({
    ledger,
    domain: DOMAIN,
    seed: SEED,
    limits: { ...WIDE, ...limits },
    clock,
  });
  return { path, ledger, desk };
}
type Book = ReturnType<typeof openBook>;

let keys = 0;

/** A session of a ledger, and streams on it whose arrivals a test decides. */
function openSession({ ledger, desk }: Book, saltIndex = 1, { deposit = 100_000n, now = OPENED_AT } = {}) {
  const jobId = openJob(ledger, { saltIndex, deposit, requestHash: SESSION_REQUEST_HASH });
  const sent: bigint[] = [];
  const post = { send: ({ amount }: { amount: bigint }) => void sent.push(amount), idle: async () => {} };
  const deps = { desk, post, now: () => now, jobId, deposit, openingFee: 0n };
  const money = new SessionAccount(deps, { ended: 0n, signed: 0n });
  const place = (most = CAN_COST, resumed = 0n) => {
    keys += 1;
    const requestId: Hex = `0x${keys.toString(16).padStart(64, "0")}`;
    const arrived: Arrived = {
      ...{ lastEventId: 0, transcript: word(1), tokens: 0, textBytes: 0, text: "", finishReason: "" },
    };
    const create = money.place(
      {
        ...{ requestId, prices: PRICES, estimatedPrompt: 10, promptBound: PROMPT_BOUND, aheadTokens: AHEAD },
        ...{ admissionTokens: AHEAD, maxTokens: MAX_TOKENS, stepTokens: 4, most, canCost: CAN_COST, resumed },
        begin: () => ledger.requests.start(newRequest(jobId, requestId)),
      },
      () => {},
    );
    const pay: Payment = create(() => arrived);
    return {
      requestId,
      pay,
      arrive(tokens: number) {
        arrived.tokens = Math.min(arrived.tokens + tokens, MAX_TOKENS);
        arrived.lastEventId += 1;
        pay.raise();
      },
      end(completionTokens: number) {
        ledger.requests.end(requestId, delivery(jobId, requestId, completionTokens), OPENED_AT);
        money.leave(requestId, endedOf(ledger, jobId));
      },
    };
  };
  return { jobId, money, place, sent, signed: () => ledger.findJob(jobId)!.signed };
}

function newRequest(jobId: Hex, requestId: Hex) {
  return {
    ...{ jobId, requestId, idempotencyKey: requestId.slice(2, 40), bodyHash: word(7), node: account(0x0a) },
    ...{ model: "tiny", path: "/v1/chat/completions" as const, day: 1, createdAt: OPENED_AT },
    ...{ promptBound: PROMPT_BOUND, tokenLimit: MAX_TOKENS, canCost: CAN_COST },
  };
}

function delivery(jobId: Hex, requestId: Hex, completionTokens: number): SignedDelivery {
  const counts = { promptTokens: 10, completionTokens };
  const cost = costMillionths(counts, PRICES);
  return {
    ...{ jobId, requestId, transcript: word(1), modelDigest: word(2), estimated: false, ...counts, cost },
    ...{ jobCharge: roundCharge(cost), signature: `0x${"11".repeat(65)}` },
  };
}

function endedOf(ledger: RequesterLedger, jobId: Hex): bigint {
  const { settled, lost } = ledger.findJob(jobId)!;
  return settled + lost;
}

/** What streams may cost that have so many tokens: prompt bound and look-ahead for each, rounded once. */
function allowanceOf(...tokens: number[]): bigint {
  const cost = (arrived: number) =>
    costMillionths(
      { promptTokens: PROMPT_BOUND, completionTokens: Math.min(arrived + AHEAD, MAX_TOKENS) },
      PRICES,
    );
  return roundCharge(tokens.reduce((sum, arrived) => sum + cost(arrived), 0n));
}

const HUGE = 1n << 90n;

describe("a receipt of a session", () => {
  it("S-sign-1: is none for a session that has ended, or whose node has lied", async () => {
    const book = openBook();
    const [ended, lied] = [openSession(book, 1), openSession(book, 2)];
    book.ledger.noteEnded(ended.jobId, null);
    book.ledger.noteEvidence(lied.jobId, { reason: "it lied" });
    expect((await failureOf(() => ended.place().pay.current())).code).to.equal("job-closed");
    expect((await failureOf(() => lied.place().pay.current())).code).to.equal("node-misbehaved");
    expect([ended.signed(), lied.signed()]).to.deep.equal([0n, 0n]);
  });

  it("S-sign-2: is none from the deadline's margin on", async () => {
    const session = openSession(openBook(), 1, { now: OPENED_AT + 3600 - 600 });
    expect((await failureOf(() => session.place().pay.current())).code).to.equal("job-expired");
    expect(session.signed()).to.equal(0n);
  });

  it("S-sign-3: stays where it is while it covers what the node needs", () => {
    const session = openSession(openBook());
    const stream = session.place();
    const first = stream.pay.current();
    stream.pay.ask(first.amount);
    stream.arrive(5);
    expect(session.sent).to.deep.equal([]);
    expect(stream.pay.current()).to.equal(first);
  });

  it("S-sign-4: covers the whole need over all streams where that is within their cost, rounded once", () => {
    const session = openSession(openBook());
    const [one, two] = [session.place(), session.place()];
    expect(one.pay.current().amount).to.equal(17n);
    expect(two.pay.current().amount).to.equal(34n);
    two.pay.ask(41n);
    two.arrive(8);
    expect(session.sent).to.deep.equal([41n]);
    expect(one.pay.current().amount).to.equal(41n);
  });

  it("S-sign-5: is never above what its requests can have cost together, whatever they ask for", () => {
    const move = fc.record({
      stream: fc.nat({ max: 7 }),
      kind: fc.constantFrom("arrive", "need", "end", "lose", "refuse"),
      tokens: fc.nat({ max: 30 }),
    });
    const book = openBook();
    let salts = 100;
    holds(
      fc.property(fc.array(move, { maxLength: 60 }), (moves) => {
        salts += 1;
        const session = openSession(book, salts);
        const streams = Array.from({ length: 8 }, () => ({
          tokens: 0,
          on: undefined as ReturnType<typeof session.place> | undefined,
        }));
        let mark = 0n;
        let ended = 0n;
        for (const { stream, kind, tokens } of moves) {
          const current = streams[stream]!;
          if (!current.on) {
            current.on = session.place();
            current.tokens = 0;
            current.on.pay.current();
          }
          if (kind === "need") current.on.pay.ask(HUGE);
          current.on.arrive(kind === "arrive" ? tokens : 0);
          if (kind === "arrive") current.tokens = Math.min(current.tokens + tokens, MAX_TOKENS);
          const running = streams.filter(({ on }) => on).map((one) => one.tokens);
          const signed = session.signed();
          const own = running.map((one) =>
            costMillionths(
              { promptTokens: PROMPT_BOUND, completionTokens: Math.min(one + AHEAD, MAX_TOKENS) },
              PRICES,
            ),
          );
          const limit = roundCharge(own.reduce((sum, cost) => sum + cost, ended));
          if (signed > mark) expect(signed <= limit, `${signed} <= ${limit}`).to.equal(true);
          expect(signed >= mark).to.equal(true);
          mark = signed;
          if (kind === "end") current.on.end(Math.min(current.tokens, MAX_TOKENS));
          else if (kind === "lose" || kind === "refuse") {
            if (kind === "lose") book.ledger.requests.lose(current.on.requestId, OPENED_AT);
            else book.ledger.requests.refuse(current.on.requestId, OPENED_AT);
            session.money.leave(current.on.requestId, endedOf(book.ledger, session.jobId));
          } else continue;
          current.on = undefined;
          ended = endedOf(book.ledger, session.jobId);
        }
      }),
      40,
    );
  });

  it("S-sign-6: goes up to a limit, and the error says which one and how to raise it", async () => {
    const limits = [
      [{}, 30n, "deposit"],
      [{ perJob: 30n }, 100_000n, "maxCharge"],
      [{ perDay: 30n }, 100_000n, "maxUsdcPerDay"],
      [{ perNode: 30n }, 100_000n, "maxUsdcPerNode"],
      [{ perNewNode: 30n }, 100_000n, "maxUsdcPerNewNode"],
    ] as const;
    for (const [limit, deposit, name] of limits) {
      const session = openSession(openBook(limit), 1, { deposit });
      const stream = session.place();
      stream.pay.current();
      stream.pay.ask(60n);
      stream.arrive(20);
      stream.arrive(20);
      expect(session.signed(), name).to.equal(30n);
      const met = stream.pay.limit()!;
      expect(met.code).to.equal("over-budget");
      expect(met.data.limit).to.equal(name);
      if (name.startsWith("max") && name !== "maxCharge") expect(met.hint).to.contain(`requester.${name}`);
    }
  });

  it("S-sign-7: of all sessions, requesters and processes together stays within one budget", () => {
    const first = openBook({ perDay: 100n });
    // Another connection to the same file: what another process has.
    const second = openBook({ perDay: 100n }, first.path);
    const sessions = [openSession(first, 1), openSession(second, 2), openSession(first, 3)];
    const streams = sessions.map((session) => session.place());
    for (let round = 0; round < 12; round += 1)
      for (const stream of streams) {
        try {
          stream.pay.current();
          stream.pay.ask(HUGE);
          stream.arrive(5);
        } catch (error) {
          expect((error as InfernetError).code).to.equal("over-budget");
        }
      }
    expect(sessions.reduce((sum, session) => sum + session.signed(), 0n)).to.equal(100n);
    expect([first, second].map(({ desk }) => desk.dayLeft())).to.deep.equal([0n, 0n]);
  });

  it("S-sign-8: keeps a request to its own limit, also with what others left over", async () => {
    const session = openSession(openBook());
    const stream = session.place(25_000_000n);
    stream.pay.current();
    stream.pay.ask(HUGE);
    for (let piece = 0; piece < 10; piece += 1) stream.arrive(5);
    expect(session.signed()).to.equal(25n);
    expect(stream.pay.limit()!.data.limit).to.equal("maxUsdcPerRequest");
    stream.end(20);
    const next = session.place(30_000_000n);
    next.pay.current();
    next.pay.ask(HUGE);
    for (let piece = 0; piece < 10; piece += 1) next.arrive(5);
    // 21 were charged before: what was left over of the first is part of the second's limit.
    expect(session.signed()).to.equal(21n + 30n);
    expect((await failureOf(() => session.place(5_000_000n).pay.current())).data.limit).to.equal(
      "maxUsdcPerRequest",
    );
  });

  it("frees what was reserved for a request that its node refused, and keeps what was for a lost one", () => {
    const book = openBook();
    const session = openSession(book);
    const [lost, refused] = [session.place(), session.place()];
    lost.pay.current();
    refused.pay.current();
    book.ledger.requests.lose(lost.requestId, OPENED_AT);
    session.money.leave(lost.requestId, endedOf(book.ledger, session.jobId));
    book.ledger.requests.refuse(refused.requestId, OPENED_AT);
    session.money.leave(refused.requestId, endedOf(book.ledger, session.jobId));
    const { allowed } = book.ledger.requests.find(lost.requestId)!;
    expect(roundCharge(allowed)).to.equal(allowanceOf(0));
    expect(endedOf(book.ledger, session.jobId)).to.equal(allowed);
    book.ledger.requests.end(lost.requestId, delivery(session.jobId, lost.requestId, 3), OPENED_AT);
    expect(endedOf(book.ledger, session.jobId)).to.equal(4_000_000n);
  });
});
