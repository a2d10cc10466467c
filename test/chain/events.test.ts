import { expect } from "chai";
import fc from "fast-check";
import { type Chain, openChain } from "../../chain/chain.ts";
import {
  type ChainEvent,
  type Cursor,
  type EventBatch,
  type Follower,
  followEvents,
} from "../../chain/events.ts";
import { type Address, ZERO_WORD } from "../../protocol/bytes.ts";
import { errorOf } from "../support/errors.ts";
import { type FaultyRpc, startFaultyRpc } from "../support/faulty-rpc.ts";
import { type LocalChain, startLocalChain } from "../support/local-chain.ts";
import { holdsAsync } from "../support/properties.ts";

const MODEL = { name: "tiny", digest: ZERO_WORD, inputPrice: 1n, outputPrice: 1n };
const NOBODY = `0x${"77".repeat(20)}` as const;

/** What a follower's user keeps: the events and cursors that stand, rolled back as batches say. */
class Ledger {
  events: ChainEvent[] = [];
  cursors: Cursor[] = [];
  batches: EventBatch[] = [];
  errors: unknown[] = [];

  apply(batch: EventBatch): void {
    const { undone } = batch;
    if (undone) {
      this.events = this.events.filter((event) => event.block <= undone.block);
      this.cursors = this.cursors.filter((cursor) => cursor.block <= undone.block);
    }
    this.events.push(...batch.events);
    this.cursors.push(batch.cursor);
    this.batches.push(batch);
  }

  get transactions(): string[] {
    return this.events.map((event) => `${event.tx}:${event.logIndex}`);
  }
}

