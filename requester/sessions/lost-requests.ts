// Owns what becomes of requests whose end was not seen: their node's replay, or its word on the job, tells it later.
import { InfernetError } from "../../protocol/errors.ts";
import type { JobDocument } from "../../protocol/wire.ts";
import type { Arrived } from "../answer-reader.ts";
import type { LedgerRequest } from "../request-ledger.ts";
import { readReplay } from "../result.ts";
import { findSessionFault, type SessionScene } from "./session-answer.ts";

/**
 * Asks the node what a lost request came to, and keeps it: its delivery, judged, or that it never ran. Returns whether
 * that is known now. Throws `node-misbehaved` for a false delivery, and what kept the node from telling.
 */
export async function learnLostRequest(scene: SessionScene, request: LedgerRequest): Promise<boolean> {
  const { ledger, clock } = scene;
  const { requestId } = request;
  const found = await findDelivery(scene, request);
  if (found === "running") return false;
  // It may have been asked for again meanwhile: whoever does that learns of its end.
  if (ledger.requests.find(requestId)?.state !== "lost") return true;
  if (found === "unknown") {
    ledger.requests.refuse(requestId, clock.nowSeconds());
    return true;
  }
  const { delivery, received } = found;
  const fault = findSessionFault(scene, request, delivery, received);
  if (fault !== undefined) {
    ledger.requests.noteEvidence(requestId, { reason: fault, delivery });
    throw new InfernetError("node-misbehaved", fault);
  }
  ledger.requests.end(requestId, delivery, clock.nowSeconds());
  return true;
}

type Found = { delivery: NonNullable<JobDocument["requests"][number]["delivery"]>; received: Arrived | null };

/** The replay shows all that was released; after an hour only the job's document still tells the delivery. */
async function findDelivery(
  { client }: SessionScene,
  { requestId }: LedgerRequest,
): Promise<Found | "running" | "unknown"> {
  try {
    const { arrived, delivery } = await readReplay(client, requestId);
    return { delivery, received: arrived };
  } catch (error) {
    if (!(error instanceof InfernetError)) throw error;
    if (error.code === "request-in-progress") return "running";
    // A node that does not know the job has run nothing of it.
    if (error.code === "job-not-found") return "unknown";
    if (error.code !== "not-found") throw error;
  }
  const { requests } = await client.getJob(requestId);
  const told = requests.find((candidate) => candidate.requestId === requestId);
  if (!told) return "unknown";
  return told.delivery ? { delivery: told.delivery, received: null } : "running";
}
