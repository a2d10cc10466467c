// Owns a look into a seller's ledger from outside, beside the worker that holds it or after its end.
import { DatabaseSync } from "node:sqlite";
import type { TokenCounts } from "../../protocol/price.ts";
import { homePaths } from "../../runtime/home.ts";

export type BookedRequest = { status: string; counts: TokenCounts; text: string };

/** The requests of a job as they are durable: counts, and the text that was released. */
export function bookedRequests(home: string, jobId: string): BookedRequest[] {
  return readBook(home, (db) => {
    const payloads = db.prepare("SELECT payload FROM payloads WHERE request_id = ? ORDER BY event_id");
    return db
      .prepare("SELECT * FROM requests WHERE job_id = ?")
      .all(jobId)
      .map((row) => ({
        status: String(row.status),
        counts: { promptTokens: Number(row.prompt_tokens), completionTokens: Number(row.completion_tokens) },
        text: payloads
          .all(String(row.request_id))
          .map(({ payload }) => textOfPayload(String(payload)))
          .join(""),
      }));
  });
}

/** Runs one reading of the ledger. */
export function readBook<Result>(home: string, read: (db: DatabaseSync) => Result): Result {
  const db = new DatabaseSync(homePaths(home).providerStore, { readOnly: true });
  try {
    return read(db);
  } finally {
    db.close();
  }
}

/** The text of the answer that a released payload carries. */
export function textOfPayload(payload: string): string {
  return payload === "[DONE]" ? "" : (JSON.parse(payload).choices?.[0]?.delta?.content ?? "");
}
