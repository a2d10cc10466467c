// How an upstream's events are read: what is ready together, one ahead and no more, and an abort that ends even a hang.
import { expect } from "chai";
import { readBatches } from "../../provider/event-batches.ts";

const never = new AbortController().signal;

describe("reading in batches", () => {
  it("takes together what is ready in one turn, up to the largest batch", async () => {
    // The source goes on only when all that was ready before has been read.
    async function collect(largest: number): Promise<number[][]> {
      const gate = Promise.withResolvers<void>();
      async function* source() {
        yield* [1, 2, 3];
        await gate.promise;
        yield* [4, 5];
      }
      const batches: number[][] = [];
      for await (const batch of readBatches(source(), never, largest)) {
        batches.push(batch);
        if (batch.at(-1) === 3) gate.resolve();
      }
      return batches;
    }
    expect(await collect(10)).to.deep.equal([
      [1, 2, 3],
      [4, 5],
    ]);
    expect(await collect(2)).to.deep.equal([[1, 2], [3], [4, 5]]);
  });

  it("hands out what came before an error, then throws the error", async () => {
    async function* source() {
      yield* [1, 2];
      throw new Error("broken");
    }
    const seen: number[][] = [];
    let message = "";
    try {
      for await (const batch of readBatches(source(), never, 10)) seen.push(batch);
    } catch (error) {
      message = (error as Error).message;
    }
    expect(seen).to.deep.equal([[1, 2]]);
    expect(message).to.equal("broken");
  });

  it("reads one event ahead and no more while a batch is worked on", async () => {
    let made = 0;
    async function* source() {
      while (true) yield ++made;
    }
    for await (const batch of readBatches(source(), never, 4)) {
      await new Promise((resolve) => setImmediate(resolve));
      expect(made).to.equal(batch.at(-1)! + 1);
      if (made > 12) break;
    }
  });

  it("throws the signal's reason though the source hangs, and tells the source", async () => {
    const abort = new AbortController();
    let isTold = false;
    const source: AsyncIterable<number> = {
      [Symbol.asyncIterator]: () => ({
        next: () => new Promise(() => {}),
        async return() {
          isTold = true;
          return { done: true, value: undefined };
        },
      }),
    };
    const reading = (async () => {
      for await (const _batch of readBatches(source, abort.signal, 4));
    })();
    abort.abort(new Error("enough"));
    const error = await reading.catch((reason: Error) => reason);
    expect((error as Error).message).to.equal("enough");
    expect(isTold).to.equal(true);
  });
});
