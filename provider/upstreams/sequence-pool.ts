// Owns who may use which of a fixed set of things at a time: one user each, the longest waiting first.

export type Pool<Item> = {
  /** Waits for a free item. Rejects with the signal's reason when that comes first. */
  take(signal: AbortSignal): Promise<Item>;
  giveBack(item: Item): void;
};

export function createPool<Item>(items: readonly Item[]): Pool<Item> {
  const free = [...items];
  const waiting: ((item: Item) => void)[] = [];
  return {
    async take(signal) {
      signal.throwIfAborted();
      const item = free.pop();
      if (item !== undefined) return item;
      return new Promise((resolve, reject) => {
        const accept = (granted: Item): void => {
          signal.removeEventListener("abort", leave);
          resolve(granted);
        };
        const leave = (): void => {
          waiting.splice(waiting.indexOf(accept), 1);
          reject(signal.reason);
        };
        signal.addEventListener("abort", leave, { once: true });
        waiting.push(accept);
      });
    },
    giveBack(item) {
      const next = waiting.shift();
      if (next === undefined) free.push(item);
      else next(item);
    },
  };
}
