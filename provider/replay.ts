// Owns the replay of an answer that has ended: what was released of it, and the delivery that closed it.
import type { Hex } from "../protocol/bytes.ts";
import type { SignedDelivery } from "../protocol/delivery.ts";
import { InfernetError } from "../protocol/errors.ts";
import { openSse } from "../runtime/sse.ts";
import { sendWord } from "./audience.ts";
import type { JobLedger } from "./job-ledger.ts";

type Replay = { events: { id: number; payload: string }[]; delivery: SignedDelivery };

/** What an ended request released after this event. Throws `not-found` when the ledger has let it go. */
export function replayOf(ledger: JobLedger, requestId: Hex, lastEventId: number): Replay {
  const request = ledger.findRequest(requestId);
  const events = ledger.payloadsAfter(requestId, lastEventId);
  if (request?.delivery && lastEventId + events.length >= request.lastEventId) {
    return { events, delivery: request.delivery };
  }
  throw new InfernetError("not-found", "the answer to this request is not kept any more", {
    hint: "Answers are kept for an hour; GET /infernet/jobs/{id} still tells the delivery.",
  });
}

/** Answers with a replay as an event stream that its delivery ends. */
export function sendReplay({ events, delivery }: Replay, reply: Parameters<typeof openSse>[0]): void {
  const writer = openSse(reply);
  for (const { id, payload } of events) writer.send({ id, data: payload });
  sendWord(writer, { type: "delivery", delivery });
  writer.end();
}
