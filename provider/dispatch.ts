// Owns which upstream runs a request: who is up and has the model, whose turn it is, and what a full node answers.
import type { Address, Hex } from "../protocol/bytes.ts";
import { InfernetError } from "../protocol/errors.ts";
import type { Log } from "../runtime/logger.ts";
import { type HealthTimes, type UpstreamWatch, watchUpstream } from "./dispatch-health.ts";
import { createFairQueue, type QueueBounds } from "./dispatch-queue.ts";
import { generateWithFailover } from "./failover.ts";
import type { Upstream, UpstreamModel } from "./upstreams/upstream.ts";

/** One upstream of a node: what it is called, and how many requests it runs at the same time. */
export type UpstreamEntry = {
  name: string;
  upstream: Upstream;
  capacity: number;
  /** Milliseconds between two looks while it is up, where the usual would be too often. */
  calmMs?: number;
};

export type QueueRule = QueueBounds & {
  /** Milliseconds that a request waits for a free upstream at most. */
  waitMs: number;
};

export type DispatchRules = {
  /** Requests that run at the same time over all upstreams, at most. */
  capacity: number;
  queue: QueueRule;
  health: HealthTimes;
};

/** What a request needs: upstreams that have exactly this model. */
export type Wish = { requester: Address; model: string; digest: Hex; signal: AbortSignal };

/** A place on an upstream. `upstream` goes on with another one when the first fails before it said a word. */
export type Lease = {
  upstream: Pick<Upstream, "generate">;
  /** Gives the place to whoever waits for it. Idempotent. */
  release(): void;
};

export type UpstreamStatus = {
  name: string;
  kind: Upstream["kind"];
  state: "up" | "down";
  /** Why it is down. */
  reason: string | null;
  /** What it has; of one that is down, what it had. */
  models: string[];
  running: number;
  capacity: number;
};

export type DispatchSnapshot = { upstreams: UpstreamStatus[]; queued: number; running: number };

export type DispatchChange = { type: "upstream"; status: UpstreamStatus } | { type: "queue"; queued: number };

export type Dispatcher = {
  /** The models of the upstreams that are up; one name may stand there with several digests. */
  listModels(): UpstreamModel[];
  /** How many requests for these models may run at the same time now. */
  capacityFor(models: readonly { name: string; digest: Hex }[]): number;
  /**
   * Waits for a place. Rejects with `node-busy` (with `retryAfterSeconds`) when the queue is full or the wait too long,
   * `upstream-unreachable` when all that have the model are down, `model-not-found` when none has it, or the signal's
   * reason.
   */
  acquire(wish: Wish): Promise<Lease>;
  snapshot(): DispatchSnapshot;
  subscribe(listener: (change: DispatchChange) => void): () => void;
  /** Sends all that wait away for this reason, takes no more, and looks at the upstreams no more. */
  stop(reason: InfernetError): void;
};

type Slot = UpstreamEntry & { watch: UpstreamWatch; running: number };
type Waiting = {
  wish: Wish;
  without: ReadonlySet<Slot>;
  accept(slot: Slot): void;
  reject(error: unknown): void;
};

const RETRY_UNREACHABLE_SECONDS = 5;
const MOST_RETRY_SECONDS = 600;
/** What a request is taken to last before one has ended. */
const GUESSED_REQUEST_MS = 2_000;
/** The weight of the latest request in the running mean of how long requests last. */
const LATEST_WEIGHT = 0.2;

