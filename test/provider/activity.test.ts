import { expect } from "chai";
import type { Hex } from "../../protocol/bytes.ts";
import { measureActivity } from "../../provider/activity.ts";
import { createEventHub } from "../../provider/events.ts";
import { word } from "./ledger-fixture.ts";

const DAY = 86_400;

function measured({ servedBefore = 0 } = {}) {
  const events = createEventHub((error) => {
    throw error;
  });
  const time = { ms: 0, nowSeconds: 20_000 * DAY + 100 };
  let slots = 4;
  const askedSince: number[] = [];
  const read = measureActivity({
    events,
    slots: () => slots,
    servedSince(seconds) {
      askedSince.push(seconds);
      return { requests: servedBefore, promptTokens: 10 * servedBefore, completionTokens: 20 * servedBefore };
    },
    clock: { nowSeconds: () => time.nowSeconds },
    nowMs: () => time.ms,
  });
  const jobId = word(1);
  return {
    ...{ read, time, askedSince },
    setSlots: (count: number) => {
      slots = count;
    },
    start: (requestId: Hex) => events.emit({ type: "streamStarted", jobId, requestId, model: "tiny" }),
    release: (requestId: Hex, completionTokens: number) =>
      events.emit({ type: "tokensReleased", jobId, requestId, events: 1, completionTokens }),
    end: (requestId: Hex, promptTokens: number, completionTokens: number) =>
      events.emit({
        ...{ type: "streamEnded", jobId, requestId, counts: { promptTokens, completionTokens } },
        ...{ estimated: false, jobCharge: 0n, reason: "done" },
      }),
  };
}

describe("a provider's activity", () => {
  it("is nothing at the start", () => {
    const { read } = measured();
    expect(read()).to.deep.equal({
      tokensPerSecond: 0,
      busySlotSeconds: 0,
      slotSeconds: 0,
      utilisation: null,
      today: { requests: 0, promptTokens: 0, completionTokens: 0 },
    });
  });

  it("counts tokens a second of all requests over the time that they ran, and forgets them after ten seconds", () => {
    const { read, time, start, release, end } = measured();
    time.ms = 60_000;
    start(word(1));
    start(word(2));
    time.ms = 62_000;
    release(word(1), 30);
    release(word(2), 10);
    expect(read().tokensPerSecond).to.equal(20);
    time.ms = 64_000;
    release(word(1), 70);
    expect(read().tokensPerSecond).to.equal(20);
    end(word(1), 5, 70);
    end(word(2), 5, 10);
    time.ms = 69_000;
    expect(read().tokensPerSecond).to.be.closeTo(80 / 9, 0.001);
    time.ms = 75_000;
    expect(read().tokensPerSecond).to.equal(0);
  });

  it("does not take the tokens of an earlier burst for those of a new one", () => {
    const { read, time, start, release, end } = measured();
    start(word(1));
    time.ms = 5_000;
    release(word(1), 100);
    end(word(1), 5, 100);
    time.ms = 6_000;
    start(word(2));
    time.ms = 6_100;
    expect(read().tokensPerSecond).to.be.closeTo(100 / 6.1, 0.001);
  });

  it("counts no token twice when an upstream's own count is lower than its deltas", () => {
    const { read, time, start, release } = measured();
    start(word(1));
    time.ms = 1_000;
    release(word(1), 10);
    release(word(1), 8);
    expect(read().tokensPerSecond).to.equal(10);
  });

  it("measures busy slots over slots, also while slots come and go", () => {
    const { read, time, start, end, setSlots } = measured();
    start(word(1));
    time.ms = 10_000;
    start(word(2));
    setSlots(2);
    // The change is seen at the next event or reading.
    expect(read()).to.include({ busySlotSeconds: 10, slotSeconds: 40, utilisation: 0.25 });
    time.ms = 20_000;
    expect(read()).to.include({ busySlotSeconds: 30, slotSeconds: 60, utilisation: 0.5 });
    end(word(1), 1, 1);
    end(word(2), 1, 1);
    time.ms = 30_000;
    expect(read()).to.include({ busySlotSeconds: 30, slotSeconds: 80 });
  });

  it("tells the utilisation of the last hour, and slot-seconds since the start", () => {
    const { read, time, start, end } = measured();
    for (const id of [1, 2, 3, 4]) start(word(id));
    time.ms = 3_600_000;
    expect(read().utilisation).to.equal(1);
    for (const id of [1, 2, 3, 4]) end(word(id), 1, 1);
    for (let minute = 1; minute <= 60; minute += 1) {
      time.ms = 3_600_000 + minute * 60_000;
      read();
    }
    expect(read()).to.include({ utilisation: 0, busySlotSeconds: 14_400, slotSeconds: 28_800 });
  });

  it("counts today on from the ledger, not what was forgotten, and begins anew at midnight UTC", () => {
    const { read, time, start, end, askedSince } = measured({ servedBefore: 2 });
    expect(askedSince).to.deep.equal([20_000 * DAY]);
    start(word(1));
    end(word(1), 7, 9);
    start(word(2));
    end(word(2), 0, 0);
    expect(read().today).to.deep.equal({ requests: 3, promptTokens: 27, completionTokens: 49 });
    time.nowSeconds = 20_001 * DAY;
    expect(read().today).to.deep.equal({ requests: 0, promptTokens: 0, completionTokens: 0 });
  });

  it("counts what a crash cut off as served, but as no slot of this process", () => {
    const { read, time, end } = measured();
    end(word(1), 3, 4);
    time.ms = 1_000;
    expect(read()).to.deep.include({
      busySlotSeconds: 0,
      today: { requests: 1, promptTokens: 3, completionTokens: 4 },
    });
  });
});
