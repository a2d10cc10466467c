// Owns what the provider has seen of the chain: block cursors, jobs as they open and close there, and what a reorg undoes.
import type { Cursor, OpenedEvent } from "../chain/events.ts";
import type { Address, Hex } from "../protocol/bytes.ts";
import type { Store } from "../runtime/store.ts";
import { type Row, readingBigInts } from "./ledger-rows.ts";

/** Cursors kept to find the fork of a reorg: more than any chain that we settle on undoes. */
const KEPT_CURSORS = 256;
const LARGEST_AMOUNT = (1n << 63n) - 1n;

/** An opening, with the payee that the Registry named at its block. */
export type Opening = { event: OpenedEvent; registeredPayee: Address };

/** What one look at the chain showed. `undone` is the last block that a reorg left standing. */
export type ChainReading = {
  undone: Cursor | null;
  openings: readonly Opening[];
  closings: readonly { jobId: Hex; block: number }[];
  cursor: Cursor;
};

/** The ledger's view of the chain. Each method is one durable transaction. */
export class OpeningLedger {
  readonly #store: Store;
  readonly #sql: ReturnType<typeof prepareStatements>;

  constructor(store: Store) {
    this.#store = store;
    this.#sql = prepareStatements(store);
  }

  /** Block cursors, newest first. */
  cursors(): Cursor[] {
    return this.#sql.cursors.all() as Cursor[];
  }

