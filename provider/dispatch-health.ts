// Owns whether one upstream is up and what it has: looks at it again and again, and learns from what fails on it.
import { InfernetError } from "../protocol/errors.ts";
import type { Upstream, UpstreamModel } from "./upstreams/upstream.ts";

export type HealthTimes = {
  /** Milliseconds between two looks. */
  everyMs: number;
  /** How long a look may take. */
  timeoutMs: number;
  /** How long an upstream rests that answers looks but fails one request after the other. */
  restMs: number;
};

export type Health = { state: "up"; reason: null } | { state: "down"; reason: string };

export type UpstreamWatch = {
  health(): Health;
  /** What it had when it last answered; of an upstream that is down, what it had before. */
  models(): readonly UpstreamModel[];
  /** Resolves after the first look, whatever it found. Never rejects. */
  first: Promise<void>;
  /** A request on it made progress: it lives, however slow its looks are. */
  noteProgress(): void;
  noteSuccess(): void;
  /** A request on it failed by its fault. */
  noteFailure(error: unknown): void;
  stop(): void;
};

/** Failures in a row after which an upstream rests. */
const MOST_FAILURES = 3;

/** Looks at an upstream from now on, while it is up no more often than each `calmMs`. `onChange` is called whenever its state, its reason or its models changed. */
export function watchUpstream(
  { upstream, calmMs = 0 }: { upstream: Upstream; calmMs?: number },
  times: HealthTimes,
  onChange: () => void,
): UpstreamWatch {
  const first = Promise.withResolvers<void>();
  let health: Health = { state: "down", reason: "it was not asked yet" };
  let models: readonly UpstreamModel[] = [];
  let failures = 0;
  let restsUntil = 0;
  let progressAt = 0;
  let stopped = false;
  let isLooking = false;
  let lookAgain = false;
  let timer: NodeJS.Timeout | undefined;

  const become = (next: Health, has: readonly UpstreamModel[] = models) => {
    const before = JSON.stringify([health, models]);
    health = next;
    models = has;
    if (JSON.stringify([health, models]) !== before) onChange();
  };

  const look = async () => {
    const startedAt = performance.now();
    try {
      const has = await within(upstream.listModels(), times.timeoutMs);
      if (stopped) return;
      if (performance.now() < restsUntil) become(health, has);
      else become({ state: "up", reason: null }, has);
    } catch (error) {
      const isBusy = isTimeout(error) && progressAt >= startedAt;
      if (!stopped && !isBusy) become({ state: "down", reason: reasonOf(error) });
    }
  };

  const keepLooking = async () => {
    isLooking = true;
    do {
      lookAgain = false;
      await look();
    } while (lookAgain && !stopped);
    isLooking = false;
    first.resolve();
    const pauseMs = health.state === "up" ? Math.max(times.everyMs, calmMs) : times.everyMs;
    if (!stopped) timer = setTimeout(keepLooking, pauseMs).unref();
  };

  const lookNow = () => {
    clearTimeout(timer);
    if (isLooking) lookAgain = true;
    else if (!stopped) void keepLooking();
  };

  void keepLooking();
  return {
    health: () => health,
    models: () => models,
    first: first.promise,
    noteProgress() {
      progressAt = performance.now();
    },
    noteSuccess() {
      failures = 0;
    },
    noteFailure(error) {
      const code = error instanceof InfernetError ? error.code : "upstream-failed";
      if (code === "upstream-unreachable") become({ state: "down", reason: reasonOf(error) });
      if (code === "upstream-failed" || code === "upstream-timeout") failures += 1;
      if (failures >= MOST_FAILURES && health.state === "up") {
        // After its rest one more failure is enough to send it back.
        failures = MOST_FAILURES - 1;
        restsUntil = performance.now() + times.restMs;
        become({ state: "down", reason: `${MOST_FAILURES} requests in a row failed: ${reasonOf(error)}` });
      }
      lookNow();
    },
    stop() {
      stopped = true;
      clearTimeout(timer);
      first.resolve();
    },
  };
}

async function within<Result>(work: Promise<Result>, timeoutMs: number): Promise<Result> {
  const { promise, reject } = Promise.withResolvers<never>();
  const late = () =>
    reject(new InfernetError("upstream-timeout", `it does not list its models within ${timeoutMs} ms`));
  const timer = setTimeout(late, timeoutMs);
  return await Promise.race([work, promise]).finally(() => clearTimeout(timer));
}

function isTimeout(error: unknown): boolean {
  return error instanceof InfernetError && error.code === "upstream-timeout";
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
