// Owns which upstream runs a request: who is up and has the model, whose turn it is, and what a full node answers.
import type { Address, Hex } from "../protocol/bytes.ts";
import { InfernetError } from "../protocol/errors.ts";
import type { Log } from "../runtime/logger.ts";
import { type HealthTimes, type UpstreamWatch, watchUpstream } from "./dispatch-health.ts";
import { createFairQueue, type FairQueue, type QueueBounds } from "./dispatch-queue.ts";
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
  const floor = new DispatchFloor(entries, rules, log);
  await floor.looked;
  return floor;
}

class DispatchFloor implements Dispatcher {
  /** Resolves when each upstream was looked at once. */
  readonly looked: Promise<unknown>;
  readonly #rules: DispatchRules;
  readonly #log: Log;
  readonly #slots: readonly Slot[];
  readonly #queue: FairQueue<Waiting>;
  readonly #listeners = new Set<(change: DispatchChange) => void>();
  /** How long requests last, as a running mean. */
  #requestMs = GUESSED_REQUEST_MS;
  #running = 0;
  #stopReason: InfernetError | undefined;

  constructor(entries: readonly UpstreamEntry[], rules: DispatchRules, log: Log) {
    this.#rules = rules;
    this.#log = log;
    this.#queue = createFairQueue(rules.queue);
    this.#slots = entries.map((entry) => {
      const watch = watchUpstream(entry, rules.health, () => this.#changed(slot));
      const slot: Slot = { ...entry, running: 0, watch };
      return slot;
    });
    this.looked = Promise.all(this.#slots.map(({ watch }) => watch.first));
  }

