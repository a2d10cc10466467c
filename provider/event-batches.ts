// Owns how an upstream's events are read: whatever is ready in one turn of the event loop together, the rest later.

const NOT_READY = Symbol("not ready");

/**
 * The events in batches of at most `largest`. Reads one event ahead and no more while the consumer is busy. Throws the
 * signal's reason when it aborts, though the source may hang; a source's error comes after the events before it.
 */
export async function* readBatches<Event>(
  source: AsyncIterable<Event>,
  signal: AbortSignal,
  largest: number,
): AsyncGenerator<Event[]> {
  const aborted = rejectOnAbort(signal);
  const iterator = source[Symbol.asyncIterator]();
  const pull = () => {
    const pulled = iterator.next();
    // Its rejection is met when the pull is awaited, which may be later or, after an abort, never.
    pulled.catch(() => {});
    return pulled;
  };
  let pending = pull();
  try {
    while (true) {
      let result: IteratorResult<Event> | typeof NOT_READY = await Promise.race([pending, aborted]);
      const batch: Event[] = [];
      while (result !== NOT_READY && !result.done) {
        batch.push(result.value);
        pending = pull();
        if (batch.length >= largest) break;
        result = await readyNow(pending);
      }
      if (batch.length > 0) yield batch;
      if (result !== NOT_READY && result.done) return;
    }
  } finally {
    // A source that hangs would never answer: it is told, not waited for.
    void iterator.return?.().catch(() => {});
  }
}

function rejectOnAbort(signal: AbortSignal): Promise<never> {
  const { promise, reject } = Promise.withResolvers<never>();
  promise.catch(() => {});
  if (signal.aborted) reject(signal.reason);
  signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  return promise;
}

/** The pull's result when it is there within this turn of the event loop; an error waits for the next look. */
function readyNow<Event>(
  pulled: Promise<IteratorResult<Event>>,
): Promise<IteratorResult<Event> | typeof NOT_READY> {
  const turn = new Promise<typeof NOT_READY>((resolve) => setImmediate(resolve, NOT_READY));
  return Promise.race([pulled.catch((): typeof NOT_READY => NOT_READY), turn]);
}
