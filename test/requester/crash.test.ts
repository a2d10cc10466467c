import { join } from "node:path";
import { expect } from "chai";
import { REQUESTER_MIGRATIONS } from "../../requester/ledger-rows.ts";
import { startRequester } from "../../requester/start.ts";
import { systemClock } from "../../runtime/clock.ts";
import { createSigner, generatePrivateKey } from "../../runtime/signers/secp256k1.ts";
import { openStore } from "../../runtime/store.ts";
import { killProcess, startProcess, temporaryFolder } from "../support/machine.ts";
import { CHUNK_TOKENS, honest, type LyingNode, PRICES, startLyingNode } from "./lying-node.ts";
import { BUDGET, chatBody, ETHER, SILENT, startWorld, type World } from "./world.ts";

const TOKENS = 60;
/** Kills fall before, between and after receipts. */
const KILLED_AT = [1, CHUNK_TOKENS, 3 * CHUNK_TOKENS + 1];

describe("a requester that is killed while it pays", function () {
  this.timeout(60_000);
  let world: World;
  let node: LyingNode;
  before(async () => {
    world = await startWorld();
    node = await startLyingNode(world);
  });
  after(async () => {
    await node.stop();
    await world.stop();
  });

  /** A process that submits and says when so many pieces have come. */
  const startBuyerProcess = (folder: string, body: Uint8Array, key: string, pieces: number) =>
    startProcess(`
      import { openChain } from "./chain/chain.ts";
      import { REQUESTER_MIGRATIONS } from "./requester/ledger-rows.ts";
      import { startRequester } from "./requester/start.ts";
      import { systemClock } from "./runtime/clock.ts";
      import { createLogger } from "./runtime/logger.ts";
      import { createSigner } from "./runtime/signers/secp256k1.ts";
      import { openStore } from "./runtime/store.ts";
      const override = ${JSON.stringify(world.local.deployment)};
      const chain = await openChain({ rpcUrl: "${world.local.rpcUrl}", sources: { override } });
      const store = openStore("${join(folder, "requester.db")}", REQUESTER_MIGRATIONS);
      const requester = await startRequester({
        chain, store, log: createLogger({ level: "silent" }), wallet: createSigner("${key}"), seed: "${key}",
        clock: systemClock,
        budget: { perRequest: 1_000_000n, perJob: 1_000_000n, perDay: 1_000_000n, perNode: 1_000_000n, perNewNode: 1_000_000n },
      });
      let pieces = 0;
      const onEvent = (event) => {
        if (event.type === "text" && ++pieces === ${pieces}) console.log("reached");
      };
      const body = Buffer.from("${Buffer.from(body).toString("base64")}", "base64");
      await requester.submit({ path: "/v1/chat/completions", body, onEvent });
    `);

  for (const pieces of KILLED_AT) {
    it(`has kept every receipt that left, and reads on under the same job: after ${pieces} pieces`, async () => {
      const folder = temporaryFolder();
      const key = generatePrivateKey();
      const wallet = createSigner(key);
      await world.local.fundNative(wallet.address, ETHER);
      await world.local.mintUsdc(wallet.address, 1_000_000n);
      const body = chatBody({ max_tokens: TOKENS });
      node.seen.receipts = [];
      const killed = Promise.withResolvers<void>();
      node.script = async (line) => {
        await honest(pieces)({ ...line, finish: () => {}, deliver: () => {} });
        await killed.promise;
      };
      const child = startBuyerProcess(folder, body, key, pieces);
      await child.saidLine("reached");
      await killProcess(child);
      killed.resolve();

      const store = openStore(join(folder, "requester.db"), REQUESTER_MIGRATIONS);
      const requester = await startRequester({
        ...{ chain: world.chain, store, log: SILENT, wallet, seed: key, clock: systemClock },
        budget: { ...BUDGET, perDay: 1_000_000n },
      });
      const [left] = requester.listJobs();
      const highest = node.seen.receipts.at(-1)!;
      expect(left!.phase).to.equal("streaming");
      expect(left!.signed >= highest, `${left!.signed} kept, ${highest} left`).to.equal(true);
      expect(requester.snapshot().dayLeft).to.equal(1_000_000n - left!.signed);

      node.script = honest(TOKENS);
      const bill = await requester.submit({
        ...{ path: "/v1/chat/completions", body, settlementTimeoutMs: 10_000 },
      });
      expect(bill.jobId).to.equal(left!.jobId);
      expect(bill.text.split(" ").length - 1).to.equal(TOKENS);
      expect(bill.settled!.charge).to.equal(bill.charge);
      expect(bill.charge).to.equal(
        (5n * PRICES.inputPrice + BigInt(TOKENS) * PRICES.outputPrice + 999_999n) / 1_000_000n,
      );
      expect(requester.snapshot().dayLeft).to.equal(1_000_000n - bill.charge);
    });
  }
});
