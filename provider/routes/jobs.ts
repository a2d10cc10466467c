// Owns the routes of a job: its state, its next receipt, and its cooperative close. Each needs the job's salt.
import type { FastifyInstance, FastifyRequest } from "fastify";
import { InfernetError } from "../../protocol/errors.ts";
import { toJson } from "../../protocol/schema.ts";
import { HEADERS, JOBS_PATH, type JobDocument } from "../../protocol/wire.ts";
import type { JobLedger } from "../job-ledger.ts";
import type { LedgerJob } from "../ledger-rows.ts";
import type { PaidRequests } from "../paid-requests.ts";
import type { ReceiptDesk } from "../receipts.ts";

export type JobRouteDependencies = {
  ledger: JobLedger;
  requests: PaidRequests;
  receipts: ReceiptDesk;
  /** Settles the jobs that are over, as far as that pays now. */
  reviewJobs(): Promise<void>;
};

type JobRoute = { Params: { jobId: string } };

export function addJobRoutes(app: FastifyInstance, deps: JobRouteDependencies): void {
  const { ledger, requests, receipts } = deps;
  const jobOf = (request: FastifyRequest<JobRoute>) =>
    requests.jobOf(request.params.jobId, request.headers[HEADERS.salt]);

  app.get<JobRoute>(`${JOBS_PATH}/:jobId`, async (request, reply) =>
    reply.type("application/json").send(toJson(jobDocument(ledger, jobOf(request)))),
  );

  app.post<JobRoute>(`${JOBS_PATH}/:jobId/receipts`, async (request, reply) => {
    const job = jobOf(request);
    const header = request.headers[HEADERS.receipt];
    if (typeof header !== "string") {
      throw new InfernetError("bad-receipt", "the request carries no Infernet-Receipt header");
    }
    const accepted = receipts.accept(job, header);
    return reply.type("application/json").send(toJson({ accepted }));
  });

  app.post<JobRoute>(`${JOBS_PATH}/:jobId/close`, async (request, reply) => {
    const { jobId, state } = jobOf(request);
    if (state !== "closed") {
      await requests.endDeserted(jobId);
      ledger.finishJob(jobId);
      await deps.reviewJobs();
    }
    return reply.type("application/json").send(toJson(jobDocument(ledger, ledger.findJob(jobId)!)));
  });
}

/** What the node tells a requester of its job. */
function jobDocument(ledger: JobLedger, job: LedgerJob): JobDocument {
  const { jobId, deposit, claimed, state } = job;
  const requests = ledger.requestsOf(jobId);
  return {
    jobId,
    status: state === "closed" ? "closed" : state === "settling" || state === "refused" ? "settling" : "open",
    deposit,
    receipt: job.receipt?.amount ?? 0n,
    charge: ledger.jobCharge(jobId),
    claimed,
    deadline: job.job.deadline,
    requests: requests.map(({ requestId, status, lastEventId, delivery }) => ({
      requestId,
      status,
      lastEventId,
      delivery,
    })),
  };
}