  /** Records a reading and its cursor together; returns the jobs that ran and whose opening a reorg took away. */
  record({ undone, openings, closings, cursor }: ChainReading): Hex[] {
    return this.#store.transact(() => {
      const lost = undone ? this.#rollBack(undone.block) : [];
      for (const { event, registeredPayee } of openings) {
        const { jobId, job, amount, block, timestamp: openedAt, tx } = event;
        const deposit = amount < LARGEST_AMOUNT ? amount : LARGEST_AMOUNT;
        this.#sql.open.run({ jobId, ...job, deposit, openedAt, openedBlock: block, registeredPayee });
        this.#sql.bindRelayed.run({ jobId });
        this.#sql.setOpeningFee.run({ jobId, tx });
      }
      for (const { jobId, block } of closings) this.#sql.markClosing.run(block, jobId);
      this.#sql.keepCursor.run(cursor.block, cursor.hash);
      this.#sql.forgetCursors.run(KEPT_CURSORS);
      return lost;
    });
  }

  /** The job's opening is confirmed at this block: it may run requests. False when another request saw to that. */
  confirm(jobId: Hex, block: number): boolean {
    return this.#store.transact(() => this.#sql.confirm.run(block, jobId).changes > 0);
  }

  /** The job does not pay this node: it is to be refunded. False when it was already served or over. */
  refuse(jobId: Hex, now: number): boolean {
    return this.#store.transact(() => this.#sql.refuse.run(now, jobId).changes > 0);
  }

  /** Deposits of a requester's live jobs that opened after this block, in base units: what a reorg could take away. */
  depositsOpenedAfter(requester: Address, block: number): bigint {
    return (this.#sql.depositsAfter.get(requester, block) as Row).deposits as bigint;
  }

  /** Jobs that serve nothing now and whose deadline margin has begun at this block time. */
  idleJobsPastMargin(blockTime: number): Hex[] {
    return (this.#sql.idlePastMargin.all(blockTime) as { job_id: Hex }[]).map((row) => row.job_id);
  }

  #rollBack(block: number): Hex[] {
    this.#sql.dropCursors.run(block);
    this.#sql.dropUnused.run(block);
    this.#sql.unmarkClosing.run(block);
    const lost = (this.#sql.undo.all(block) as { job_id: Hex }[]).map((row) => row.job_id);
    this.#sql.unmine.run(block);
    return lost;
  }
}

function prepareStatements({ db }: Store) {
  return {
    cursors: db.prepare("SELECT block, hash FROM cursors ORDER BY block DESC"),
    keepCursor: db.prepare("INSERT OR REPLACE INTO cursors (block, hash) VALUES (?, ?)"),
    forgetCursors: db.prepare(
      "DELETE FROM cursors WHERE block NOT IN (SELECT block FROM cursors ORDER BY block DESC LIMIT ?)",
    ),
    dropCursors: db.prepare("DELETE FROM cursors WHERE block > ?"),
    // A job that comes back after a reorg stands in another block, and is to be confirmed again.
    open: db.prepare(`
      INSERT INTO jobs (job_id, requester, signer, node, payee, job_hash, deadline, deposit, opened_at, opened_block,
        registered_payee, state)
      VALUES ($jobId, $requester, $signer, $node, $payee, $jobHash, $deadline, $deposit, $openedAt, $openedBlock,
        $registeredPayee, 'seen')
      ON CONFLICT (job_id) DO UPDATE SET deposit = $deposit, opened_at = $openedAt, opened_block = $openedBlock,
        registered_payee = $registeredPayee, undone = 0, confirmed_block = NULL,
        state = CASE state WHEN 'funded' THEN 'seen' ELSE state END
      WHERE undone = 1`),
    // What came with a relayed opening is held as if a first request had brought it.
    bindRelayed: db.prepare(`
      UPDATE jobs SET salt = relayed.salt, offer_hash = relayed.offer_hash, request_hash = relayed.request_hash,
        receipt_amount = relayed.receipt_amount, receipt_transcript = relayed.receipt_transcript,
        receipt_signature = relayed.receipt_signature
      FROM relayed_openings AS relayed
      WHERE jobs.job_id = $jobId AND relayed.job_id = $jobId AND jobs.salt IS NULL`),
    // The fee is due for the job that this node's own transaction opened, and for no other.
    setOpeningFee: db.prepare(`
      UPDATE jobs SET opening_fee = due.fee
      FROM (SELECT COALESCE((SELECT opening_fee FROM relayed_openings JOIN relays ON subject = job_id
        WHERE job_id = $jobId AND tx = $tx AND kind = 'open'), 0) AS fee) AS due
      WHERE job_id = $jobId AND state <> 'closed' AND opening_fee <> due.fee`),
    dropUnused: db.prepare(`
      DELETE FROM jobs WHERE opened_block > ? AND state <> 'closed'
        AND NOT EXISTS (SELECT 1 FROM requests WHERE requests.job_id = jobs.job_id)
        AND NOT EXISTS (SELECT 1 FROM transaction_jobs WHERE transaction_jobs.job_id = jobs.job_id)`),
    undo: db.prepare(`
      UPDATE jobs SET undone = 1 WHERE opened_block > ? AND state <> 'closed' AND undone = 0 RETURNING job_id`),
    // It serves no more from now on; whether it is closed for good shows at finality.
    markClosing: db.prepare(`
      UPDATE jobs SET closing_block = ?, state = CASE WHEN state = 'refused' THEN state ELSE 'settling' END
      WHERE job_id = ? AND state <> 'closed'`),
    unmarkClosing: db.prepare("UPDATE jobs SET closing_block = NULL WHERE closing_block > ?"),
    unmine: db.prepare(
      "UPDATE transactions SET state = 'signed', block = NULL WHERE state = 'mined' AND block > ?",
    ),
    confirm: db.prepare(
      "UPDATE jobs SET state = 'funded', confirmed_block = ? WHERE job_id = ? AND state = 'seen' AND undone = 0",
    ),
    refuse: db.prepare(
      "UPDATE jobs SET state = 'refused', over_since = ? WHERE job_id = ? AND state = 'seen'",
    ),
    depositsAfter: readingBigInts(
      db.prepare(`
        SELECT COALESCE(SUM(deposit), 0) AS deposits FROM jobs
        WHERE requester = ? AND opened_block > ? AND state IN ('seen', 'funded', 'settling')`),
    ),
    // The margin of protocol/funding.ts, in SQL: 10 minutes, or a tenth of the job's life.
    idlePastMargin: db.prepare(`
      SELECT job_id FROM jobs WHERE state IN ('seen', 'funded') AND undone = 0
        AND ? > deadline - MAX(600, (deadline - opened_at) / 10)
        AND NOT EXISTS (SELECT 1 FROM requests WHERE requests.job_id = jobs.job_id AND status = 'running')`),
  };
}