describe("the event follower", () => {
  let local: LocalChain;
  let faulty: FaultyRpc;
  let chain: Chain;
  let node: Address;
  let stopping: AbortController;
  let followers: Follower[];

  beforeEach(async () => {
    local = await startLocalChain();
    faulty = await startFaultyRpc(local.rpcUrl);
    chain = await openChain({ rpcUrl: faulty.url, sources: { override: local.deployment } });
    node = local.accounts[1]!.address;
    stopping = new AbortController();
    followers = [];
    await local.sendAs(node, chain.calls.register(node, "https://0", [MODEL]));
  });
  afterEach(async () => {
    stopping.abort();
    await Promise.all(followers.map((follower) => follower.done));
    await chain.close();
    await faulty.stop();
    await local.stop();
  });

  function follow(ledger: Ledger, options: Partial<Parameters<typeof followEvents>[1]> = {}): Follower {
    const follower = followEvents(chain, {
      from: ledger.cursors.at(-1) ?? null,
      recentCursors: () => ledger.cursors.toReversed(),
      pollMs: 60_000, // Tests poke.
      onBatch: (batch) => ledger.apply(batch),
      onError: (error) => ledger.errors.push(error),
      signal: stopping.signal,
      ...options,
    });
    followers.push(follower);
    return follower;
  }

  const moveTo = (endpoint: string) => local.sendAs(node, chain.calls.setEndpoint(endpoint));
  const endpointChange = (tx: string) => ({ kind: "nodeChanged", node, change: "endpoint", tx });

  it("starts at the deployment and reports every event once, in order", async () => {
    const ledger = new Ledger();
    const follower = follow(ledger);
    await follower.poke();
    expect(ledger.events.map((event) => event.kind === "nodeChanged" && event.change)).to.deep.equal([
      "registered",
      "payee",
      "endpoint",
      "models",
      "active",
    ]);
    const tx = await moveTo("https://1");
    await follower.poke();
    await follower.poke();
    expect(ledger.events).to.have.length(6);
    expect(ledger.events.at(-1)).to.deep.include(endpointChange(tx));
    const { number, hash, timestamp } = await chain.getBlock("latest");
    expect(ledger.cursors.at(-1)).to.deep.equal({ block: number, hash });
    expect(ledger.events.at(-1)).to.deep.include({ block: number, blockHash: hash, timestamp });
  });

  it("polls by itself", async () => {
    const ledger = new Ledger();
    const seen = Promise.withResolvers<void>();
    follow(ledger, {
      pollMs: 10,
      onBatch(batch) {
        ledger.apply(batch);
        if (ledger.events.length === 6) seen.resolve();
      },
    });
    await moveTo("https://1");
    await seen.promise;
  });

  it("reports a block without events as well, because confirmations count blocks", async () => {
    const ledger = new Ledger();
    const follower = follow(ledger);
    await follower.poke();
    await local.mine(3);
    await follower.poke();
    expect(ledger.batches.at(-1)).to.deep.include({ events: [], undone: null });
    expect(ledger.batches.at(-1)?.head.number).to.equal((await chain.getBlock("latest")).number);
  });

  it("goes on where an earlier run stopped", async () => {
    const ledger = new Ledger();
    const first = new AbortController();
    const follower = follow(ledger, { signal: first.signal });
    await follower.poke();
    first.abort();
    await follower.done;
    const tx = await moveTo("https://1");
    await follow(ledger).poke();
    expect(ledger.events).to.have.length(6);
    expect(ledger.events.at(-1)).to.deep.include(endpointChange(tx));
  });

  it("undoes what a reorganisation took away and reports what stands instead", async () => {
    const ledger = new Ledger();
    const follower = follow(ledger);
    await follower.poke();
    const fork = ledger.cursors.at(-1)!;
    const snapshot = await local.snapshot();
    await moveTo("https://lost");
    await follower.poke();
    await local.mine(1);
    await follower.poke();
    await local.revert(snapshot);
    await local.mine(2);
    const tx = await moveTo("https://stands");
    await follower.poke();
    expect(ledger.batches.at(-1)?.undone).to.deep.equal(fork);
    expect(ledger.events).to.have.length(6);
    expect(ledger.events.at(-1)).to.deep.include(endpointChange(tx));
    expect(ledger.errors).to.deep.equal([]);
  });

  it("sees a reorganisation that happened while it was stopped", async () => {
    const ledger = new Ledger();
    const snapshot = await local.snapshot();
    const first = new AbortController();
    const follower = follow(ledger, { signal: first.signal });
    await follower.poke();
    await moveTo("https://lost");
    await follower.poke();
    first.abort();
    await follower.done;
    await local.revert(snapshot);
    await local.mine(5);
    await follow(ledger).poke();
    expect(ledger.events).to.have.length(5);
  });

  it("starts over when no cursor that was kept is on the chain", async () => {
    const ledger = new Ledger();
    ledger.cursors = [{ block: 2, hash: `0x${"dd".repeat(32)}` }];
    await follow(ledger).poke();
    expect(ledger.batches[0]?.undone?.block).to.equal(local.deployment.fromBlock - 1);
    expect(ledger.events).to.have.length(5);
  });

  it("waits before it takes a shorter chain for a reorganisation: another server may only lag", async () => {
    const ledger = new Ledger();
    const follower = follow(ledger);
    const snapshot = await local.snapshot();
    await moveTo("https://1");
    await follower.poke();
    const known = ledger.transactions;
    await local.revert(snapshot);
    await follower.poke();
    await follower.poke();
    expect(ledger.transactions).to.deep.equal(known);
    await follower.poke();
    expect(ledger.events).to.have.length(5);
  });

  it("ends, after any reorganisations, with the events that a fresh follower reads", async () => {
    const acts = fc.array(fc.constantFrom("move", "mine", "keep", "fork", "poke"), { maxLength: 20 });
    let moves = 0;
    await holdsAsync(
      fc.asyncProperty(acts, async (sequence) => {
        const ledger = new Ledger();
        const stop = new AbortController();
        const follower = follow(ledger, { signal: stop.signal });
        const snapshots: string[] = [];
        for (const act of sequence) {
          if (act === "move") await moveTo(`https://${moves++}`);
          if (act === "mine") await local.mine(2);
          if (act === "keep") snapshots.push(await local.snapshot());
          if (act === "poke") await follower.poke();
          const snapshot = act === "fork" && snapshots.pop();
          if (snapshot) await local.revert(snapshot);
        }
        // Longer than any fork before: a chain that is only shorter is not believed at once.
        await local.mine(60);
        await follower.poke();
        stop.abort();
        const fresh = new Ledger();
        await follow(fresh).poke();
        expect(ledger.transactions).to.deep.equal(fresh.transactions);
      }),
      15,
    );
  });

  it("hands a batch again when its user failed to keep it", async () => {
    const ledger = new Ledger();
    const failures = [new Error("disk full")];
    const follower = follow(ledger, {
      onBatch(batch) {
        const failure = failures.pop();
        if (failure) throw failure;
        ledger.apply(batch);
      },
    });
    await follower.poke().catch(() => {});
    await follower.poke();
    expect(ledger.errors).to.have.length(1);
    expect(ledger.events).to.have.length(5);
  });

  it("goes on after the RPC was away, and a poke in between says that it is", async () => {
    const ledger = new Ledger();
    const follower = follow(ledger);
    await follower.poke();
    const tx = await moveTo("https://1");
    faulty.faultOf = () => "hang-up";
    expect((await errorOf(follower.poke())).code).to.equal("chain-unreachable");
    faulty.faultOf = () => "pass";
    await follower.poke();
    expect(ledger.events.at(-1)).to.deep.include(endpointChange(tx));
    expect(ledger.errors).to.have.length(1);
  });

  it("asks for fewer blocks at a time when the RPC finds a range too large", async () => {
    await local.mine(300);
    faulty.faultOf = (method, params) => {
      const { fromBlock, toBlock } = (params[0] ?? {}) as Record<string, string>;
      const isWide = method === "eth_getLogs" && Number(toBlock) - Number(fromBlock) >= 50;
      return isWide ? { error: { code: -32005, message: "block range is too large" } } : "pass";
    };
    const ledger = new Ledger();
    await follow(ledger).poke();
    expect(ledger.events).to.have.length(5);
    expect(ledger.cursors.at(-1)?.block).to.equal((await chain.getBlock("latest")).number);
    expect(ledger.errors).to.deep.equal([]);
  });

  it("finds an opening's page in the same way", async () => {
    const [requester, signer] = [local.accounts[2]!.address, local.accounts[3]!.address];
    const { timestamp } = await chain.getBlock("latest");
    const job = { requester, signer, node, payee: node, jobHash: ZERO_WORD, deadline: timestamp + 3600 };
    await local.mintUsdc(requester, 5n);
    for (const call of [chain.calls.approveUsdc(5n), chain.calls.deposit(5n), chain.calls.open(job, 5n)]) {
      await local.sendAs(requester, call);
    }
    await local.mine(300);
    const ledger = new Ledger();
    await follow(ledger, { requester }).poke();
    expect(ledger.events.map((event) => event.kind)).to.deep.equal(["deposited", "opened"]);
    const opened = ledger.events[1]!;
    faulty.faultOf = (method, params) => {
      const { fromBlock, toBlock } = (params[0] ?? {}) as Record<string, string>;
      const isWide = method === "eth_getLogs" && Number(toBlock) - Number(fromBlock) >= 50;
      return isWide ? { error: { code: -32005, message: "block range is too large" } } : "pass";
    };
    expect(opened.kind === "opened" && (await chain.getOpened(opened.jobId))).to.deep.equal(opened);
  });

  it("reports only what concerns its node, payee or requester", async () => {
    const ledgers = [new Ledger(), new Ledger()] as const;
    await follow(ledgers[0], { node }).poke();
    await follow(ledgers[1], { node: NOBODY, payee: NOBODY, requester: NOBODY }).poke();
    expect(ledgers.map((ledger) => ledger.events.length)).to.deep.equal([5, 0]);
  });

  it("ends when it is told to, and pokes after that fail", async () => {
    const follower = follow(new Ledger());
    stopping.abort();
    await follower.done;
    expect((await errorOf(follower.poke())).code).to.equal("interrupted");
  });
});
