import { expect } from "chai";
import { roundCharge } from "../../../protocol/price.ts";
import { words } from "../../support/scripted-upstream.ts";
import { type RealNode, startRealNode } from "../real-node.ts";
import { type Buyer, startBuyer, startWorld, type World } from "../world.ts";
import { ask, claimedOf } from "./asking.ts";

describe("sessions with a real node", function () {
  this.timeout(60_000);
  let world: World;
  let node: RealNode;
  let buyer: Buyer;
  before(async () => {
    world = await startWorld();
  });
  after(() => world.stop());
  beforeEach(async () => {
    node = await startRealNode(world, [[...words(20), { usage: [12, 20] }]]);
    buyer = await startBuyer(world);
  });
  afterEach(async () => {
    await buyer.requester.stop();
    await node.stop();
  });

  it("S-open-1: opens one job for the requests that wait for it together, which pays for all of them", async () => {
    const bills = await Promise.all(Array.from({ length: 20 }, () => ask(world, buyer, node.address)));
    const [first] = bills;
    expect(new Set(bills.map(({ jobId }) => jobId)).size).to.equal(1);
    for (const bill of bills) {
      expect(bill.text).to.equal(words(20).join(""));
      expect(bill).to.include({
        promptTokens: 12,
        completionTokens: 20,
        costMillionths: 21_200_000n,
        charge: 22n,
      });
    }
    const [report] = buyer.requester.sessions.list();
    expect(report).to.include({ jobId: first!.jobId, state: "open", requests: 20, active: 0, charged: 424n });
    const [closed] = await buyer.requester.sessions.close();
    expect(closed).to.include({ state: "closed", charged: 424n, locked: 0n });
    expect(await claimedOf(world, first!.jobId)).to.equal(roundCharge(20n * 21_200_000n));
    expect(await world.chain.getCredit(buyer.wallet.address)).to.equal(closed!.deposit - 424n);
  });

  it("pays for many requests in a row out of one job, rounded once", async () => {
    const bills = [];
    for (let index = 0; index < 30; index += 1)
      bills.push(await ask(world, buyer, node.address, { fields: { stream: index % 2 === 0 } }));
    expect(new Set(bills.map(({ jobId }) => jobId)).size).to.equal(1);
    const [closed] = await buyer.requester.sessions.close();
    expect(closed!.charged).to.equal(roundCharge(30n * 21_200_000n));
    expect(await claimedOf(world, bills[0]!.jobId)).to.equal(closed!.charged);
  });
});
