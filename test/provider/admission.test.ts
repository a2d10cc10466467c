// Who may run: one receipt shared in order, and never more handed out than is signed for.
import { expect } from "chai";
import fc from "fast-check";
import type { Hex } from "../../protocol/bytes.ts";
import type { InfernetError } from "../../protocol/errors.ts";
import { createAdmission, type Seat } from "../../provider/admission.ts";
import { failureOf } from "../support/machine.ts";
import { holdsAsync } from "../support/properties.ts";
import {
  addFundedJob,
  createFolder,
  type Ledgers,
  openLedgers,
  receiptOf,
  SESSION_TERMS,
} from "./ledger-fixture.ts";

const millionths = (amount: number) => BigInt(amount) * 1_000_000n;

describe("admission", () => {
  const folder = createFolder();
  let ledgers: Ledgers;
  let salt = 0;
  /** A session of its own for each test, so that all share one store. */
  const openSession = () => {
    salt += 1;
    const salted: Hex = `0x${salt.toString(16).padStart(64, "0")}`;
    return addFundedJob(ledgers, { ...SESSION_TERMS, salt: salted }, 1_000_000n);
  };
  const scene = () => {
    const admission = createAdmission(ledgers.ledger);
    const jobId = openSession();
    const sign = async (amount: number) => {
      await ledgers.ledger.acceptReceipt(receiptOf(jobId, BigInt(amount)));
      admission.grant(jobId);
    };
    const admit = (amount: number) => admission.admit(ledgers.ledger.findJob(jobId)!, millionths(amount));
    return { admission, sign, admit };
  };
  const wait = (seat: Seat, amount: number, timeoutMs = 10_000) =>
    seat.waitFor(millionths(amount), timeoutMs, new AbortController().signal);
  before(() => {
    ledgers = openLedgers(folder.path);
  });
  after(() => {
    ledgers.store.close();
    folder.remove();
  });

  it("admits while the receipt covers all reservations, and else tells the cumulative need", async () => {
    const { admit, sign } = scene();
    await sign(25);
    admit(10);
    const error: InfernetError = await failureOf(() => admit(20));
    expect(error.code).to.equal("receipt-too-small");
    expect(error.data).to.deep.equal({ need: "30" });
    await sign(30);
    admit(20);
  });

  it("gives what seats ask for in the order of the asks, and keeps each told need true", async () => {
    const { admit, sign } = scene();
    await sign(20);
    const [first, second] = [admit(10), admit(10)];
    expect(second.ask(millionths(15))).to.equal(25n);
    expect(first.ask(millionths(14))).to.equal(29n);
    await sign(25);
    expect(await wait(second, 15)).to.equal(true);
    expect(first.covered()).to.equal(millionths(10));
    await sign(29);
    expect(await wait(first, 14)).to.equal(true);
  });

  it("leaves what is signed next to others when a seat takes its ask back, and hears it again later", async () => {
    const { admit, sign } = scene();
    await sign(20);
    const [left, next] = [admit(10), admit(10)];
    expect(left.ask(millionths(15))).to.equal(25n);
    left.withdraw();
    expect(next.ask(millionths(14))).to.equal(24n);
    await sign(24);
    expect(await wait(next, 14)).to.equal(true);
    expect([left.covered(), left.asked()]).to.deep.equal([millionths(10), millionths(10)]);
    expect(left.ask(millionths(15))).to.equal(29n);
  });

  it("keeps a told need true when its seat asks for more before it is signed", async () => {
    const { admit, sign } = scene();
    await sign(20);
    const [first, second] = [admit(10), admit(10)];
    expect(first.ask(millionths(15))).to.equal(25n);
    expect(second.ask(millionths(20))).to.equal(35n);
    expect(first.ask(millionths(30))).to.equal(50n);
    await sign(25);
    expect(first.covered()).to.equal(millionths(15));
    await sign(34);
    expect([first.covered(), second.covered()]).to.deep.equal([millionths(15), millionths(19)]);
    await sign(50);
    expect([first.covered(), second.covered()]).to.deep.equal([millionths(30), millionths(20)]);
  });

  it("tells a need once, and none when the receipt covers the ask already", async () => {
    const { admit, sign } = scene();
    await sign(20);
    const seat = admit(10);
    expect(seat.ask(millionths(20))).to.equal(undefined);
    expect(seat.covered()).to.equal(millionths(20));
    expect(seat.ask(millionths(30))).to.equal(30n);
    expect(seat.ask(millionths(30))).to.equal(undefined);
  });

  it("hands out a part of an ask when less is signed", async () => {
    const { admit, sign } = scene();
    await sign(10);
    const seat = admit(10);
    seat.ask(millionths(20));
    const waiting = wait(seat, 13);
    await sign(12);
    expect(seat.covered()).to.equal(millionths(12));
    await sign(14);
    expect(await waiting).to.equal(true);
  });

  it("stops waiting after the time-out and on abort", async () => {
    const { admit, sign } = scene();
    await sign(10);
    const seat = admit(10);
    expect(await wait(seat, 11, 5)).to.equal(false);
    const abort = new AbortController();
    const waiting = seat.waitFor(millionths(11), 10_000, abort.signal);
    abort.abort();
    expect(await waiting).to.equal(false);
  });

  it("frees a seat's share for the next when it leaves", async () => {
    const { admit, sign } = scene();
    await sign(20);
    const [first, second] = [admit(10), admit(10)];
    second.ask(millionths(20));
    first.leave();
    expect(await wait(second, 20)).to.equal(true);
  });

  it("never covers more in all than the receipt, and all that a signed need was told for, whatever happens", async () => {
    const step = fc.record({
      kind: fc.constantFrom("admit", "ask", "sign", "leave"),
      amount: fc.integer({ min: 0, max: 60 }),
      seat: fc.nat(5),
    });
    await holdsAsync(
      fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
        const { admit, sign } = scene();
        const seats: Seat[] = [];
        const told: { seat: Seat; cover: bigint; need: bigint }[] = [];
        let signed = 0;
        for (const { kind, amount, seat } of steps) {
          if (kind === "sign") await sign(amount);
          if (kind === "sign") signed = Math.max(signed, amount);
          if (kind === "admit") tryTo(() => seats.push(admit(amount)));
          const asking = kind === "ask" ? seats[seat] : undefined;
          const cover = millionths(amount);
          const need = asking?.ask(cover);
          if (asking && need !== undefined) told.push({ seat: asking, cover, need });
          expect(need === undefined || need > BigInt(signed)).to.equal(true);
          if (kind === "leave") for (const left of seats.splice(seat, 1)) left.leave();
          const covered = seats.reduce((sum, one) => sum + one.covered(), 0n);
          expect(covered <= millionths(signed)).to.equal(true);
          for (const one of told) {
            if (!seats.includes(one.seat) || BigInt(signed) < one.need) continue;
            expect(one.seat.covered() >= one.cover).to.equal(true);
          }
        }
      }),
      50,
    );
  });
});

function tryTo(act: () => unknown): void {
  try {
    act();
  } catch {
    // Refused: nothing changed, which the property looks at.
  }
}
