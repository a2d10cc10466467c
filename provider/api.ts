// Owns the provider's HTTP routes: which exist, and what each reads and answers.
import type { FastifyInstance } from "fastify";
import { formatServedOffer } from "../protocol/offer.ts";
import { MODEL_PATHS, OFFER_PATH } from "../protocol/wire.ts";
import type { Offers } from "./offers.ts";
import { addJobRoutes, type JobRouteDependencies } from "./routes/jobs.ts";
import { addModelRoute, type ModelRouteDependencies } from "./routes/models.ts";

export type ApiDependencies = JobRouteDependencies & ModelRouteDependencies & { offers: Offers };

/** Puts all routes on a server that does not listen yet. */
export function addProviderRoutes(app: FastifyInstance, deps: ApiDependencies): void {
  const { offers } = deps;
  app.get("/healthz", async () => ({ status: "ok" }));
  app.get(OFFER_PATH, async (_request, reply) =>
    reply.type("application/json").send(formatServedOffer(offers.current())),
  );
  app.get("/v1/models", async () => {
    const { offer } = offers.current();
    const data = offer.models.map(({ name }) => ({
      id: name,
      object: "model",
      created: offer.issuedAt,
      owned_by: offer.node,
    }));
    return { object: "list", data };
  });
  for (const path of MODEL_PATHS) addModelRoute(app, path, deps);
  addJobRoutes(app, deps);
}
