// Owns what the provider means to do, does and has done on the chain with its jobs: due jobs, transactions, closings.
import type { SignedTransaction } from "../chain/sender.ts";
import type { Address, Hex } from "../protocol/bytes.ts";
import { most } from "../protocol/price.ts";
import type { Store } from "../runtime/store.ts";
import { jobOfRow, type LedgerJob, type Row, readingBigInts } from "./ledger-rows.ts";

/** A job that may be claimed of. `claiming` is what claims have taken of it, those that are not final included. */
export type DueJob = LedgerJob & { claiming: bigint };

export type TransactionKind = "claim" | "settle" | "refund" | "payOut";

/** What a transaction is to do: claim these amounts of these jobs, or pay out `amount`. */
export type Intent = {
  kind: TransactionKind;
  amount: bigint;
  items: readonly { jobId: Hex; amount: bigint }[];
};

/** `signed`: persisted, perhaps broadcast. `mined`: in `block`, not yet final. */
export type PendingTransaction = Intent & {
  tx: SignedTransaction;
  state: "signed" | "mined";
  block: number | null;
  gasUsed: bigint;
};

/** Amounts in base units. `settled` is what was claimed at finality, `paidOut` what mined pay-outs sent. */
export type Totals = {
  charged: bigint;
  settled: bigint;
  paidOut: bigint;
  jobs: { open: number; settling: number; closed: number };
};

/** The ledger's record of settlements. Each method is one durable transaction. */
export class SettlementLedger {
  readonly #store: Store;
  readonly #sql: ReturnType<typeof prepareStatements>;

  constructor(store: Store) {
    this.#store = store;
    this.#sql = prepareStatements(store);
  }

  /**
   * Jobs that are over and that no pending transaction closes, oldest first: to settle or refund. Those that failed
   * lately are left out until their retry.
   */
  dueJobs(now: number): DueJob[] {
    return (this.#sql.due.all(now) as Row[]).map(dueJobOfRow);
  }

  /** Jobs that serve on and have ended requests that are not claimed for, oldest first; but for those that failed lately. */
  claimableJobs(now: number): DueJob[] {
    return (this.#sql.claimable.all(now) as Row[]).map(dueJobOfRow);
  }

  /** Before its broadcast: the raw transaction and what it does. */
  recordSigned({ hash, raw, nonce }: SignedTransaction, { kind, amount, items }: Intent, now: number): void {
    this.#store.transact(() => {
      this.#sql.sign.run(hash, raw, nonce, kind, amount, now);
      for (const item of items) this.#sql.signItem.run(hash, item.jobId, item.amount);
    });
  }

  recordMined(tx: Hex, block: number, gasUsed: bigint): void {
    this.#store.transact(() => this.#sql.mine.run(block, gasUsed, tx));
  }

  /** A transaction that closed nothing, or never will: its jobs are due again. */
  recordFailed(tx: Hex): void {
    this.#store.transact(() => this.#sql.fail.run(tx));
  }

  /** A transaction whose block is final: jobs of it that are not closed by now are due again. */
  recordFinal(tx: Hex): void {
    this.#store.transact(() => this.#sql.finalize.run(tx));
  }

  /** Leaves a job alone until then. */
  postpone(jobId: Hex, until: number): void {
    this.#store.transact(() => this.#sql.postpone.run(until, jobId));
  }