/** A dispatcher over these upstreams, each looked at once. The upstreams stay the caller's to close. */
export async function createDispatcher(
  entries: readonly UpstreamEntry[],
  rules: DispatchRules,
  log: Log,
): Promise<Dispatcher> {
  const listeners = new Set<(change: DispatchChange) => void>();
  const queue = createFairQueue<Waiting>(rules.queue);
  let requestMs = GUESSED_REQUEST_MS;
  let running = 0;
  let stopReason: InfernetError | undefined;

  const tell = (change: DispatchChange) => {
    for (const listener of listeners) listener(change);
  };
  const tellQueue = () => tell({ type: "queue", queued: queue.size() });
  const slots: Slot[] = entries.map((entry) => {
    const slot: Slot = {
      ...entry,
      running: 0,
      watch: watchUpstream(entry, rules.health, () => changed(slot)),
    };
    return slot;
  });
  const up = () => slots.filter(({ watch }) => watch.health().state === "up");
  const serving = ({ model, digest }: Wish, without?: ReadonlySet<Slot>) =>
    up().filter((slot) => !without?.has(slot) && has(slot, { name: model, digest }));

  /** The upstream with the least load among those that may take it now; of equals the first named. */
  const pick = (wish: Wish, without?: ReadonlySet<Slot>): Slot | undefined => {
    if (running >= rules.capacity) return undefined;
    const free = serving(wish, without).filter((slot) => slot.running < slot.capacity);
    return free.reduce<Slot | undefined>(
      (least, slot) => (least === undefined || loadOf(slot) < loadOf(least) ? slot : least),
      undefined,
    );
  };
  const occupy = (slot: Slot): Slot => {
    slot.running += 1;
    running += 1;
    return slot;
  };
  const vacate = (slot: Slot) => {
    slot.running -= 1;
    running -= 1;
    serveWaiting();
  };

  function serveWaiting(): void {
    const before = queue.size();
    for (;;) {
      const next = queue.take(({ wish, without }) => pick(wish, without) !== undefined);
      if (next === undefined) break;
      next.accept(occupy(pick(next.wish, next.without)!));
    }
    if (queue.size() !== before) tellQueue();
  }

  function changed(slot: Slot): void {
    tell({ type: "upstream", status: statusOf(slot) });
    const lost = queue.items().filter(({ wish, without }) => serving(wish, without).length === 0);
    for (const waiting of lost) dismiss(waiting, refusalOf(slots, waiting.wish));
    serveWaiting();
  }

  function dismiss(waiting: Waiting, error: unknown): void {
    if (!queue.remove(waiting.wish.requester, waiting)) return;
    waiting.reject(error);
    tellQueue();
  }

  /** Milliseconds in which one of this wish's places is expected to become free. */
  const turnMs = (wish: Wish) => {
    const places = serving(wish).reduce((sum, { capacity }) => sum + capacity, 0);
    return requestMs / Math.max(1, Math.min(places, rules.capacity));
  };

  /** Milliseconds in which each requester that waits is expected to have had a turn. */
  const roundMs = (wish: Wish) => turnMs(wish) * Math.max(1, queue.requesters());

  const busy = (message: string, waitMs: number) => {
    const retryAfterSeconds = Math.min(MOST_RETRY_SECONDS, Math.max(1, Math.ceil(waitMs / 1000)));
    return new InfernetError("node-busy", message, {
      hint: `Send the request again in ${retryAfterSeconds} s, or choose another node: nothing was charged.`,
      data: { retryAfterSeconds },
    });
  };

  function wait(wish: Wish, enter: (waiting: Waiting) => void, without: ReadonlySet<Slot> = new Set()) {
    const { promise, resolve, reject } = Promise.withResolvers<Slot>();
    const waiting: Waiting = { wish, without, accept: resolve, reject };
    const tooLong = () => {
      const message = `no upstream became free within ${rules.queue.waitMs / 1000} s`;
      dismiss(waiting, busy(message, turnMs(wish) * queue.size()));
    };
    const leave = () => dismiss(waiting, wish.signal.reason);
    const timer = setTimeout(tooLong, rules.queue.waitMs);
    wish.signal.addEventListener("abort", leave, { once: true });
    enter(waiting);
    tellQueue();
    return promise.finally(() => {
      clearTimeout(timer);
      wish.signal.removeEventListener("abort", leave);
    });
  }

  function enqueue(waiting: Waiting): void {
    const { wish, reject } = waiting;
    const pushed = queue.push(wish.requester, waiting);
    if ("refusedBy" in pushed) {
      const { perRequester, total } = rules.queue;
      // A requester's place in the queue becomes free when it was its turn, any place when it was anybody's.
      if (pushed.refusedBy === "total") reject(busy(`${total} requests wait already`, turnMs(wish)));
      else reject(busy(`${perRequester} requests of yours wait already`, roundMs(wish)));
      return;
    }
    const { dropped } = pushed;
    if (dropped === undefined) return;
    dropped.reject(busy("the queue is full, and others wait with less", roundMs(dropped.wish)));
  }

  /** The place that a request goes on with after its upstream failed; undefined when no other has its model. */
  async function findOther(wish: Wish, from: Slot, tried: ReadonlySet<Slot>): Promise<Slot | undefined> {
    vacate(from);
    if (stopReason || serving(wish, tried).length === 0) return undefined;
    const free = pick(wish, tried);
    if (free) return occupy(free);
    return await wait(wish, (waiting) => queue.pushFirst(wish.requester, waiting), tried).catch(
      () => undefined,
    );
  }

  function leaseOf(wish: Wish, first: Slot): Lease {
    const startedAt = performance.now();
    const tried = new Set<Slot>();
    let slot: Slot | undefined = first;
    let isReleased = false;
    const give = () => {
      if (slot) vacate(slot);
      slot = undefined;
    };
    const moveOn = async (error: unknown, signal: AbortSignal): Promise<Slot | undefined> => {
      const from = slot;
      if (from === undefined || signal.aborted) return undefined;
      tried.add(from);
      slot = undefined;
      slot = await findOther({ ...wish, signal }, from, tried);
      if (slot) log.warn({ from: from.name, to: slot.name, error }, "a request moved on to another upstream");
      if (isReleased) give();
      return slot;
    };
    return {
      upstream: { generate: (input) => generateWithFailover(first, input, moveOn) },
      release() {
        if (isReleased) return;
        isReleased = true;
        requestMs += LATEST_WEIGHT * (performance.now() - startedAt - requestMs);
        give();
      },
    };
  }

  await Promise.all(slots.map(({ watch }) => watch.first));
  return {
    listModels: () => mergeModels(up().flatMap(({ watch }) => watch.models())),
    capacityFor(models) {
      const useful = up().filter((slot) => models.some((model) => has(slot, model)));
      return Math.min(
        rules.capacity,
        useful.reduce((sum, { capacity }) => sum + capacity, 0),
      );
    },
    async acquire(wish) {
      wish.signal.throwIfAborted();
      if (stopReason) throw stopReason;
      if (serving(wish).length === 0) throw refusalOf(slots, wish);
      const free = pick(wish);
      return leaseOf(wish, free ? occupy(free) : await wait(wish, enqueue));
    },
    snapshot: () => ({ upstreams: slots.map(statusOf), queued: queue.size(), running }),
    subscribe(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    stop(reason) {
      stopReason ??= reason;
      for (const { watch } of slots) watch.stop();
      for (const waiting of queue.items()) dismiss(waiting, stopReason);
    },
  };
}

function loadOf({ running, capacity }: Slot): number {
  return running / capacity;
}

function has({ watch }: Slot, { name, digest }: { name: string; digest: Hex }): boolean {
  return watch.models().some((model) => model.name === name && model.digest === digest);
}

function statusOf({ name, upstream, capacity, running, watch }: Slot): UpstreamStatus {
  const models = watch.models().map((model) => model.name);
  return { name, kind: upstream.kind, ...watch.health(), models, running, capacity };
}

/** Why nothing serves this wish: all that had its model are down, or none has it. */
function refusalOf(slots: readonly Slot[], { model, digest }: Wish): InfernetError {
  const down = slots.filter(({ watch }) => watch.health().state === "down");
  if (down.some((slot) => has(slot, { name: model, digest }) || slot.watch.models().length === 0)) {
    return new InfernetError("upstream-unreachable", `what runs the model "${model}" is down`, {
      hint: "Choose another node, or try again later: nothing was charged.",
      data: { retryAfterSeconds: RETRY_UNREACHABLE_SECONDS },
    });
  }
  return new InfernetError(
    "model-not-found",
    `the node does not have the "${model}" of the job's offer any more`,
    {
      hint: "Open a job under the node's present offer; this one's deposit comes back.",
    },
  );
}

/** One entry for each name and digest, with what all upstreams that have it can do. */
function mergeModels(models: readonly UpstreamModel[]): UpstreamModel[] {
  const merged = new Map<string, UpstreamModel>();
  for (const model of models) {
    const key = `${model.digest} ${model.name}`;
    const known = merged.get(key);
    const contextLength = Math.min(model.contextLength, known?.contextLength ?? model.contextLength);
    const features = model.features.filter((feature) => known?.features.includes(feature) ?? true);
    merged.set(key, { ...model, contextLength, features });
  }
  return [...merged.values()];
}
