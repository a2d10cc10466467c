// Fifty SIGKILLs of worker and requester at every kind of moment: after each restart all books agree, nothing is lost.
import { expect } from "chai";
import { type FaultyRpc, startFaultyRpc } from "../support/faulty-rpc.ts";
import { killAt, MOMENTS, type Moment, type Victim } from "../support/kill-moments.ts";
import { ALLOWANCE, type Market, openMarket, type Side, type Worker } from "../support/market.ts";
import { createRandom } from "../support/random.ts";
import { type BookedJob, findFaults, readBooks } from "../support/trade-books.ts";
import type { WatchedProcess } from "../support/watched-process.ts";

const ROUNDS = 50;
const SEED = Number(process.env.INFERNET_KILLS_SEED ?? 4);
const PROMPT = "tell a long story of the world, part";
const SAMPLING = ["--max-tokens", "150", "--temperature", "0", "--seed", "1", "--json"];
const LONGEST_DELAY_MS = 40;
/** What a requester may end with whose worker was killed: an answer, none reachable, or one that was cut off. */
const OUTCOMES_OF_A_CRASH = [0, 5, 6];

describe(`fifty kills of worker and requester (seed ${SEED})`, function () {
  this.timeout(180_000);
  const random = createRandom(SEED);
  const rpc = {} as Record<Side, FaultyRpc>;
  /** How often each kind of moment was seen to happen before its kill. */
  const hits = new Map<string, number>();
  let market: Market;
  let worker: Worker;
  let prompts = 0;

  before(async () => {
    const rpcUrlOf = async (side: Side, url: string) => {
      rpc[side] = await startFaultyRpc(url);
      return rpc[side].url;
    };
    market = await openMarket({ rpcUrlOf });
    worker = await market.startWorker("--log-level", "error");
  });
  after(async () => {
    await market?.close();
    await Promise.all(Object.values(rpc).map((front) => front.stop()));
  });

  const nextPrompt = () => `${PROMPT} ${++prompts}`;
  const ask = (prompt: string) => market.submit(prompt, ...SAMPLING, "--wait");

  /** The books at the head of the chain, once what the worker owes to the chain has come there. */
  async function settledBooks(): Promise<BookedJob[]> {
    for (const { jobId, status, isServed } of await readBooks(market, await head())) {
      if (status === "open" && isServed) await worker.event("settled", jobId);
    }
    const at = await head();
    const jobs = await readBooks(market, at);
    expect(await findFaults(market, jobs, at)).to.deep.equal([]);
    return jobs;
  }
  const head = async () => (await market.view.getBlock("latest")).number;

  async function restart(victim: Victim, buyer: WatchedProcess, prompt: string): Promise<void> {
    if (victim === "worker") {
      worker = await market.startWorker("--log-level", "error");
      const { exitCode, stderr } = await buyer.ended;
      expect(exitCode, stderr).to.be.oneOf(OUTCOMES_OF_A_CRASH);
    } else {
      // Its user asks again, or asks something else: what was left is resumed by the one, ended by the other.
      const again = ask(random.below(2) === 0 ? prompt : nextPrompt());
      const { exitCode, stderr } = await again.ended;
      expect(exitCode, stderr).to.equal(0);
    }
  }

  for (const [index, moment] of schedule(random).entries()) {
    it(`${index + 1}: the ${moment.victim} dies when ${moment.kind}`, async () => {
      const prompt = nextPrompt();
      const scene = { worker, workerSaid: worker.said.stdout.lastIndexOf("\n") + 1, buyer: ask(prompt), rpc };
      const delayMs = random.below(2) * random.below(LONGEST_DELAY_MS);
      if (await killAt(moment, scene, delayMs)) hits.set(moment.kind, (hits.get(moment.kind) ?? 0) + 1);
      await restart(moment.victim, scene.buyer, prompt);
      const jobs = await settledBooks();
      const left = jobs.filter(({ status, isServed }) => status === "open" && isServed);
      expect(left, "jobs that their node served and that are still open").to.deep.equal([]);
    });
  }

  it("met every kind of moment", () => {
    expect([...hits.keys()].toSorted()).to.deep.equal(MOMENTS.map(({ kind }) => kind).toSorted());
  });

  it("leaves nothing in the Escrow's jobs once their deadlines are over: every deposit went to one of the two", async () => {
    await market.chain.increaseTime(3700);
    await ask(nextPrompt()).ended;
    const jobs = await settledBooks();
    expect(jobs.filter(({ status }) => status === "open")).to.deep.equal([]);
    const unfinished = jobs.filter(({ phase }) => !["closed", "refunded", "dropped"].includes(phase));
    expect(unfinished).to.deep.equal([]);
    const { requester, payee } = await market.holdings();
    expect(requester + payee).to.equal(ALLOWANCE);
  });
});

/** Workers and requesters in turn, each through all kinds of its moments in an order of the seed, again and again. */
function schedule(random: ReturnType<typeof createRandom>): Moment[] {
  const kinds = {
    worker: random.shuffled(MOMENTS.filter(({ victim }) => victim === "worker")),
    requester: random.shuffled(MOMENTS.filter(({ victim }) => victim === "requester")),
  };
  return Array.from({ length: ROUNDS }, (_, round) => {
    const ofVictim = kinds[round % 2 === 0 ? "worker" : "requester"];
    return ofVictim[Math.floor(round / 2) % ofVictim.length]!;
  });
}
