// Owns the routes of a job: its state, its answers again, its next receipt, its close. Each needs the job's salt.
import type { FastifyInstance, FastifyRequest } from "fastify";
import type { Hex } from "../../protocol/bytes.ts";
import { InfernetError } from "../../protocol/errors.ts";
import { toJson } from "../../protocol/schema.ts";
import { HEADERS, JOBS_PATH, type JobDocument } from "../../protocol/wire.ts";
import type { JobLedger } from "../job-ledger.ts";
import type { LedgerJob } from "../ledger-rows.ts";
import type { PaidRequests } from "../paid-requests.ts";
import type { ReceiptDesk } from "../receipts.ts";
import { replayOf, sendReplay } from "../replay.ts";

export type JobRouteDependencies = {
  ledger: JobLedger;
  requests: PaidRequests;
  receipts: ReceiptDesk;
  /** Settles the jobs that are over, as far as that pays now. */
  reviewJobs(): Promise<void>;
};

type JobRoute = { Params: { jobId: string }; Querystring: { request?: unknown } };
type AnswerRoute = { Params: { jobId: string; requestId: string } };

/** Ended requests that a job's document shows; each of the others is shown by its id. */
const LISTED_REQUESTS = 20;

export function addJobRoutes(app: FastifyInstance, deps: JobRouteDependencies): void {
  const { ledger, requests, receipts } = deps;
  const jobOf = (request: FastifyRequest<JobRoute | AnswerRoute>) =>
    requests.jobOf(request.params.jobId, request.headers[HEADERS.salt]);

  app.get<JobRoute>(`${JOBS_PATH}/:jobId`, async (request, reply) =>
    reply.type("application/json").send(toJson(jobDocument(ledger, jobOf(request), request.query.request))),
  );

  app.get<AnswerRoute>(`${JOBS_PATH}/:jobId/requests/:requestId`, async (request, reply) => {
    const { jobId } = jobOf(request);
    const found = ledger.findRequest(request.params.requestId as Hex);
    if (found?.jobId !== jobId) throw new InfernetError("not-found", "the job has no such request");
    if (found.status === "running") {
      throw new InfernetError("request-in-progress", "the answer to this request still runs", {
        hint: "Send the same request again to read it as it comes.",
      });
    }
    sendReplay(replayOf(ledger, found.requestId, 0), reply);
    return reply;
  });

  app.post<JobRoute>(`${JOBS_PATH}/:jobId/receipts`, async (request, reply) => {
    const job = jobOf(request);
    const header = request.headers[HEADERS.receipt];
    if (typeof header !== "string") {
      throw new InfernetError("bad-receipt", "the request carries no Infernet-Receipt header");
    }
    const accepted = await receipts.accept(job, header);
    return reply.type("application/json").send(toJson({ accepted }));
  });

  app.post<JobRoute>(`${JOBS_PATH}/:jobId/close`, async (request, reply) => {
    const { jobId, state } = await requests.jobToClose(request.params.jobId, request.headers);
    if (state !== "closed") {
      await requests.endDeserted(jobId);
      ledger.finishJob(jobId, { asked: true });
      await deps.reviewJobs();
    }
    const document = jobDocument(ledger, ledger.findJob(jobId)!, request.query.request);
    return reply.type("application/json").send(toJson(document));
  });
}

/** What the node tells a requester of its job, and of its latest requests or the one that is asked for. */
function jobDocument(ledger: JobLedger, job: LedgerJob, requestId: unknown): JobDocument {
  const { jobId, deposit, claimed, state } = job;
  const one = typeof requestId === "string" ? ledger.findRequest(requestId as Hex) : undefined;
  const listed = requestId === undefined ? ledger.latestRequests(jobId, LISTED_REQUESTS) : one ? [one] : [];
  const requests = listed.filter((request) => request.jobId === jobId);
  return {
    jobId,
    status: state === "closed" ? "closed" : state === "settling" || state === "refused" ? "settling" : "open",
    deposit,
    receipt: job.receipt?.amount ?? 0n,
    charge: job.charge,
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
