// A paid node whose upstreams are busy: who waits, who is sent away, and that waiting costs and reserves nothing.
import { expect } from "chai";
import { InfernetError } from "../../protocol/errors.ts";
import type { ProviderConfig } from "../../provider/config.ts";
import type { UpstreamEntry } from "../../provider/dispatch.ts";
import { ScriptedUpstream, type Step } from "../support/scripted-upstream.ts";
import { account, createFolder, word } from "./ledger-fixture.ts";
import {
  chatBytes,
  deliveryOf,
  openJob,
  readWhole,
  refusalOf,
  type Serving,
  send,
  startServing,
} from "./serving-fixture.ts";

describe("a node at its capacity", () => {
  const folder = createFolder();
  let on: Serving;
  let run = 0;
  let release: () => void;
  let gate: Promise<void>;
  beforeEach(() => {
    ({ promise: gate, resolve: release } = Promise.withResolvers<void>());
  });
  afterEach(async () => {
    release();
    await on.stop();
  });
  after(() => folder.remove());

  const start = async (
    upstreams: ScriptedUpstream | readonly UpstreamEntry[],
    config: Partial<ProviderConfig> = { capacity: 1 },
  ) => {
    run += 1;
    on = await startServing(`${folder.path}/${run}`, upstreams, { config });
    return on;
  };
  const answer = (): Step[] => ["a", { until: gate }, { usage: [10, 1] }];
  const newJob = (seed: number, requester = account(0x21)) =>
    openJob(on, { body: chatBytes({ seed }), requester, salt: word(seed) });
  /** Resolves once so many requests wait. */
  const queued = (count: number) =>
    new Promise<void>((resolve) => {
      const look = () => {
        if (on.dispatcher.snapshot().queued !== count) return;
        unsubscribe();
        resolve();
      };
      const unsubscribe = on.dispatcher.subscribe(look);
      look();
    });

  it("lets a request wait without charging or reserving anything, and runs it in its turn", async () => {
    await start(new ScriptedUpstream(answer(), ["b", { usage: [10, 1] }]));
    const [first, second] = [newJob(1), newJob(2)];
    const running = await send(on, first, 18n);
    const waiting = send(on, second, 18n);
    await queued(1);
    expect(on.ledger.findJob(second.jobId)).to.include({ charge: 0n, reserved: 0n, running: 0 });
    expect(on.ledger.runningRequests()).to.have.length(1);
    release();
    await readWhole(running);
    const { text, delivery } = await readWhole(await waiting);
    expect(text).to.equal("b");
    expect(delivery).to.include({ jobCharge: 11n });
  });

  it("gives no place in the queue to who has not signed for the first cover", async () => {
    await start(new ScriptedUpstream(answer()));
    const running = await send(on, newJob(1), 18n);
    expect((await refusalOf(await send(on, newJob(2)))).code).to.equal("receipt-too-small");
    expect((await refusalOf(await send(on, newJob(3), 17n))).code).to.equal("receipt-too-small");
    expect(on.dispatcher.snapshot().queued).to.equal(0);
    // One receipt pays for one place: a session's second request has to be signed for on top of its first.
    const session = openJob(on, { session: true, salt: word(4) });
    const extra = (key: string) => ({ extra: { "idempotency-key": key } });
    const waiting = send(on, session, 18n, extra("one"));
    await queued(1);
    const refused = await refusalOf(await send(on, session, 18n, extra("two")));
    expect(refused).to.deep.equal({ status: 402, code: "receipt-too-small", need: "36" });
    release();
    await readWhole(running);
    await readWhole(await waiting);
  });

  it("frees the place of a requester that leaves, and charges nothing", async () => {
    const upstream = new ScriptedUpstream(answer());
    await start(upstream);
    const running = await send(on, newJob(1), 18n);
    const leave = new AbortController();
    const second = newJob(2);
    const gone = send(on, second, 18n, { signal: leave.signal }).catch((error: Error) => error.name);
    await queued(1);
    leave.abort();
    expect(await gone).to.equal("AbortError");
    await queued(0);
    expect(on.ledger.findJob(second.jobId)).to.include({ charge: 0n, reserved: 0n });
    // The same request again is a new one: it waits, and is served.
    const again = send(on, second, 18n);
    await queued(1);
    release();
    await readWhole(running);
    expect((await readWhole(await again)).delivery).to.include({ jobCharge: 11n });
    expect(upstream.runs).to.have.length(2);
  });

  it("keeps the place while one of two copies of a request still waits", async () => {
    const upstream = new ScriptedUpstream(answer());
    await start(upstream);
    const running = await send(on, newJob(1), 18n);
    const leave = new AbortController();
    const second = newJob(2);
    const gone = send(on, second, 18n, { signal: leave.signal }).catch(() => "gone");
    await queued(1);
    // A later answer over the same server tells that the copy has come in before.
    const copy = send(on, second, 18n);
    await fetch(`${on.url}/healthz`);
    leave.abort();
    await gone;
    release();
    await readWhole(running);
    expect((await readWhole(await copy)).delivery).to.include({ jobCharge: 11n });
    expect(upstream.runs).to.have.length(2);
  });

  it("answers 429 with Retry-After when the queue is full, and serves the others in turn", async () => {
    const queue = { perRequester: 2, total: 3, waitMs: 60_000 };
    await start(new ScriptedUpstream(answer()), { capacity: 1, queue });
    const running = await send(on, newJob(1), 18n);
    const greedy = [send(on, newJob(2), 18n)];
    await queued(1);
    greedy.push(send(on, newJob(3), 18n));
    await queued(2);
    const refused = await send(on, newJob(4), 18n);
    expect(Number(refused.headers.get("retry-after"))).to.be.within(1, 600);
    expect(await refusalOf(refused)).to.deep.equal({ status: 429, code: "node-busy" });
    const modest = send(on, newJob(5, account(0x31)), 18n);
    await queued(3);
    release();
    const answers = [await running, ...(await Promise.all([...greedy, modest]))];
    for (const one of answers) expect((await readWhole(one)).delivery).to.include({ jobCharge: 11n });
  });

  it("runs an unstreamed request on another upstream when the first is gone before a word, and charges it once", async () => {
    const broken = new ScriptedUpstream([{ fail: new InfernetError("upstream-failed", "it broke") }]);
    const good = new ScriptedUpstream(["good", { usage: [10, 1] }]);
    await start(
      [
        { name: "broken", upstream: broken, capacity: 1 },
        { name: "good", upstream: good, capacity: 1 },
      ],
      {},
    );
    const job = openJob(on, { body: chatBytes({ stream: false, max_tokens: 5 }) });
    const response = await send(on, job, 1000n);
    const whole = (await response.json()) as { choices: { message: { content: string } }[] };
    expect(whole.choices[0]!.message.content).to.equal("good");
    expect(deliveryOf(response)).to.include({ jobCharge: 11n, completionTokens: 1 });
    expect([broken.runs.length, good.runs.length]).to.deep.equal([1, 1]);
  });
});
