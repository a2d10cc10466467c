// Owns the warm-up of a node: models are in memory before the first request that is paid for comes.
import type { Log } from "../runtime/logger.ts";
import type { UpstreamEntry } from "./dispatch.ts";

/**
 * Has each upstream that can load models ahead load these, as far as it has them and they fit. Never rejects: a model
 * that is not loaded yet makes its first request slow, nothing worse.
 */
export async function warmUp(
  upstreams: readonly UpstreamEntry[],
  names: readonly string[],
  { signal, log }: { signal: AbortSignal; log: Log },
): Promise<void> {
  await Promise.all(
    upstreams.map(async ({ name, upstream }) => {
      try {
        const models = await upstream.warmUp?.(names, signal);
        if (models?.length) log.info({ upstream: name, models }, "models are loaded");
      } catch (error) {
        if (!signal.aborted) log.warn({ upstream: name, error }, "models could not be loaded ahead");
      }
    }),
  );
}
