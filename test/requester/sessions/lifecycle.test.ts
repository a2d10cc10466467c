import { expect } from "chai";
import { roundCharge } from "../../../protocol/price.ts";
import { openLedger } from "../../../requester/ledger.ts";
import { systemClock } from "../../../runtime/clock.ts";
import { failureOf } from "../../support/machine.ts";
import { words } from "../../support/scripted-upstream.ts";
import { MODEL_DIGEST, PRICES, startLyingNode } from "../lying-node.ts";
import { type RealNode, startRealNode } from "../real-node.ts";
import { type Buyer, fundedSigner, MODEL, startBuyer, startWorld, type World } from "../world.ts";
import { ask, claimedOf } from "./asking.ts";

const EACH = 21_200_000n;

describe("the life of a session", function () {
  this.timeout(60_000);
  let world: World;
  let node: RealNode;
  before(async () => {
    world = await startWorld();
    node = await startRealNode(world, [[...words(20), { usage: [12, 20] }]]);
  });
  after(async () => {
    await node.stop();
    await world.stop();
  });

  const start = (options: Parameters<typeof startBuyer>[1] = {}) => startBuyer(world, options);
  const list = ({ requester }: Buyer) => requester.sessions.list();

  it("S-open-2: is opened by its node where there is no gas, and its fee counts once", async () => {
    const feeing = await startRealNode(world, [[...words(20), { usage: [12, 20] }]], { openingFee: 1_000n });
    const wallet = await fundedSigner(world, 10_000_000n);
    await world.local.rpc("hardhat_setBalance", [wallet.address, "0x0"]);
    const buyer = await start({ wallet });
    const bills = await Promise.all([1, 2, 3].map(() => ask(world, buyer, feeing.address)));
    const [closed] = await buyer.requester.sessions.close();
    expect(closed!.charged).to.equal(1_000n + roundCharge(3n * EACH));
    expect(await claimedOf(world, bills[0]!.jobId)).to.equal(closed!.charged);
    await buyer.requester.stop();
    await feeing.stop();
  });

  it("S-open-3, S-open-4: gives way to the next under load, and nobody is charged for that", async () => {
    const buyer = await start({ sessions: { depositUsdc: 400n } });
    const bills = [];
    for (let round = 0; round < 4; round += 1)
      bills.push(...(await Promise.all(Array.from({ length: 12 }, () => ask(world, buyer, node.address)))));
    const jobs = new Set(bills.map(({ jobId }) => jobId));
    expect(jobs.size).to.be.above(1);
    await buyer.requester.sessions.close();
    await buyer.requester.stop();
    let claimed = 0n;
    for (const jobId of jobs) {
      const own = bills.filter((bill) => bill.jobId === jobId).length;
      expect(await claimedOf(world, jobId)).to.equal(roundCharge(BigInt(own) * EACH));
      claimed += await claimedOf(world, jobId);
    }
    expect(openLedger(buyer.store).spentOn(Math.floor(systemClock.nowSeconds() / 86_400))).to.equal(claimed);
  });

  it("S-open-5: goes on under its own offer; a cheaper one is for the next", async () => {
    const changing = await startLyingNode(world);
    const buyer = await start();
    const first = await ask(world, buyer, changing.signer.address);
    changing.offerChanges = { maxCompletionTokens: 128 };
    expect((await ask(world, buyer, changing.signer.address)).jobId).to.equal(first.jobId);
    // The new price is below the one that the session was opened at: it does not pay more than it must.
    const model = { name: MODEL, digest: MODEL_DIGEST, ...PRICES, outputPrice: 900_000n };
    changing.offerChanges = { models: [{ ...model, contextLength: 4096, features: ["chat"] }] };
    await failureOf(() => ask(world, buyer, changing.signer.address));
    expect(new Set(list(buyer).map(({ jobId }) => jobId)).size).to.equal(2);
    await buyer.requester.stop();
    await changing.stop();
  });

  it("S-open-6: is small with a node without history", async () => {
    const buyer = await start({ budget: { perNewNode: 700n } });
    await ask(world, buyer, node.address);
    expect(list(buyer)[0]!.deposit).to.equal(1_000n); // The node's minimum: nothing above 700 is signed for it.
    expect(list(buyer)[0]!.signed <= 700n).to.equal(true);
    await buyer.requester.sessions.close();
    await ask(world, buyer, node.address);
    expect(list(buyer)[0]!.deposit).to.equal(500_000n);
    await buyer.requester.stop();
  });

  it("S-end-2, S-open-8: stays open when its process ends, and the next one takes it over", async () => {
    const buyer = await start();
    const { jobId } = await ask(world, buyer, node.address);
    await buyer.requester.stop();
    expect(list(buyer)[0]).to.include({ jobId, state: "open" });
    const requester = await buyer.restart();
    expect((await ask(world, { requester }, node.address)).jobId).to.equal(jobId);
    const [closed] = await requester.sessions.close(jobId);
    expect(closed).to.include({ requests: 2, charged: roundCharge(2n * EACH), state: "closed" });
    await requester.stop();
  });

  it("S-open-7: is not used while another process has it in hand", async () => {
    const buyer = await start();
    const { jobId } = await ask(world, buyer, node.address);
    // A process that is alive: this one's parent.
    buyer.store.db.prepare("UPDATE jobs SET worker = ? WHERE job_id = ?").run(process.ppid, jobId);
    const requester = await buyer.restart();
    expect((await ask(world, { requester }, node.address)).jobId).not.to.equal(jobId);
    expect((await failureOf(() => requester.sessions.close(jobId))).code).to.equal("request-in-progress");
    await Promise.all([requester.stop(), buyer.requester.stop()]);
  });

  it("S-end-1: is closed when it was idle for long enough, and the rest returns", async () => {
    const buyer = await start({ sessions: { idleSeconds: 1 } });
    const closed = new Promise<void>((resolve) => {
      buyer.requester.sessions.subscribe(({ type }) => type === "closed" && resolve());
    });
    const { jobId } = await ask(world, buyer, node.address);
    await closed;
    expect(list(buyer)).to.deep.equal([]);
    expect(await world.chain.getCredit(buyer.wallet.address)).to.equal(
      500_000n - (await claimedOf(world, jobId)),
    );
    await buyer.requester.stop();
  });

  it("S-end-3: is closed by tending when a process left it idle", async () => {
    const clock = { ahead: 0, nowSeconds: () => systemClock.nowSeconds() + clock.ahead };
    const buyer = await start({ clock });
    const { jobId } = await ask(world, buyer, node.address);
    await buyer.requester.stop();
    const requester = await buyer.restart();
    await requester.tend();
    expect(requester.sessions.list()[0]).to.include({ jobId, state: "open" });
    clock.ahead = 700;
    await requester.tend();
    expect(await claimedOf(world, jobId)).to.equal(22n);
    await requester.stop();
  });

  it("S-end-5: keeps evidence when its node claims more than its deliveries charge", async () => {
    const thief = await startLyingNode(world);
    thief.script = async (line) => {
      for (let word = 0; word < 20; word += 1) line.say("word ");
      line.need(10_000n);
      await line.held(25n);
      line.finish();
      line.deliver();
    };
    const buyer = await start();
    const { jobId } = await ask(world, buyer, thief.signer.address);
    const { signed } = list(buyer)[0]!;
    thief.claim = signed;
    const [closed] = await buyer.requester.sessions.close();
    expect(closed).to.include({ jobId, charged: signed });
    expect(closed!.evidence).to.contain("claimed more than its deliveries charge");
    await buyer.requester.stop();
    await thief.stop();
  });

  it("S-end-4: is refunded after its deadline when its node is gone", async () => {
    const leaving = await startLyingNode(world);
    const buyer = await start();
    const { jobId } = await ask(world, buyer, leaving.signer.address);
    await buyer.requester.stop();
    await leaving.stop();
    await world.local.increaseTime(3 * 3600);
    const requester = await buyer.restart();
    await requester.tend();
    expect(await requester.status(jobId)).to.include({ phase: "refunded", charge: 0n });
    expect(await world.chain.getCredit(buyer.wallet.address)).to.equal(500_000n);
    await requester.stop();
  });
});