  /** A claim of this job is final: that much of it is claimed. Returns what the transaction has added to it. */
  recordClaimed(tx: Hex, jobId: Hex, claimed: bigint): bigint {
    return this.#store.transact(() => {
      const before = (this.#sql.claimed.get(jobId) as Row).claimed as bigint;
      if (claimed <= before) return 0n;
      this.#sql.gain.run(claimed - before, tx, jobId);
      this.#sql.raiseClaimed.run(claimed, jobId);
      return claimed - before;
    });
  }

  /** The chain closed the job for good, with this much claimed, by `tx` if it was ours. False when that was known. */
  closeJob(jobId: Hex, claimed: bigint, tx: Hex | null): boolean {
    return this.#store.transact(() => {
      if (tx) this.recordClaimed(tx, jobId, claimed);
      return this.#sql.close.run(claimed, jobId).changes > 0;
    });
  }

  /** Transactions that are not final, in order of their nonces. */
  pending(): PendingTransaction[] {
    return (this.#sql.pending.all() as Row[]).map((row) => ({
      tx: { hash: row.tx as Hex, raw: row.raw as Hex, nonce: Number(row.nonce) },
      kind: row.kind as TransactionKind,
      amount: row.amount as bigint,
      items: (this.#sql.items.all(row.tx as string) as Row[]).map((item) => ({
        jobId: item.job_id as Hex,
        amount: item.amount as bigint,
      })),
      state: row.state as PendingTransaction["state"],
      block: row.block === null ? null : Number(row.block),
      gasUsed: (row.gas_used ?? 0n) as bigint,
    }));
  }

  /** Whether the chain was seen to close a job that is not closed for good. */
  hasClosings(): boolean {
    return this.#sql.closings.get(Number.MAX_SAFE_INTEGER) !== undefined;
  }

  /** Jobs not closed for good that a block up to this one was seen to close. */
  closingsUpTo(block: number): Hex[] {
    return (this.#sql.closings.all(block) as { job_id: Hex }[]).map((row) => row.job_id);
  }

  /** Payees of the jobs that are over or were claimed of. */
  payees(): Address[] {
    return (this.#sql.payees.all() as { payee: Address }[]).map((row) => row.payee);
  }

  totals(): Totals {
    const row = this.#sql.totals.get() as Row;
    return {
      charged: row.charged as bigint,
      settled: row.settled as bigint,
      paidOut: row.paid_out as bigint,
      jobs: { open: Number(row.open), settling: Number(row.settling), closed: Number(row.closed) },
    };
  }
}

function dueJobOfRow(row: Row): DueJob {
  const job = jobOfRow(row);
  return { ...job, claiming: most(job.claimed, row.pending_claim as bigint) };
}

/** What pending claims of a job take in all. */
const PENDING_CLAIM = `
  COALESCE((SELECT MAX(transaction_jobs.amount) FROM transaction_jobs JOIN transactions USING (tx)
    WHERE transaction_jobs.job_id = jobs.job_id AND kind = 'claim' AND transactions.state IN ('signed', 'mined')), 0)
    AS pending_claim`;

function prepareStatements({ db }: Store) {
  const read = (text: string) => readingBigInts(db.prepare(text));
  const plain = (text: string) => db.prepare(text);
  return {
    due: read(`
      SELECT *, ${PENDING_CLAIM} FROM jobs
      WHERE state IN ('settling', 'refused') AND undone = 0 AND closing_block IS NULL AND retry_at <= ?
        AND NOT EXISTS (SELECT 1 FROM transaction_jobs JOIN transactions USING (tx)
          WHERE transaction_jobs.job_id = jobs.job_id AND kind <> 'claim'
            AND transactions.state IN ('signed', 'mined'))
      ORDER BY rowid`),
    claimable: read(`
      SELECT *, ${PENDING_CLAIM} FROM jobs
      WHERE state = 'funded' AND undone = 0 AND closing_block IS NULL AND retry_at <= ?
        AND MIN(ended_charge, COALESCE(receipt_amount, 0), deposit) > MAX(claimed, pending_claim)
      ORDER BY rowid`),
    claimed: read("SELECT claimed FROM jobs WHERE job_id = ?"),
    raiseClaimed: plain("UPDATE jobs SET claimed = ? WHERE job_id = ?"),
    gain: plain("UPDATE transaction_jobs SET gained = ? WHERE tx = ? AND job_id = ?"),
    sign: plain(`
      INSERT INTO transactions (tx, raw, nonce, kind, state, amount, signed_at)
      VALUES (?, ?, ?, ?, 'signed', ?, ?)`),
    signItem: plain("INSERT INTO transaction_jobs (tx, job_id, amount) VALUES (?, ?, ?)"),
    mine: plain(
      "UPDATE transactions SET state = 'mined', block = ?, gas_used = ? WHERE tx = ? AND state = 'signed'",
    ),
    fail: plain("UPDATE transactions SET state = 'failed' WHERE tx = ? AND state IN ('signed', 'mined')"),
    finalize: plain("UPDATE transactions SET state = 'final' WHERE tx = ? AND state = 'mined'"),
    postpone: plain("UPDATE jobs SET retry_at = ? WHERE job_id = ?"),
    close: plain("UPDATE jobs SET state = 'closed', claimed = ? WHERE job_id = ? AND state <> 'closed'"),
    pending: read("SELECT * FROM transactions WHERE state IN ('signed', 'mined') ORDER BY nonce"),
    items: read("SELECT job_id, amount FROM transaction_jobs WHERE tx = ?"),
    closings: plain("SELECT job_id FROM jobs WHERE state <> 'closed' AND closing_block <= ?"),
    payees: plain("SELECT DISTINCT payee FROM jobs WHERE state IN ('settling', 'closed') OR claimed > 0"),
    totals: read(`
      SELECT COALESCE(SUM(charge), 0) AS charged,
        COALESCE(SUM(claimed), 0) AS settled,
        (SELECT COALESCE(SUM(amount), 0) FROM transactions
          WHERE kind = 'payOut' AND state IN ('mined', 'final')) AS paid_out,
        COUNT(*) FILTER (WHERE state IN ('seen', 'funded')) AS open,
        COUNT(*) FILTER (WHERE state IN ('settling', 'refused')) AS settling,
        COUNT(*) FILTER (WHERE state = 'closed') AS closed
      FROM jobs`),
  };
}
