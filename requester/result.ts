// Owns reading a finished job's answer again: replayed by its node at no charge, and held against the delivery.
import type { Hex } from "../protocol/bytes.ts";
import { deliveryDigest, type SignedDelivery } from "../protocol/delivery.ts";
import { InfernetError } from "../protocol/errors.ts";
import { singleRequestId } from "../protocol/job.ts";
import { parseJsonWith } from "../protocol/schema.ts";
import type { Domain } from "../protocol/typed-data.ts";
import { INFERNET_EVENT, infernetEventSchema } from "../protocol/wire.ts";
import { recoverSigner } from "../runtime/signers/secp256k1.ts";
import { type Arrived, createAnswerReader } from "./answer-reader.ts";
import { isSession, type LedgerJob } from "./ledger-rows.ts";
import type { NodeClient } from "./node-client.ts";
import { clientOf } from "./settlement.ts";

/** `answer` is null when the node does not give it again; `problem` says why. */
export type JobResult = {
  jobId: Hex;
  delivery: SignedDelivery | null;
  answer: { text: string; finishReason: string } | null;
  problem: InfernetError | null;
};

/**
 * The delivery that the ledger keeps and the answer as its node replays it. Throws `job-not-found` for a job whose terms
 * are lost, and `node-misbehaved` for a replay that is not what was delivered.
 */
export async function readResult(job: LedgerJob, seed: Hex, domain: Domain): Promise<JobResult> {
  const { jobId, terms } = job;
  if (isSession(job))
    throw new InfernetError("bad-request", `the job ${jobId} is a session: it has many answers`, {
      hint: "Send a request again under its key to read its answer again.",
    });
  const client = clientOf(job, seed);
  try {
    const requestId = singleRequestId(jobId, terms!.requestHash);
    const { arrived, delivery } = await readReplay(client, requestId);
    const kept = job.delivery ?? checkDelivery(delivery, { job, requestId, domain });
    if (arrived.transcript !== kept.transcript) {
      throw new InfernetError("node-misbehaved", "the node's replay is not the answer that it delivered");
    }
    const { text, finishReason } = arrived;
    return { jobId, delivery: kept, answer: { text, finishReason }, problem: null };
  } catch (error) {
    if (!(error instanceof InfernetError) || error.code === "node-misbehaved") throw error;
    return { jobId, delivery: job.delivery, answer: null, problem: error };
  } finally {
    await client.close();
  }
}

/** A request's answer again, from its first event to its delivery. Throws `not-found` when its node keeps it no more. */
export async function readReplay(
  client: Pick<NodeClient, "replay">,
  requestId: Hex,
  onPayload: (payload: string, text: string) => void = () => {},
): Promise<{ arrived: Arrived; delivery: SignedDelivery }> {
  const reader = createAnswerReader(requestId);
  for await (const { id, event, data } of await client.replay(requestId)) {
    if (event !== INFERNET_EVENT) {
      onPayload(data, reader.accept(id, data).text);
      continue;
    }
    const told = parseJsonWith(infernetEventSchema, data, "node-misbehaved", "an event of the node");
    if (told.type === "delivery") return { arrived: reader.snapshot(), delivery: told.delivery };
  }
  throw new InfernetError("node-unreachable", "the node's replay broke off before its end");
}

/** A delivery that the ledger did not know yet: a crash kept it from arriving. */
function checkDelivery(
  delivery: SignedDelivery,
  { job, requestId, domain }: { job: LedgerJob; requestId: Hex; domain: Domain },
): SignedDelivery {
  const signer = recoverSigner(deliveryDigest(domain, delivery), delivery.signature);
  if (signer === job.job.node && delivery.jobId === job.jobId && delivery.requestId === requestId)
    return delivery;
  throw new InfernetError("node-misbehaved", "the replay's delivery is not the node's word on this request");
}
