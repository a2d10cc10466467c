// Owns which requests are the same request: one Idempotency-Key buys once, whoever asks again and how often.
import { InfernetError } from "../../protocol/errors.ts";
import { requestHashOf } from "../../protocol/job.ts";
import type { Clock } from "../../runtime/clock.ts";
import type { Buyer } from "../routing/buyer.ts";
import { type Order, type Purchase, type PurchaseEnd, startPurchase } from "./purchase.ts";

export type Purchases = {
  /**
   * Buys, or joins what the same key buys or has bought. Throws `request-mismatch` for other bytes under a known key,
   * `bad-request` for a key that is none.
   */
  open(order: Order, key: string | undefined): Purchase;
  running(): number;
  /** Ends all that run, for this reason, and waits for their ends. */
  stop(reason: InfernetError): Promise<void>;
};

type Known = { hash: string; purchase: Purchase; openedAt: number };

/** A client that named a key may come again after its line broke. */
const PATIENCE_MS = 30_000;
const KEPT_SECONDS = 3600;
const MOST_KEPT = 200;
const MOST_KEPT_BYTES = 64 * 1024 * 1024;
const KEY = /^[\x21-\x7e]{1,255}$/;

export function createPurchases(
  buyer: Buyer,
  clock: Clock,
  options: { patienceMs?: number | undefined; onEnded?(order: Order, end: PurchaseEnd): void } = {},
): Purchases {
  const { patienceMs = PATIENCE_MS, onEnded } = options;
  const known = new Map<string, Known>();
  const running = new Set<Purchase>();

  function start(order: Order, how: { keeps: boolean; patienceMs: number }): Purchase {
    const purchase = startPurchase(buyer, order, how);
    running.add(purchase);
    void purchase.ended.then((end) => {
      running.delete(purchase);
      onEnded?.(order, end);
    });
    return purchase;
  }

  function forgetOld(): void {
    const now = clock.nowSeconds();
    let bytes = 0;
    const newestFirst = [...known].reverse();
    for (const [index, [key, { purchase, openedAt }]] of newestFirst.entries()) {
      bytes += purchase.heldBytes();
      if (!purchase.end()) continue;
      if (now - openedAt > KEPT_SECONDS || index >= MOST_KEPT || bytes > MOST_KEPT_BYTES) known.delete(key);
    }
  }

  return {
    open(order, key) {
      if (key === undefined) return start(order, { keeps: false, patienceMs: 0 });
      if (!KEY.test(key))
        throw new InfernetError("bad-request", "Idempotency-Key must be 1 to 255 visible characters");
      forgetOld();
      const hash = requestHashOf(order.path, order.body);
      const found = known.get(key);
      if (found && found.hash !== hash) {
        throw new InfernetError("request-mismatch", "another request had the same Idempotency-Key", {
          hint: "Send the same bytes again, or a new key.",
        });
      }
      if (found) return found.purchase;
      const purchase = start(order, { keeps: true, patienceMs });
      known.set(key, { hash, purchase, openedAt: clock.nowSeconds() });
      void purchase.ended.then((end) => {
        // What cost nothing may be tried again under the same key.
        if ("error" in end && chargedOf(end.error) === 0n) known.delete(key);
      });
      return purchase;
    },
    running: () => running.size,
    async stop(reason) {
      const all = [...running];
      for (const purchase of all) purchase.abort(reason);
      await Promise.all(all.map((purchase) => purchase.ended));
    },
  };
}

/** What was charged for a request that failed, in USDC base units. */
export function chargedOf(error: unknown): bigint {
  const { charge } = error instanceof InfernetError ? error.data : {};
  return /^\d{1,29}$/.test(String(charge)) ? BigInt(charge!) : 0n;
}
