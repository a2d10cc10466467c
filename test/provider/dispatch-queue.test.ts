// The queue for free upstreams: turns, bounds, and who has to go when it is full.
import { expect } from "chai";
import fc from "fast-check";
import { createFairQueue } from "../../provider/dispatch-queue.ts";
import { holds } from "../support/properties.ts";

const any = () => true;

describe("the fair queue", () => {
  it("serves requesters in turn and each one's items in order, whoever sent the most", () => {
    const queue = createFairQueue<string>({ perRequester: 20, total: 100 });
    for (let index = 0; index < 20; index++) queue.push("greedy", `greedy ${index}`);
    queue.push("modest", "modest 0");
    queue.push("other", "other 0");
    queue.push("other", "other 1");
    const served = Array.from({ length: 6 }, () => queue.take(any));
    expect(served).to.deep.equal(["greedy 0", "modest 0", "other 0", "greedy 1", "other 1", "greedy 2"]);
  });

  it("passes over what does not fit, without losing its place", () => {
    const queue = createFairQueue<number>({ perRequester: 5, total: 9 });
    for (const item of [1, 2, 3]) queue.push("a", item);
    expect(queue.take((item) => item % 2 === 0)).to.equal(2);
    expect(queue.take((item) => item > 5)).to.equal(undefined);
    expect([queue.take(any), queue.take(any), queue.take(any)]).to.deep.equal([1, 3, undefined]);
  });

  it("refuses beyond its bounds, but a full queue lets in who waits with less, in place of the longest line's newest", () => {
    const queue = createFairQueue<string>({ perRequester: 3, total: 4 });
    for (const item of ["a1", "a2", "a3"])
      expect(queue.push("a", item)).to.deep.equal({ dropped: undefined });
    expect(queue.push("a", "a4")).to.deep.equal({ refusedBy: "requester" });
    queue.push("b", "b1");
    expect(queue.push("c", "c1")).to.deep.equal({ dropped: "a3" });
    expect(queue.push("b", "b2")).to.deep.equal({ refusedBy: "total" });
    expect(queue.items()).to.deep.equal(["a1", "a2", "b1", "c1"]);
  });

  it("puts who had his turn already first, and takes out who leaves", () => {
    const queue = createFairQueue<string>({ perRequester: 1, total: 1 });
    queue.push("a", "a1");
    queue.pushFirst("a", "a0");
    expect(queue.remove("a", "a1")).to.equal(true);
    expect(queue.remove("a", "a1")).to.equal(false);
    expect([queue.take(any), queue.size(), queue.requesters()]).to.deep.equal(["a0", 0, 0]);
  });

  it("holds no more than it may, loses nothing, and keeps nobody waiting for more than one turn of all others", () => {
    const act = fc.record({ requester: fc.constantFrom("a", "b", "c", "d"), takes: fc.nat(2) });
    holds(
      fc.property(fc.array(act, { maxLength: 60 }), (acts) => {
        const queue = createFairQueue<{ requester: string }>({ perRequester: 4, total: 7 });
        let inside = 0;
        for (const { requester, takes } of acts) {
          const pushed = queue.push(requester, { requester });
          if ("dropped" in pushed && pushed.dropped === undefined) inside += 1;
          for (let index = 0; index < takes; index++) if (queue.take(any)) inside -= 1;
          expect(queue.size()).to.equal(inside);
          expect(queue.items()).to.have.length(inside);
          expect(inside <= 7 && queue.sizeOf(requester) <= 4).to.equal(true);
        }
        const waiting = queue.requesters();
        const turn = Array.from({ length: waiting }, () => queue.take(any)!.requester);
        expect(new Set(turn).size).to.equal(waiting);
      }),
    );
  });
});
