// Which upstream runs a request: load, turns, health by looks and by failures, and going on elsewhere before a word.
import { setTimeout as delay } from "node:timers/promises";
import { expect } from "chai";
import { InfernetError } from "../../protocol/errors.ts";
import { PROVIDER_DEFAULTS } from "../../provider/config.ts";
import {
  createDispatcher,
  type DispatchChange,
  type Dispatcher,
  type DispatchRules,
  type Lease,
} from "../../provider/dispatch.ts";
import { createLogger } from "../../runtime/logger.ts";
import { failureOf } from "../support/machine.ts";
import { ScriptedUpstream, TINY } from "../support/scripted-upstream.ts";
import { account, word } from "./ledger-fixture.ts";

const UNREACHABLE = new InfernetError("upstream-unreachable", "nobody answers");
const FAILED = new InfernetError("upstream-failed", "it broke");
const HEALTH = { everyMs: 5, timeoutMs: 1_000, restMs: 40 };

describe("the dispatcher", () => {
  let dispatcher: Dispatcher;
  afterEach(() => dispatcher.stop(new InfernetError("interrupted", "the test is over")));

  const start = async (
    upstreams: readonly [ScriptedUpstream, capacity: number][],
    rules: Partial<DispatchRules> = {},
  ) => {
    const entries = upstreams.map(([upstream, capacity], index) => ({
      name: `u${index}`,
      upstream,
      capacity,
    }));
    const { queue } = PROVIDER_DEFAULTS;
    const log = createLogger({ level: "silent" });
    dispatcher = await createDispatcher(entries, { capacity: 100, queue, health: HEALTH, ...rules }, log);
  };
  const acquire = (requester = 1, signal = new AbortController().signal) =>
    dispatcher.acquire({ requester: account(requester), model: TINY.name, digest: TINY.digest, signal });
  const load = () => dispatcher.snapshot().upstreams.map(({ running }) => running);
  const states = () => dispatcher.snapshot().upstreams.map(({ state }) => state);
  /** Resolves at the next change that passes. */
  const change = (passes: (change: DispatchChange) => boolean) =>
    new Promise<DispatchChange>((resolve) => {
      const unsubscribe = dispatcher.subscribe((told) => {
        if (!passes(told)) return;
        unsubscribe();
        resolve(told);
      });
    });
  const turned = (state: "up" | "down") =>
    change((told) => told.type === "upstream" && told.status.state === state);
  const queued = () => dispatcher.snapshot().queued;
  const read = async (lease: Lease, signal = new AbortController().signal) => {
    let text = "";
    const body = { model: TINY.name };
    for await (const event of lease.upstream.generate({ path: "/v1/chat/completions", body, signal })) {
      if (event.type === "chunk") text += event.chunk.choices?.[0]?.delta?.content ?? "";
    }
    return text;
  };
  const failing = (error: Error) => {
    const upstream = new ScriptedUpstream([]);
    upstream.listModels = () => Promise.reject(error);
    return upstream;
  };

  it("gives each request to the upstream with the least load for its size", async () => {
    await start([
      [new ScriptedUpstream([]), 1],
      [new ScriptedUpstream([]), 4],
    ]);
    const leases = [await acquire(), await acquire(), await acquire(), await acquire()];
    expect(load()).to.deep.equal([1, 3]);
    leases[0]!.release();
    leases[0]!.release();
    expect(load()).to.deep.equal([0, 3]);
    await acquire();
    expect(load()).to.deep.equal([1, 3]);
  });

  it("runs no more than the cap over all, and lets the rest wait", async () => {
    await start(
      [
        [new ScriptedUpstream([]), 4],
        [new ScriptedUpstream([]), 4],
      ],
      { capacity: 3 },
    );
    const leases = [await acquire(), await acquire(), await acquire()];
    const fourth = acquire();
    expect(queued()).to.equal(1);
    expect(dispatcher.capacityFor([TINY])).to.equal(3);
    leases[0]!.release();
    await fourth;
    expect(dispatcher.snapshot()).to.include({ queued: 0, running: 3 });
  });

  it("never lets a greedy requester's 20 requests starve another one", async () => {
    await start([[new ScriptedUpstream([]), 2]]);
    const order: number[] = [];
    const run = async (requester: number) => {
      const lease = await acquire(requester);
      order.push(requester);
      await new Promise(setImmediate);
      lease.release();
    };
    const greedy = Array.from({ length: 20 }, () => run(1));
    const modest = Array.from({ length: 3 }, () => run(2));
    await Promise.all([...greedy, ...modest]);
    // Two ran at once, before the other one came; from then on both have every second turn.
    expect(order.slice(0, 8)).to.deep.equal([1, 1, 1, 2, 1, 2, 1, 2]);
  });

  it("bounds the queue for each requester and in all, and says honestly when there will be room", async () => {
    const queue = { perRequester: 2, total: 3, waitMs: 60_000 };
    await start([[new ScriptedUpstream([]), 1]], { queue });
    const running = await acquire(1);
    const waiting = [acquire(1), acquire(1)];
    const error: InfernetError = await failureOf(() => acquire(1));
    expect(error.code).to.equal("node-busy");
    // Nothing has ended yet: a request is taken to last 2 s, and its own line moves when each requester had a turn.
    expect(error.data).to.deep.equal({ retryAfterSeconds: 2 });
    waiting.push(acquire(2));
    expect(queued()).to.equal(3);
    // Whoever waits with less comes in for the newest of the longest line.
    const dropped = failureOf(() => waiting[1]!);
    const third = acquire(3);
    expect((await dropped).data)
      .to.have.property("retryAfterSeconds")
      .that.is.greaterThan(0);
    expect((await failureOf(() => acquire(2))).code).to.equal("node-busy");
    running.release();
    for (const next of [waiting[0]!, waiting[2]!, third]) (await next).release();
    expect(dispatcher.snapshot()).to.include({ queued: 0, running: 0 });
  });

  it("tells shorter waits once requests have proved to be short", async () => {
    await start([[new ScriptedUpstream([]), 1]], { queue: { perRequester: 0, total: 0, waitMs: 10 } });
    const first = await acquire();
    const before: InfernetError = await failureOf(() => acquire());
    first.release();
    for (let index = 0; index < 10; index++) (await acquire()).release();
    const last = await acquire();
    const after: InfernetError = await failureOf(() => acquire());
    expect([before.data.retryAfterSeconds, after.data.retryAfterSeconds]).to.deep.equal([2, 1]);
    last.release();
  });

  it("sends away who has waited too long, who leaves, and all when it stops", async () => {
    await start([[new ScriptedUpstream([]), 1]], { queue: { perRequester: 9, total: 9, waitMs: 30 } });
    await acquire();
    expect((await failureOf(() => acquire())).code).to.equal("node-busy");
    const leave = new AbortController();
    const left = failureOf(() => acquire(1, leave.signal));
    expect(queued()).to.equal(1);
    leave.abort(new InfernetError("interrupted", "gone"));
    expect((await left).message).to.equal("gone");
    expect(queued()).to.equal(0);
    const stopped = failureOf(() => acquire());
    dispatcher.stop(new InfernetError("node-busy", "stopping"));
    expect((await stopped).message).to.equal("stopping");
    expect((await failureOf(() => acquire())).message).to.equal("stopping");
  });

  it("sees an upstream go down and come back, and offers and serves accordingly", async () => {
    const upstream = new ScriptedUpstream([]);
    const other = new ScriptedUpstream([]);
    other.models = [{ ...TINY, name: "other" }];
    await start([
      [upstream, 2],
      [other, 3],
    ]);
    expect(dispatcher.listModels().map(({ name }) => name)).to.deep.equal(["tiny", "other"]);
    const leases = [await acquire(), await acquire()];
    const lost = failureOf(() => acquire());
    upstream.listModels = () => Promise.reject(UNREACHABLE);
    await turned("down");
    expect((await lost).code).to.equal("upstream-unreachable");
    expect((await failureOf(() => acquire())).data).to.deep.equal({ retryAfterSeconds: 5 });
    expect(dispatcher.listModels().map(({ name }) => name)).to.deep.equal(["other"]);
    expect(dispatcher.capacityFor([TINY])).to.equal(0);
    expect(dispatcher.snapshot().upstreams[0]).to.include({
      state: "down",
      reason: "nobody answers",
      running: 2,
    });
    upstream.listModels = () => Promise.resolve([TINY]);
    await turned("up");
    for (const lease of leases) lease.release();
    await acquire();
    expect(load()).to.deep.equal([1, 0]);
  });

  it("takes an upstream that does not answer its looks in time for down, unless a request on it makes progress", async () => {
    const upstream = new ScriptedUpstream([]);
    let isBusy = true;
    upstream.generate = async function* () {
      while (isBusy) {
        await delay(2);
        yield { type: "chunk", chunk: { choices: [] }, tokens: 1 };
      }
    };
    await start([[upstream, 1]], { health: { ...HEALTH, timeoutMs: 100 } });
    const answer = read(await acquire());
    const looks = Promise.withResolvers<void>();
    let count = 0;
    upstream.listModels = () => {
      count += 1;
      if (count === 3) looks.resolve();
      return new Promise(() => {});
    };
    await looks.promise;
    expect(states()).to.deep.equal(["up"]);
    isBusy = false;
    await answer;
    await turned("down");
    expect(dispatcher.snapshot().upstreams[0]!.reason).to.contain("within 100 ms");
  });

  it("does not run what is there under another digest than the offer's", async () => {
    const upstream = new ScriptedUpstream([]);
    upstream.models = [{ ...TINY, digest: word(0x99) }];
    await start([[upstream, 1]]);
    expect((await failureOf(() => acquire())).code).to.equal("model-not-found");
  });

  it("goes on with another upstream that has the model when the first fails before a word", async () => {
    const broken = new ScriptedUpstream([{ usage: [10, 0], final: false }, { fail: UNREACHABLE }]);
    const third = new ScriptedUpstream(["never"]);
    third.models = [{ ...TINY, digest: word(0x99) }];
    const good = new ScriptedUpstream(["good"]);
    await start(
      [
        [broken, 1],
        [third, 1],
        [good, 1],
      ],
      { health: { ...HEALTH, everyMs: 60_000 } },
    );
    const lease = await acquire();
    const down = turned("down");
    expect(await read(lease)).to.equal("good");
    await down;
    expect([broken.runs.length, third.runs.length, good.runs.length]).to.deep.equal([1, 0, 1]);
    lease.release();
    expect(load()).to.deep.equal([0, 0, 0]);
  });

  it("waits for the other upstream when that is busy, before those who came later", async () => {
    const broken = new ScriptedUpstream([{ fail: FAILED }]);
    await start([
      [broken, 1],
      [new ScriptedUpstream(["good"]), 1],
    ]);
    const moving = await acquire();
    const running = await acquire();
    const later = acquire();
    const waiting = change(() => queued() === 1);
    const answer = read(moving);
    await waiting;
    // The place on the broken one went to who came later; it is the moved one's turn on the other.
    running.release();
    expect(await answer).to.equal("good");
    moving.release();
    (await later).release();
  });

  it("never runs a request twice after its first token, nor one that is wrong by itself", async () => {
    const halfway = new ScriptedUpstream(["half", { fail: FAILED }]);
    const wrong = new InfernetError("bad-request", "no such member");
    const refusing = new ScriptedUpstream([{ fail: wrong }]);
    await start([
      [halfway, 1],
      [refusing, 1],
    ]);
    const [first, second] = [await acquire(), await acquire()];
    expect(await failureOf(() => read(first))).to.equal(FAILED);
    expect(await failureOf(() => read(second))).to.equal(wrong);
    expect([halfway.runs.length, refusing.runs.length]).to.deep.equal([1, 1]);
    expect(states()).to.deep.equal(["up", "up"]);
  });

  it("lets an upstream rest that answers looks but fails three requests in a row, and tries it again", async () => {
    const upstream = new ScriptedUpstream(
      [{ fail: FAILED }],
      [{ fail: FAILED }],
      [{ fail: FAILED }],
      ["good"],
    );
    await start([[upstream, 1]]);
    for (let index = 0; index < 3; index++) {
      const lease = await acquire();
      expect(await failureOf(() => read(lease))).to.equal(FAILED);
      lease.release();
    }
    expect(states()).to.deep.equal(["down"]);
    expect(dispatcher.snapshot().upstreams[0]!.reason).to.equal("3 requests in a row failed: it broke");
    await turned("up");
    const lease = await acquire();
    expect(await read(lease)).to.equal("good");
    lease.release();
  });

  it("starts while all are down, and becomes able to serve by itself", async () => {
    const upstream = failing(UNREACHABLE);
    await start([[upstream, 2]]);
    expect(states()).to.deep.equal(["down"]);
    upstream.listModels = () => Promise.resolve([TINY]);
    await turned("up");
    await acquire();
  });
});
