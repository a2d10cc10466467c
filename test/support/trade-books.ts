// Owns the books of a market's one requester and one node as three parties keep them: the chain and either ledger.
import { DatabaseSync } from "node:sqlite";
import type { Hex } from "../../protocol/bytes.ts";
import { homePaths } from "../../runtime/home.ts";
import { ALLOWANCE, type Market } from "./market.ts";
import { readBook } from "./seller-book.ts";

/** One job in all books, in base units; `charge` is null when its node does not know the job. */
export type BookedJob = {
  jobId: Hex;
  status: "none" | "open" | "closed";
  deposit: bigint;
  claimed: bigint;
  phase: string;
  signed: bigint;
  /** What the requester's ledger says was claimed, once it has closed the job. */
  noted: bigint | null;
  debited: bigint;
  charge: bigint | null;
  isServed: boolean;
};

/** Reads all books: the chain at one block, the ledgers as they are. */
export async function readBooks(market: Market, at: number): Promise<BookedJob[]> {
  const debits = "(SELECT coalesce(sum(amount), 0) FROM debits WHERE debits.job_id = jobs.job_id)";
  const kept = rowsOf(market.buyer.home, `SELECT *, ${debits} AS debited FROM jobs ORDER BY rowid`);
  const served = "EXISTS (SELECT 1 FROM requests WHERE requests.job_id = jobs.job_id)";
  const sold = readBook(market.seller.home, (db) =>
    bigints(db, `SELECT job_id, charge, ${served} AS served FROM jobs`),
  );
  return Promise.all(
    kept.map(async (row) => {
      const jobId = row.job_id as Hex;
      const sale = sold.find(({ job_id }) => job_id === jobId);
      const { status, deposit, claimed } = await market.view.getJobState(jobId, at);
      return {
        ...{ jobId, status, deposit, claimed },
        phase: String(row.phase),
        signed: row.signed as bigint,
        noted: row.claimed as bigint | null,
        debited: row.debited as bigint,
        charge: sale ? (sale.charge as bigint) : null,
        isServed: sale?.served === 1n,
      };
    }),
  );
}

/** What is wrong in the books of that block, in words; nothing when all agree. */
export async function findFaults(market: Market, jobs: readonly BookedJob[], at: number): Promise<string[]> {
  const { requester, payee } = await market.holdings(at);
  const closed = jobs.filter(({ status }) => status === "closed");
  const open = jobs.filter(({ status }) => status === "open");
  const held = sum(open.map(({ deposit, claimed }) => deposit - claimed));
  const faults = [
    isFault(requester + payee + held === ALLOWANCE, `${requester} + ${payee} + ${held} held is not all`),
    isFault(
      payee === sum(jobs.map(({ claimed }) => claimed)),
      `the payee has ${payee}, not what was claimed`,
    ),
  ];
  for (const job of jobs) {
    const tell = (isRight: boolean, what: string) =>
      isFault(
        isRight,
        `${what}: ${JSON.stringify(job, (_, value) => (typeof value === "bigint" ? String(value) : value))}`,
      );
    faults.push(
      tell(job.claimed <= job.signed, "more was claimed than signed"),
      tell(job.claimed <= job.deposit, "more was claimed than deposited"),
      tell(job.noted === null || (job.status === "closed" && job.noted === job.claimed), "the ledger errs"),
      tell(job.debited === (job.noted ?? job.signed), "the day's budget is debited with something else"),
    );
  }
  for (const job of closed)
    faults.push(
      isFault(
        job.claimed === (job.charge ?? 0n),
        `${job.jobId}: claimed ${job.claimed}, charged ${job.charge}`,
      ),
    );
  return faults.flat();
}

function isFault(isRight: boolean, what: string): string[] {
  return isRight ? [] : [what];
}

function sum(amounts: readonly bigint[]): bigint {
  return amounts.reduce((total, amount) => total + amount, 0n);
}

function rowsOf(home: string, query: string) {
  const db = new DatabaseSync(homePaths(home).requesterStore, { readOnly: true });
  try {
    return bigints(db, query);
  } finally {
    db.close();
  }
}

function bigints(db: DatabaseSync, query: string) {
  const statement = db.prepare(query);
  statement.setReadBigInts(true);
  return statement.all();
}
