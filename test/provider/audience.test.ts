// Who listens to a running request: nobody gets an event twice, and nobody keeps a request that takes nothing of it.
import { expect } from "chai";
import { createAudience } from "../../provider/audience.ts";
import type { SseWriter } from "../../runtime/sse.ts";

/** A listener whose socket takes what it is sent, or nothing at all: a stalled line cannot be had on demand. */
function createFakeListener({ stalled = false } = {}) {
  const gone = new AbortController();
  const got: (number | string)[] = [];
  const writer: SseWriter = {
    send: ({ id, event, data }) => void got.push(id ?? `${event} ${JSON.parse(data).type}`),
    comment() {},
    heartbeat() {},
    flushed: () => (stalled ? new Promise(() => {}) : Promise.resolve()),
    end: () => void got.push("end"),
    closed: gone.signal,
  };
  return { writer, got, leave: () => gone.abort() };
}

const event = (id: number) => ({ id, payload: `payload ${id}` });
const LONG_MS = 60_000;
const never = new AbortController().signal;

describe("an audience", () => {
  it("sends each listener what it missed and what comes, no event twice, and then the end", () => {
    const audience = createAudience(LONG_MS, () => {});
    const [early, late] = [createFakeListener(), createFakeListener()];
    audience.join(early.writer, 0, []);
    audience.publish([event(1), event(2)]);
    // The ledger may hold an event before it is published.
    audience.join(late.writer, 1, [event(2), event(3)]);
    audience.publish([event(3), event(4)]);
    audience.tell({ type: "need", need: 5n });
    audience.end();
    expect(early.got).to.deep.equal([1, 2, 3, 4, "infernet need", "end"]);
    expect(late.got).to.deep.equal([2, 3, 4, "infernet need", "end"]);
  });

  it("is deserted when the last holder and the last listener have been away for its patience", async () => {
    const deserted = Promise.withResolvers<void>();
    let isOver = false;
    const audience = createAudience(20, () => {
      isOver = true;
      deserted.resolve();
    });
    const listener = createFakeListener();
    const release = audience.hold();
    audience.join(listener.writer, 0, []);
    release();
    expect(await audience.isDeserted(30)).to.equal(false);
    expect(isOver).to.equal(false);
    listener.leave();
    expect(await audience.isDeserted(0)).to.equal(true);
    await deserted.promise;
    audience.end();
  });

  it("drops listeners that take nothing for its patience, and is deserted then", async () => {
    const deserted = Promise.withResolvers<void>();
    const audience = createAudience(20, deserted.resolve);
    const stalled = createFakeListener({ stalled: true });
    audience.join(stalled.writer, 0, []);
    audience.publish([event(1)]);
    await audience.pace(never);
    await deserted.promise;
    expect(stalled.got).to.deep.equal([1, "end"]);
    audience.end();
  });

  it("waits for nobody once the request is stopped", async () => {
    const audience = createAudience(LONG_MS, () => {});
    const stalled = createFakeListener({ stalled: true });
    audience.join(stalled.writer, 0, []);
    audience.publish([event(1)]);
    const stop = new AbortController();
    const pacing = audience.pace(stop.signal);
    stop.abort();
    await pacing;
    expect(stalled.got).to.deep.equal([1]);
    audience.end();
  });

  it("keeps pace with its fastest listener", async () => {
    const audience = createAudience(LONG_MS, () => {});
    for (const stalled of [true, false]) audience.join(createFakeListener({ stalled }).writer, 0, []);
    audience.publish([event(1)]);
    await audience.pace(never);
    audience.end();
  });

  it("tells when the last one has left, and when somebody comes again", () => {
    const told: boolean[] = [];
    const audience = createAudience(
      LONG_MS,
      () => {},
      (isPresent) => told.push(isPresent),
    );
    const [first, second] = [createFakeListener(), createFakeListener()];
    const release = audience.hold();
    audience.join(first.writer, 0, []);
    release();
    first.leave();
    audience.join(second.writer, 0, []);
    audience.end();
    expect(told).to.deep.equal([true, false, true]);
  });
});
