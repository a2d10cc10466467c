import { expect } from "chai";
import { systemClock } from "../../runtime/clock.ts";

describe("system clock", () => {
  it("tells whole seconds of this machine's time", () => {
    const before = Math.floor(Date.now() / 1000);
    const now = systemClock.nowSeconds();
    expect(Number.isInteger(now)).to.equal(true);
    expect(now).to.be.within(before, Math.floor(Date.now() / 1000));
  });
});
