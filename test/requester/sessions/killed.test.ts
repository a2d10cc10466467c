import { join } from "node:path";
import { expect } from "chai";
import { roundCharge } from "../../../protocol/price.ts";
import { openLedger } from "../../../requester/ledger.ts";
import { REQUESTER_MIGRATIONS } from "../../../requester/ledger-rows.ts";
import { startRequester } from "../../../requester/start.ts";
import { systemClock } from "../../../runtime/clock.ts";
import { createSigner, generatePrivateKey } from "../../../runtime/signers/secp256k1.ts";
import { openStore } from "../../../runtime/store.ts";
import { killProcess, startProcess, temporaryFolder } from "../../support/machine.ts";
import { words } from "../../support/scripted-upstream.ts";
import { NODE_PRICES, startRealNode } from "../real-node.ts";
import { BUDGET, chatBody, ETHER, SILENT, startWorld, type World } from "../world.ts";
import { ask, claimedOf } from "./asking.ts";

const TOKENS = 40;

describe("a requester that is killed while three requests of a session run", function () {
  this.timeout(60_000);
  let world: World;
  before(async () => {
    world = await startWorld();
  });
  after(() => world.stop());

  it("has kept what it signed; the next takes the session over, reads on by the same keys, and pays once", async () => {
    const going = Promise.withResolvers<void>();
    const half = words(TOKENS / 2);
    const script = [...half, { until: going.promise }, ...half, { usage: [12, TOKENS] as [number, number] }];
    const node = await startRealNode(world, [script]);
    const folder = temporaryFolder();
    const key = generatePrivateKey();
    const wallet = createSigner(key);
    await world.local.fundNative(wallet.address, ETHER);
    await world.local.mintUsdc(wallet.address, 1_000_000n);
    const bodies = [0, 1, 2].map(() => chatBody({ max_tokens: 64 }));
    const child = startProcess(`
      import { openChain } from "./chain/chain.ts";
      import { chooseNode } from "./requester/choose.ts";
      import { REQUESTER_MIGRATIONS } from "./requester/ledger-rows.ts";
      import { readModelRequest } from "./requester/model-request.ts";
      import { startRequester } from "./requester/start.ts";
      import { systemClock } from "./runtime/clock.ts";
      import { createLogger } from "./runtime/logger.ts";
      import { createSigner } from "./runtime/signers/secp256k1.ts";
      import { openStore } from "./runtime/store.ts";
      const override = ${JSON.stringify(world.local.deployment)};
      const chain = await openChain({ rpcUrl: "${world.local.rpcUrl}", sources: { override } });
      const requester = await startRequester({
        chain, store: openStore("${join(folder, "requester.db")}", REQUESTER_MIGRATIONS),
        log: createLogger({ level: "silent" }), wallet: createSigner("${key}"), seed: "${key}", clock: systemClock,
        budget: { perRequest: 1_000_000n, perJob: 1_000_000n, perDay: 1_000_000n, perNode: 1_000_000n, perNewNode: 1_000_000n },
      });
      let reached = 0;
      const bodies = ${JSON.stringify(bodies.map((body) => Buffer.from(body).toString("base64")))};
      await Promise.all(bodies.map(async (body, index) => {
        const request = readModelRequest("/v1/chat/completions", Buffer.from(body, "base64"));
        const wish = { request, node: "${node.address}", maxCharge: 1_000_000n };
        const choice = await chooseNode({ chain, clock: systemClock }, wish);
        let pieces = 0;
        const onEvent = (event) => {
          if (event.type === "text" && ++pieces === ${TOKENS / 2} && ++reached === 3) console.log("reached");
        };
        await requester.sessions.ask({ request, choice, idempotencyKey: "key-" + index, onEvent });
      }));
    `);
    await child.saidLine("reached");
    await killProcess(child);

    const store = openStore(join(folder, "requester.db"), REQUESTER_MIGRATIONS);
    const requester = await startRequester({
      ...{ chain: world.chain, store, log: SILENT, wallet, seed: key, clock: systemClock, budget: BUDGET },
      patienceMs: 5_000,
    });
    const [left] = requester.sessions.list();
    const received = 3n * (1n * NODE_PRICES.inputPrice + BigInt(TOKENS / 2) * NODE_PRICES.outputPrice);
    expect(left!.signed >= roundCharge(received), `${left!.signed} kept`).to.equal(true);
    expect(requester.snapshot().dayLeft).to.equal(BUDGET.perDay - left!.signed);
    going.resolve();
    const bills = await Promise.all(
      bodies.map((body, index) =>
        ask(world, { requester }, node.address, { body, idempotencyKey: `key-${index}` }),
      ),
    );
    for (const bill of bills) {
      expect(bill.jobId).to.equal(left!.jobId);
      expect(bill.text).to.equal([...half, ...half].join(""));
    }
    expect(node.upstream.runs).to.have.length(3);
    const [closed] = await requester.sessions.close();
    const exact = bills.reduce((sum, { costMillionths }) => sum + costMillionths, 0n);
    expect(exact).to.equal(3n * (12n * NODE_PRICES.inputPrice + BigInt(TOKENS) * NODE_PRICES.outputPrice));
    expect(closed!.charged).to.equal(roundCharge(exact));
    expect(await claimedOf(world, left!.jobId)).to.equal(roundCharge(exact));
    expect(openLedger(store).spentOn(Math.floor(systemClock.nowSeconds() / 86_400))).to.equal(
      roundCharge(exact),
    );
    await requester.stop();
    store.close();
    await node.stop();
  });
});
