// Owns the SQL of the job ledger, prepared once.
import type { DatabaseSync } from "node:sqlite";
import { readingBigInts } from "./ledger-rows.ts";

/** Every statement that the job ledger runs. Amounts and the receipt only rise; an ended request never changes. */
export function prepareLedgerStatements(db: DatabaseSync) {
  const read = (text: string) => readingBigInts(db.prepare(text));
  const plain = (text: string) => db.prepare(text);
  return {
    job: read("SELECT * FROM jobs WHERE job_id = ?"),
    request: read("SELECT * FROM requests WHERE request_id = ?"),
    runningOfJob: read("SELECT * FROM requests WHERE status = 'running' AND job_id = ? ORDER BY rowid"),
    lastEndedOfJob: read(
      "SELECT * FROM requests WHERE job_id = ? AND status = 'ended' ORDER BY ended_at DESC, rowid DESC LIMIT ?",
    ),
    running: read("SELECT * FROM requests WHERE status = 'running' ORDER BY rowid"),
    bindTerms: plain(
      "UPDATE jobs SET salt = ?, offer_hash = ?, request_hash = ? WHERE job_id = ? AND salt IS NULL",
    ),
    raiseReceipt: plain(`
      UPDATE jobs SET receipt_amount = $amount, receipt_transcript = $transcript, receipt_signature = $signature
      WHERE job_id = $jobId AND state <> 'closed' AND (receipt_amount IS NULL OR receipt_amount < $amount)`),
    startRequest: plain(`
      INSERT INTO requests (request_id, job_id, request_hash, model, model_digest, path, input_price, output_price,
        prompt_text_bytes, status, reserved, transcript)
      VALUES ($requestId, $jobId, $requestHash, $model, $modelDigest, $path, $inputPrice, $outputPrice,
        $promptTextBytes, 'running', $reserved, $requestId)`),
    forgetRequest: plain(
      "DELETE FROM requests WHERE request_id = ? AND status = 'running' AND last_event_id = 0",
    ),
    reserve: plain("UPDATE requests SET reserved = ? WHERE request_id = ? AND status = 'running'"),
    keepPayload: plain("INSERT INTO payloads (request_id, event_id, payload) VALUES (?, ?, ?)"),
    release: plain(`
      UPDATE requests SET prompt_tokens = ?, completion_tokens = ?, last_event_id = ?, transcript = ?
      WHERE request_id = ? AND status = 'running'`),
    endRequest: plain(`
      UPDATE requests SET status = 'ended', reserved = 0, prompt_tokens = $promptTokens,
        completion_tokens = $completionTokens, estimated = $estimated, delivery = $delivery, end_reason = $reason,
        ended_at = $now
      WHERE request_id = $requestId AND status = 'running'`),
    finishJob: plain(
      "UPDATE jobs SET state = 'settling', over_since = ? WHERE job_id = ? AND state IN ('seen', 'funded')",
    ),
    askClose: plain("UPDATE jobs SET close_asked = 1 WHERE job_id = ? AND state <> 'closed'"),
    payloadsAfter: plain(
      "SELECT event_id AS id, payload FROM payloads WHERE request_id = ? AND event_id > ? ORDER BY event_id",
    ),
    oldOutput: plain("SELECT 1 FROM requests WHERE replayable = 1 AND ended_at < ? LIMIT 1"),
    forgetPayloads: plain(`
      DELETE FROM payloads WHERE request_id IN
        (SELECT request_id FROM requests WHERE replayable = 1 AND ended_at < ?)`),
    markForgotten: plain("UPDATE requests SET replayable = 0 WHERE replayable = 1 AND ended_at < ?"),
  };
}
