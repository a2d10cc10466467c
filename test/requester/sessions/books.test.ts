import { expect } from "chai";
import fc from "fast-check";
import { InfernetError } from "../../../protocol/errors.ts";
import { roundCharge } from "../../../protocol/price.ts";
import { openLedger } from "../../../requester/ledger.ts";
import { FINISHED } from "../../../requester/settlement.ts";
import { PromptedUpstream, type Wish } from "../../support/prompted-upstream.ts";
import { holdsAsync } from "../../support/properties.ts";
import { type RealNode, startNodeOf } from "../real-node.ts";
import { type Buyer, MODEL, startBuyer, startWorld, type World } from "../world.ts";
import { ask } from "./asking.ts";

/** So small that runs meet each of them. */
const LIMITS = { perRequest: 150n, perJob: 2_000n, perDay: 3_000n, perNode: 2_000n, perNewNode: 400n };
const USDC = 1_000_000n;
const SESSION_USDC = 500n;

type Request = Wish & {
  node: 0 | 1;
  stream: boolean;
  maxTokens: number;
  maxCharge: bigint;
  leavesAfter: number;
};
/** Requests that run at once, and what happens when so many payloads of theirs have come. */
type Round = {
  requests: Request[];
  after: number;
  meanwhile: "nothing" | "requester restarts" | "node 0 restarts" | "node 1 restarts" | "sessions close";
};

const rounds = fc.array(
  fc.record({
    requests: fc.array(
      fc.record({
        node: fc.constantFrom(0 as const, 1 as const),
        stream: fc.boolean(),
        tokens: fc.nat(60),
        promptTokens: fc.nat(30),
        ...{ maxTokens: fc.integer({ min: 60, max: 100 }), countsAtEnd: fc.boolean() },
        // Rarely: the model breaks down, a caller allows little, a caller goes away.
        failAfter: fc.oneof({ weight: 4, arbitrary: fc.constant(1_000) }, fc.nat(60)),
        maxCharge: fc.oneof({ weight: 3, arbitrary: fc.constant(150n) }, fc.bigInt(1n, 60n)),
        leavesAfter: fc.oneof({ weight: 4, arbitrary: fc.constant(1_000) }, fc.nat(40)),
      }),
      { minLength: 1, maxLength: 8 },
    ),
    after: fc.nat(120),
    meanwhile: fc.constantFrom<Round["meanwhile"]>(
      ...(["nothing", "requester restarts", "node 0 restarts", "node 1 restarts", "sessions close"] as const),
    ),
  }),
  { minLength: 2, maxLength: 6 },
);

const RUNS = Number(process.env.TEST_RUNS ?? 6);

describe("the books of sessions", function () {
  this.timeout(RUNS * 30_000);
  let world: World;
  before(async () => {
    world = await startWorld();
  });
  after(() => world.stop());

  it("agree to the base unit with the chain and the nodes, over random requests, restarts and failures", () =>
    holdsAsync(
      fc.asyncProperty(rounds, async (steps) => {
        const trial = await startTrial(world);
        try {
          for (const step of steps) await trial.run(step);
          await trial.close();
        } finally {
          await trial.stop();
        }
      }),
      RUNS,
    ));
});

