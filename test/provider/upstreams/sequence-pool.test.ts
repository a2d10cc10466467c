import { expect } from "chai";
import { createPool } from "../../../provider/upstreams/sequence-pool.ts";
import { rejectionOf } from "../../support/generation.ts";

describe("a pool", () => {
  const never = new AbortController().signal;

  it("lends each thing to one user at a time, the longest waiting first", async () => {
    const pool = createPool(["a"]);
    const order: string[] = [];
    expect(await pool.take(never)).to.equal("a");
    const waiting = ["first", "second"].map(async (name) => {
      const item = await pool.take(never);
      order.push(name);
      pool.giveBack(item);
    });
    expect(order).to.deep.equal([]);
    pool.giveBack("a");
    await Promise.all(waiting);
    expect(order).to.deep.equal(["first", "second"]);
  });

  it("forgets who gave up waiting, and loses nothing by it", async () => {
    const pool = createPool(["a"]);
    await pool.take(never);
    const controller = new AbortController();
    const quitter = rejectionOf(pool.take(controller.signal));
    const patient = pool.take(never);
    controller.abort(new Error("gone"));
    expect(await quitter).to.have.property("message", "gone");
    pool.giveBack("a");
    expect(await patient).to.equal("a");
    expect(await rejectionOf(pool.take(controller.signal))).to.have.property("message", "gone");
  });
});
