// Owns what a running provider shows of itself beyond its books: measured figures, and metrics over HTTP.
import { translateError } from "../runtime/http-errors.ts";
import type { HttpServer } from "../runtime/http-server.ts";
import { type Activity, measureActivity } from "./activity.ts";
import { servedSince } from "./earnings.ts";
import type { EventHub } from "./events.ts";
import { addMetricsRoute, createMetricsServer } from "./routes/metrics.ts";
import type { ProviderDependencies, ProviderSnapshot } from "./start.ts";

export type Observation = {
  activity(): Activity;
  /** Opens the listener for metrics alone; resolves to their URL there, null when there is to be none. `port-in-use`. */
  listen(): Promise<string | null>;
  stop(): Promise<void>;
};

/** What is watched: the node's own server, which does not listen yet, its events, its snapshot, its slots of now. */
export type Observed = {
  server: HttpServer;
  events: EventHub;
  snapshot(): ProviderSnapshot;
  slots(): number;
};

/** Measures and counts from now on, and puts `GET /metrics` on the node's server. */
export async function observe(
  { config, store, clock, log }: ProviderDependencies,
  { server, events, snapshot, slots }: Observed,
): Promise<Observation> {
  const activity = measureActivity({
    ...{ events, slots, clock },
    servedSince: (seconds) => servedSince(store, seconds),
  });
  const { createMetrics } = await import("./metrics.ts");
  const metrics = createMetrics({ events, snapshot, clock });
  server.app.addHook("onError", async (_request, _reply, error) => {
    metrics.countRefusal(translateError(error)?.code ?? "bug");
  });
  addMetricsRoute(server.app, metrics);
  let own: HttpServer | undefined;
  return {
    activity,
    async listen() {
      if (!config.metricsListen) return null;
      const { host } = config.metricsListen;
      own = await createMetricsServer(config.metricsListen, metrics, log);
      const { port } = await own.listen();
      return `http://${host.includes(":") ? `[${host}]` : host}:${port}/metrics`;
    },
    async stop() {
      await own?.stop(0);
    },
  };
}