async function startTrial(world: World) {
  const config = {
    ...{ minDeposit: 10n, chunkTokens: 8, maxCompletionTokens: 100, receiptTimeoutSeconds: 1 },
    health: { everyMs: 20, timeoutMs: 3_000, restMs: 20 },
  };
  const nodes = await Promise.all([0, 1].map(() => startNodeOf(world, new PromptedUpstream(), config)));
  const buyer = await startBuyer(world, {
    ...{ usdc: USDC, budget: LIMITS, sessions: { depositUsdc: SESSION_USDC, idleSeconds: 600 } },
  });
  const ledger = openLedger(buyer.store);
  const started = Date.now();
  let { requester } = buyer;
  let changing: Promise<unknown> = Promise.resolve();

  const sumOf = (table: string, column: string, where = "TRUE") =>
    BigInt(
      buyer.store.db.prepare(`SELECT coalesce(sum(${column}), 0) AS sum FROM ${table} WHERE ${where}`).get()!
        .sum as number,
    );

  /** What must hold at every moment. */
  function checkLimits(): void {
    for (const { jobId, signed, deposit } of ledger.listJobs())
      expect(signed <= deposit, `${jobId}: signed ${signed} of ${deposit}`).to.equal(true);
    for (const day of daysSince(started)) expect(ledger.spentOn(day) <= LIMITS.perDay, "day").to.equal(true);
    for (const { address } of nodes) {
      const spent = sumOf("node_days", "amount", `node = '${address}'`);
      const limit = ledger.hasHistory(address) ? LIMITS.perNode : LIMITS.perNewNode;
      expect(spent <= limit, `${address}: ${spent} of ${limit}`).to.equal(true);
    }
  }

  const changes: Record<Round["meanwhile"], () => Promise<unknown>> = {
    nothing: async () => {},
    async "requester restarts"() {
      await requester.stop();
      requester = await buyer.restart();
    },
    "node 0 restarts": () => nodes[0]!.restart(),
    "node 1 restarts": () => nodes[1]!.restart(),
    "sessions close": () => requester.sessions.close(),
  };

  async function run({ requests, after, meanwhile }: Round): Promise<void> {
    let payloads = 0;
    let changed = false;
    const onPayload = () => {
      checkLimits();
      payloads += 1;
      if (payloads < after || changed) return;
      changed = true;
      changing = changes[meanwhile]();
    };
    await Promise.all(requests.map((request) => askOnce(request, onPayload)));
    if (!changed) changing = changes[meanwhile]();
    await changing;
    checkLimits();
  }

  async function askOnce(request: Request, onPayload: () => void): Promise<void> {
    const { node, stream, maxTokens, maxCharge, leavesAfter, ...wish } = request;
    const leaving = new AbortController();
    let seen = 0;
    const messages = [{ role: "user", content: JSON.stringify(wish) }];
    const body = Buffer.from(JSON.stringify({ model: MODEL, stream, max_tokens: maxTokens, messages }));
    const paying = ask(world, { requester }, nodes[node]!.address, {
      ...{ body, maxCharge, signal: leaving.signal },
      onEvent(event) {
        if (event.type === "receipt") checkLimits();
        if (event.type !== "payload") return;
        onPayload();
        seen += 1;
        if (seen === leavesAfter) leaving.abort();
      },
    });
    // Whatever a request ends with, it is an error that users know, and never one that says that the books are wrong.
    await paying.then(
      ({ charge }) => expect(charge <= maxCharge).to.equal(true),
      (error: unknown) => {
        if (!(error instanceof InfernetError) || error.code === "node-misbehaved") throw error;
      },
    );
  }

  /** Closes everything, then holds all books against each other. */
  async function close(): Promise<void> {
    await requester.tend();
    await requester.sessions.close();
    for (const { jobId, phase } of ledger.listJobs())
      if (!FINISHED.includes(phase)) await requester.wait(jobId, { timeoutMs: 20_000 });
    let claimedSum = 0n;
    for (const job of ledger.listJobs().filter(({ phase }) => phase !== "dropped")) {
      const { claimed, deposit } = await world.chain.getJobState(job.jobId);
      claimedSum += claimed;
      expect(job.claimed).to.equal(claimed);
      expect(job.lost, "what became of every request is known").to.equal(0n);
      expect(claimed).to.equal(job.openingFee + roundCharge(job.settled));
      expect(claimed <= job.signed && job.signed <= deposit).to.equal(true);
      expect(job.settled).to.equal(sumOf("requests", "cost", `job_id = '${job.jobId}'`));
    }
    const [earned, { free }] = await Promise.all([earnedOf(world, nodes), holdingsOf(world, buyer)]);
    const { charged, settled } = totalsOf(nodes);
    expect({ earned, charged, settled }).to.deep.equal({
      ...{ earned: claimedSum, charged: claimedSum, settled: claimedSum },
    });
    expect(free).to.equal(USDC - claimedSum);
    expect(sumOf("debits", "amount")).to.equal(claimedSum);
    expect(sumOf("node_days", "amount")).to.equal(claimedSum);
  }

  return {
    run,
    close,
    async stop() {
      await changing.catch(() => {});
      await requester.stop();
      buyer.store.close();
      await Promise.all(nodes.map((node) => node.stop()));
    },
  };
}

type Node = RealNode<PromptedUpstream>;

async function earnedOf({ chain }: World, nodes: readonly Node[]): Promise<bigint> {
  const sums = nodes.map(async ({ payee }) => (await chain.getEarned(payee)) + (await chain.getUsdc(payee)));
  return (await Promise.all(sums)).reduce((sum, earned) => sum + earned, 0n);
}

function totalsOf(nodes: readonly Node[]): { charged: bigint; settled: bigint } {
  const snapshots = nodes.map(({ provider }) => provider.snapshot());
  return {
    charged: snapshots.reduce((sum, { charged }) => sum + charged, 0n),
    settled: snapshots.reduce((sum, { settled }) => sum + settled, 0n),
  };
}

async function holdingsOf({ chain }: World, { wallet }: Buyer): Promise<{ free: bigint }> {
  const [credit, inWallet] = await Promise.all([
    chain.getCredit(wallet.address),
    chain.getUsdc(wallet.address),
  ]);
  return { free: credit + inWallet };
}

/** UTC days that a trial may have signed in. */
function daysSince(started: number): number[] {
  const dayOf = (ms: number) => Math.floor(ms / 86_400_000);
  return [...new Set([dayOf(started), dayOf(Date.now())])];
}
