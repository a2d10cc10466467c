// Owns what a provider measures of its own work: tokens a second, how busy its slots are, and what it served today.
import type { Hex } from "../protocol/bytes.ts";
import type { TokenCounts } from "../protocol/price.ts";
import type { Clock } from "../runtime/clock.ts";
import type { ServedTokens } from "./earnings.ts";
import type { EventHub } from "./events.ts";

export type Activity = {
  /** Completion tokens that left in a second, over the last ten seconds of work. */
  tokensPerSecond: number;
  /** Seconds that requests held slots, and that slots were there for them, since the start. */
  busySlotSeconds: number;
  slotSeconds: number;
  /** Busy slot-seconds by slot-seconds of the last hour, or since the start; null while there were no slots. */
  utilisation: number | null;
  /** Of this UTC day, what ran before a restart included. */
  today: ServedTokens;
};

export type ActivityDependencies = {
  events: Pick<EventHub, "subscribe">;
  /** Requests that could run at the same time right now. */
  slots(): number;
  /** What the ledger says was served from this second of the day on. */
  servedSince(seconds: number): ServedTokens;
  clock: Clock;
  /** A clock that never jumps, in milliseconds. */
  nowMs?(): number;
};

const RATE_SECONDS = 10;
const BUCKETS_PER_SECOND = 4;
const UTILISATION_SECONDS = 3600;
const SAMPLE_SECONDS = 60;
const DAY_SECONDS = 86_400;

/** Measures from now on; the returned function reads. */
export function measureActivity(deps: ActivityDependencies): () => Activity {
  const { events, nowMs = () => performance.now() } = deps;
  const seconds = () => nowMs() / 1000;
  /** Completion tokens that have left, of each request that runs. */
  const running = new Map<Hex, number>();
  const rate = createTokenRate(seconds);
  const slots = createSlotMeter(seconds, deps.slots);
  const today = countToday(deps);
  events.subscribe((event) => {
    if (event.type === "streamStarted") {
      if (running.size === 0) rate.begin();
      running.set(event.requestId, 0);
      slots.change(1);
    } else if (event.type === "tokensReleased") {
      const { requestId, completionTokens } = event;
      rate.count(completionTokens - (running.get(requestId) ?? completionTokens));
      if (running.has(requestId)) running.set(requestId, completionTokens);
    } else if (event.type === "streamEnded") {
      // What a crash cut off ends at the next start, without having run in this process.
      if (running.delete(event.requestId)) slots.change(-1);
      today.count(event.counts);
    }
  });
  return () => ({ tokensPerSecond: rate.read(), ...slots.read(), today: today.read() });
}

function countToday({ clock, servedSince }: ActivityDependencies) {
  const dayStart = () => clock.nowSeconds() - (clock.nowSeconds() % DAY_SECONDS);
  let day = dayStart();
  let served = servedSince(day);
  const read = (): ServedTokens => {
    if (dayStart() === day) return served;
    day = dayStart();
    served = { requests: 0, promptTokens: 0, completionTokens: 0 };
    return served;
  };
  return {
    read,
    count({ promptTokens, completionTokens }: TokenCounts) {
      const { requests, ...tokens } = read();
      // A request that failed before its first token is forgotten, not served.
      if (promptTokens + completionTokens === 0) return;
      served = {
        requests: requests + 1,
        promptTokens: tokens.promptTokens + promptTokens,
        completionTokens: tokens.completionTokens + completionTokens,
      };
    },
  };
}

/** Tokens by the moment that they left at; the rate is over the time that anything ran, ten seconds at most. */
function createTokenRate(seconds: () => number) {
  const buckets = new Map<number, number>();
  let busySince = 0;
  const bucketOf = (at: number) => Math.floor(at * BUCKETS_PER_SECOND);
  const recent = () => {
    const oldest = bucketOf(seconds() - RATE_SECONDS);
    let tokens = 0;
    for (const [bucket, count] of buckets) if (bucket > oldest) tokens += count;
    return tokens;
  };
  return {
    begin() {
      if (recent() === 0) busySince = seconds();
    },
    count(tokens: number) {
      const now = bucketOf(seconds());
      // An upstream's final usage may be lower than the deltas that were counted.
      buckets.set(now, (buckets.get(now) ?? 0) + Math.max(0, tokens));
      for (const bucket of buckets.keys()) {
        if (bucket < now - RATE_SECONDS * BUCKETS_PER_SECOND) buckets.delete(bucket);
      }
    },
    read(): number {
      return recent() / Math.min(RATE_SECONDS, Math.max(1, seconds() - busySince));
    },
  };
}

type Sample = { at: number; busy: number; slots: number };

/** Slot-seconds, busy and in all. Slots come and go: how many there are is looked at whenever one is taken or read. */
function createSlotMeter(seconds: () => number, slots: () => number) {
  let running = 0;
  let there = slots();
  let last: Sample = { at: seconds(), busy: 0, slots: 0 };
  const samples: Sample[] = [last];
  const advance = () => {
    const at = seconds();
    const passed = at - last.at;
    last = { at, busy: last.busy + running * passed, slots: last.slots + there * passed };
    there = slots();
    if (at - samples.at(-1)!.at < SAMPLE_SECONDS) return;
    samples.push(last);
    while (samples.length > 1 && samples[1]!.at <= at - UTILISATION_SECONDS) samples.shift();
  };
  return {
    change(by: 1 | -1) {
      advance();
      running += by;
    },
    read() {
      advance();
      const [first] = samples;
      const slotSeconds = last.slots - first!.slots;
      return {
        busySlotSeconds: last.busy,
        slotSeconds: last.slots,
        utilisation: slotSeconds > 0 ? (last.busy - first!.busy) / slotSeconds : null,
      };
    },
  };
}
