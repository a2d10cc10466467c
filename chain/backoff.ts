// Owns how long to wait before trying again: exponential with a cap.

/** Milliseconds before try number `failures` + 1; doubles from `firstMs` up to `capMs`. */
export function backoffMs(failures: number, firstMs: number, capMs: number): number {
  return Math.min(capMs, firstMs * 2 ** Math.min(failures, 30));
}