  listModels(): UpstreamModel[] {
    return mergeModels(this.#up().flatMap(({ watch }) => watch.models()));
  }

  capacityFor(models: readonly { name: string; digest: Hex }[]): number {
    const useful = this.#up().filter((slot) => models.some((model) => has(slot, model)));
    return Math.min(this.#rules.capacity, placesOf(useful));
  }

  async acquire(wish: Wish): Promise<Lease> {
    wish.signal.throwIfAborted();
    if (this.#stopReason) throw this.#stopReason;
    if (this.#serving(wish).length === 0) throw refusalOf(this.#slots, wish);
    const free = this.#pick(wish);
    const slot = free ? this.#occupy(free) : await this.#wait(wish, (waiting) => this.#enqueue(waiting));
    return this.#leaseOf(wish, slot);
  }

  snapshot(): DispatchSnapshot {
    return {
      upstreams: this.#slots.map(statusOf),
      queued: this.#queue.size(),
      running: this.#running,
    };
  }

  subscribe(listener: (change: DispatchChange) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  stop(reason: InfernetError): void {
    this.#stopReason ??= reason;
    for (const { watch } of this.#slots) watch.stop();
    for (const waiting of this.#queue.items()) this.#dismiss(waiting, this.#stopReason);
  }

  #up(): Slot[] {
    return this.#slots.filter(({ watch }) => watch.health().state === "up");
  }

  #serving({ model, digest }: Wish, without?: ReadonlySet<Slot>): Slot[] {
    return this.#up().filter((slot) => !without?.has(slot) && has(slot, { name: model, digest }));
  }

  /** The upstream with the least load among those that may take it now; of equals the first named. */
  #pick(wish: Wish, without?: ReadonlySet<Slot>): Slot | undefined {
    if (this.#running >= this.#rules.capacity) return undefined;
    const free = this.#serving(wish, without).filter((slot) => slot.running < slot.capacity);
    return free.reduce<Slot | undefined>(
      (least, slot) => (least === undefined || loadOf(slot) < loadOf(least) ? slot : least),
      undefined,
    );
  }

  #occupy(slot: Slot): Slot {
    slot.running += 1;
    this.#running += 1;
    return slot;
  }

  #vacate(slot: Slot): void {
    slot.running -= 1;
    this.#running -= 1;
    this.#serveWaiting();
  }

  #serveWaiting(): void {
    const before = this.#queue.size();
    for (;;) {
      const next = this.#queue.take(({ wish, without }) => this.#pick(wish, without) !== undefined);
      if (next === undefined) break;
      next.accept(this.#occupy(this.#pick(next.wish, next.without)!));
    }
    if (this.#queue.size() !== before) this.#tellQueue();
  }

  #changed(slot: Slot): void {
    this.#tell({ type: "upstream", status: statusOf(slot) });
    const lost = this.#queue.items().filter(({ wish, without }) => this.#serving(wish, without).length === 0);
    for (const waiting of lost) this.#dismiss(waiting, refusalOf(this.#slots, waiting.wish));
    this.#serveWaiting();
  }

  #tell(change: DispatchChange): void {
    for (const listener of this.#listeners) listener(change);
  }

  #tellQueue(): void {
    this.#tell({ type: "queue", queued: this.#queue.size() });
  }

  async #wait(
    wish: Wish,
    enter: (waiting: Waiting) => void,
    without: ReadonlySet<Slot> = new Set(),
  ): Promise<Slot> {
    const { waitMs } = this.#rules.queue;
    const { promise, resolve, reject } = Promise.withResolvers<Slot>();
    const waiting: Waiting = { wish, without, accept: resolve, reject };
    const tooLong = () => {
      const message = `no upstream became free within ${waitMs / 1000} s`;
      this.#dismiss(waiting, busy(message, this.#turnMs(wish) * this.#queue.size()));
    };
    const leave = () => this.#dismiss(waiting, wish.signal.reason);
    const timer = setTimeout(tooLong, waitMs);
    wish.signal.addEventListener("abort", leave, { once: true });
    enter(waiting);
    this.#tellQueue();
    return await promise.finally(() => {
      clearTimeout(timer);
      wish.signal.removeEventListener("abort", leave);
    });
  }

  #enqueue(waiting: Waiting): void {
    const { wish, reject } = waiting;
    const { perRequester, total } = this.#rules.queue;
    const pushed = this.#queue.push(wish.requester, waiting);
    if ("dropped" in pushed) {
      const { dropped } = pushed;
      dropped?.reject(busy("the queue is full, and others wait with less", this.#roundMs(dropped.wish)));
    } else if (pushed.refusedBy === "total") {
      reject(busy(`${total} requests wait already`, this.#turnMs(wish)));
    } else {
      reject(busy(`${perRequester} requests of yours wait already`, this.#roundMs(wish)));
    }
  }

  #dismiss(waiting: Waiting, error: unknown): void {
    if (!this.#queue.remove(waiting.wish.requester, waiting)) return;
    waiting.reject(error);
    this.#tellQueue();
  }

  /** Milliseconds in which one of this wish's places is expected to become free. */
  #turnMs(wish: Wish): number {
    const places = Math.min(placesOf(this.#serving(wish)), this.#rules.capacity);
    return this.#requestMs / Math.max(1, places);
  }

  /** Milliseconds in which each requester that waits is expected to have had a turn. */
  #roundMs(wish: Wish): number {
    return this.#turnMs(wish) * Math.max(1, this.#queue.requesters());
  }

  #leaseOf(wish: Wish, first: Slot): Lease {
    const startedAt = performance.now();
    const tried = new Set<Slot>();
    let slot: Slot | undefined = first;
    let isReleased = false;
    const give = () => {
      const held = slot;
      slot = undefined;
      if (held) this.#vacate(held);
    };
    const moveOn = async (error: unknown, signal: AbortSignal): Promise<Slot | undefined> => {
      const from = slot;
      if (from === undefined || signal.aborted) return undefined;
      tried.add(from);
      slot = undefined;
      slot = await this.#findOther({ ...wish, signal }, from, tried);
      if (slot) {
        this.#log.warn({ from: from.name, to: slot.name, error }, "a request moved on to another upstream");
      }
      if (isReleased) give();
      return slot;
    };
    return {
      upstream: { generate: (input) => generateWithFailover(first, input, moveOn) },
      release: () => {
        if (isReleased) return;
        isReleased = true;
        this.#requestMs += LATEST_WEIGHT * (performance.now() - startedAt - this.#requestMs);
        give();
      },
    };
  }

  /** The place that a request goes on with after its upstream failed; undefined when no other has its model. */
  async #findOther(wish: Wish, from: Slot, tried: ReadonlySet<Slot>): Promise<Slot | undefined> {
    this.#vacate(from);
    if (this.#stopReason || this.#serving(wish, tried).length === 0) return undefined;
    const free = this.#pick(wish, tried);
    if (free) return this.#occupy(free);
    const enter = (waiting: Waiting) => this.#queue.pushFirst(wish.requester, waiting);
    return await this.#wait(wish, enter, tried).catch(() => undefined);
  }
}

function placesOf(slots: readonly Slot[]): number {
  return slots.reduce((sum, { capacity }) => sum + capacity, 0);
}

function busy(message: string, waitMs: number): InfernetError {
  const retryAfterSeconds = Math.min(MOST_RETRY_SECONDS, Math.max(1, Math.ceil(waitMs / 1000)));
  return new InfernetError("node-busy", message, {
    hint: `Send the request again in ${retryAfterSeconds} s, or choose another node: nothing was charged.`,
    data: { retryAfterSeconds },
  });
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
