import { expect } from "chai";
import { followBlockTime, isDeepEnough, readBlockTime } from "../../requester/block-time.ts";
import { startWorld, type World } from "./world.ts";

describe("chain time and depth", function () {
  this.timeout(30_000);
  let world: World;
  before(async () => {
    world = await startWorld();
  });
  after(() => world.stop());

  it("is the latest block's, or the clock's where no block was mined lately", async () => {
    const { timestamp } = await world.chain.getBlock("latest");
    expect(await readBlockTime(world.chain, { nowSeconds: () => 0 })).to.equal(timestamp);
    expect(await readBlockTime(world.chain, { nowSeconds: () => timestamp + 50 })).to.equal(timestamp + 50);
    const now = await followBlockTime(world.chain, { nowSeconds: () => timestamp + 50 });
    expect(now()).to.be.within(timestamp + 50, timestamp + 52);
  });

  it("wants one more block for a deposit of up to one USDC", async () => {
    const { number } = await world.chain.getBlock("latest");
    expect(await isDeepEnough(world.chain, 1_000_000n, number)).to.equal(false);
    await world.local.mine(1);
    expect(await isDeepEnough(world.chain, 1_000_000n, number)).to.equal(true);
  });

  it("wants the safe block for up to fifty USDC, and the finalized one above", async () => {
    const [safe, finalized] = await Promise.all([
      world.chain.getBlock("safe"),
      world.chain.getBlock("finalized"),
    ]);
    for (const [deposit, { number }] of [
      [50_000_000n, safe],
      [50_000_001n, finalized],
    ] as const) {
      expect(await isDeepEnough(world.chain, deposit, number)).to.equal(true);
      expect(await isDeepEnough(world.chain, deposit, number + 1)).to.equal(false);
    }
  });
});
