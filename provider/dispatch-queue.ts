// Owns who waits for a free upstream: a bounded queue that serves requesters in turn, whoever sent the most.

/** How many may wait: of one requester, and in all. */
export type QueueBounds = { perRequester: number; total: number };

export type FairQueue<Item> = {
  /**
   * Takes the item in, or says why not. A full queue still takes the item of a requester who has less in it than
   * another: `dropped` is then that other's newest item, which has to be told that its place is gone.
   */
  push(requester: string, item: Item): { refusedBy: "requester" | "total" } | { dropped: Item | undefined };
  /** Puts an item that had its turn already before all others of its requester, whatever the bounds. */
  pushFirst(requester: string, item: Item): void;
  /** The next item that fits: requesters in turn, each one's items in order of arrival. */
  take(fits: (item: Item) => boolean): Item | undefined;
  remove(requester: string, item: Item): boolean;
  items(): Item[];
  size(): number;
  sizeOf(requester: string): number;
  requesters(): number;
};

export function createFairQueue<Item>(bounds: QueueBounds): FairQueue<Item> {
  /** In the order of their turns: who was served goes to the end. */
  const lines = new Map<string, Item[]>();
  let size = 0;

  const add = (requester: string, put: (line: Item[]) => void) => {
    const line = lines.get(requester) ?? [];
    put(line);
    lines.set(requester, line);
    size += 1;
  };
  const cut = (requester: string, line: Item[], index: number): Item => {
    const [item] = line.splice(index, 1);
    size -= 1;
    if (line.length === 0) lines.delete(requester);
    return item!;
  };
  const sizeOf = (requester: string) => lines.get(requester)?.length ?? 0;

  return {
    push(requester, item) {
      const own = sizeOf(requester);
      if (own >= bounds.perRequester) return { refusedBy: "requester" };
      let dropped: Item | undefined;
      if (size >= bounds.total) {
        const [longest, line] = [...lines].reduce((most, one) =>
          one[1].length > most[1].length ? one : most,
        );
        if (line.length <= own + 1) return { refusedBy: "total" };
        dropped = cut(longest, line, line.length - 1);
      }
      add(requester, (line) => line.push(item));
      return { dropped };
    },
    pushFirst: (requester, item) => add(requester, (line) => line.unshift(item)),
    take(fits) {
      for (const [requester, line] of lines) {
        const index = line.findIndex(fits);
        if (index === -1) continue;
        const item = cut(requester, line, index);
        if (lines.delete(requester)) lines.set(requester, line);
        return item;
      }
      return undefined;
    },
    remove(requester, item) {
      const line = lines.get(requester) ?? [];
      const index = line.indexOf(item);
      if (index === -1) return false;
      cut(requester, line, index);
      return true;
    },
    items: () => [...lines.values()].flat(),
    size: () => size,
    sizeOf,
    requesters: () => lines.size,
  };
}
