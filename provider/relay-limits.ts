// Owns how often a provider works for others without being paid first: token buckets, of each requester and of all.
import { InfernetError } from "../protocol/errors.ts";
import type { Rate, RelayRule } from "./config.ts";

/** Buckets that are remembered; beyond that, those that are full again are forgotten. */
const REMEMBERED_BUCKETS = 1024;

/** Buckets of one rate, by key. */
export class RateLimit {
  readonly #rate: Rate;
  readonly #now: () => number;
  readonly #buckets = new Map<string, { tokens: number; at: number }>();

  /** `now` in milliseconds, of a clock that never goes back. */
  constructor(rate: Rate, now: () => number) {
    this.#rate = rate;
    this.#now = now;
  }

  /** Seconds until this key may take one; 0 when it may now. */
  secondsUntilFree(key: string): number {
    const missing = 1 - this.#tokensOf(key);
    return missing <= 0 ? 0 : Math.ceil((missing * 3600) / this.#rate.perHour);
  }

  take(key: string): void {
    this.#buckets.set(key, { tokens: this.#tokensOf(key) - 1, at: this.#now() });
    if (this.#buckets.size > REMEMBERED_BUCKETS) this.#forgetFull();
  }

  #tokensOf(key: string): number {
    const { burst, perHour } = this.#rate;
    const bucket = this.#buckets.get(key);
    if (!bucket) return burst;
    return Math.min(burst, bucket.tokens + ((this.#now() - bucket.at) * perHour) / 3_600_000);
  }

  #forgetFull(): void {
    for (const key of this.#buckets.keys()) {
      if (this.#tokensOf(key) >= this.#rate.burst) this.#buckets.delete(key);
    }
  }
}

export type RelayLimits = {
  /** Takes a simulation. Throws `rate-limited`. */
  simulate(): void;
  /** Takes a transaction of this requester's; one that is refused takes nothing. Throws `rate-limited`. */
  transact(requester: string): void;
};

export function createRelayLimits(
  { perRequester, overall, simulations }: Pick<RelayRule, "perRequester" | "overall" | "simulations">,
  now: () => number = () => performance.now(),
): RelayLimits {
  const ofEach = new RateLimit(perRequester, now);
  const ofAll = new RateLimit(overall, now);
  const looks = new RateLimit(simulations, now);
  return {
    simulate() {
      refuseUnlessFree(looks.secondsUntilFree(""), "the node is asked to relay too much at once");
      looks.take("");
    },
    transact(requester) {
      refuseUnlessFree(ofEach.secondsUntilFree(requester), "the node has relayed much for this requester");
      refuseUnlessFree(ofAll.secondsUntilFree(""), "the node has relayed as much as it may for now");
      ofEach.take(requester);
      ofAll.take("");
    },
  };
}

function refuseUnlessFree(seconds: number, message: string): void {
  if (seconds === 0) return;
  throw new InfernetError("rate-limited", message, {
    hint: `Ask again in ${seconds} s, choose another node, or pay the gas yourself.`,
    data: { retryAfterSeconds: seconds },
  });
}
