// Owns the provider's HTTP face: every route, and what stands between them and the ledger.
import type { FastifyInstance } from "fastify";
import type { Hex } from "../protocol/bytes.ts";
import { InfernetError } from "../protocol/errors.ts";
import type { JobTerms } from "../protocol/job.ts";
import { formatServedOffer, type Offer } from "../protocol/offer.ts";
import type { Domain } from "../protocol/typed-data.ts";
import { MODEL_PATHS, OFFER_PATH } from "../protocol/wire.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Log } from "../runtime/logger.ts";
import { createAdmission } from "./admission.ts";
import type { Dispatcher } from "./dispatch.ts";
import type { JobLedger } from "./job-ledger.ts";
import type { LedgerJob } from "./ledger-rows.ts";
import type { Offers } from "./offers.ts";
import { PaidRequests } from "./paid-requests.ts";
import { createReceiptDesk } from "./receipts.ts";
import { addJobRoutes } from "./routes/jobs.ts";
import { addModelRoute } from "./routes/models.ts";

/** Requests outlive their last listener, and listeners their last sign of life, by so long. */
const PATIENCE_MS = 60_000;

export type ApiDependencies = {
  domain: Domain;
  ledger: JobLedger;
  /** Intake's: the job once it pays this node under these terms, or the refusal. */
  ensureFunded(jobId: Hex, terms: JobTerms, offer: Offer): Promise<LedgerJob>;
  /** Intake's: the job as the chain shows it now; undefined while it shows none. */
  findOpened(jobId: Hex): Promise<LedgerJob | undefined>;
  /** Settlement's: settles the jobs that are over, as far as that pays now. */
  reviewJobs(): Promise<void>;
  offers: Offers;
  dispatcher: Dispatcher;
  /** Why the node does not sell now, in words that anybody may know; none while it does. */
  hindrances(): readonly string[];
  clock: Clock;
  log: Log;
  patienceMs?: number;
};

export type Api = {
  /** Ends all running requests, charging what was released; resolves when their deliveries are durable. */
  stop(): Promise<void>;
};

/** Puts all routes on a server that does not listen yet. */
export function serveApi(app: FastifyInstance, deps: ApiDependencies): Api {
  const { domain, ledger, offers, dispatcher, clock, log, reviewJobs } = deps;
  const admission = createAdmission(ledger);
  const receipts = createReceiptDesk(domain, ledger, admission.grant);
  const requests = new PaidRequests({
    ledger,
    ensureFunded: deps.ensureFunded,
    findOpened: deps.findOpened,
    offers,
    receipts,
    admission,
    dispatcher,
    clock,
    log,
    patienceMs: deps.patienceMs ?? PATIENCE_MS,
  });
  addPublicRoutes(app, deps);
  for (const path of MODEL_PATHS) addModelRoute(app, path, { ledger, offers, requests });
  addJobRoutes(app, { ledger, requests, receipts, reviewJobs });
  return {
    stop: () => requests.stop(new InfernetError("interrupted", "the node is stopping")),
  };
}

function addPublicRoutes(app: FastifyInstance, { offers, hindrances }: ApiDependencies): void {
  app.get("/healthz", async (_request, reply) => {
    const reasons = hindrances();
    if (reasons.length === 0) return { status: "ok" };
    return reply.code(503).send({ status: "unavailable", reasons });
  });
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
}
