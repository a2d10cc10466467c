// Owns the requester's memory of money: jobs and their terms, what was signed for each, and what each day has spent.
import type { StatementSync } from "node:sqlite";
import type { Address, Hex } from "../protocol/bytes.ts";
import type { SignedDelivery } from "../protocol/delivery.ts";
import { InfernetError } from "../protocol/errors.ts";
import { type Job, SESSION_REQUEST_HASH } from "../protocol/job.ts";
import { least } from "../protocol/price.ts";
import { type OpeningConsent, type RelayedMove, relayedMoveSchema } from "../protocol/relay.ts";
import { parseJsonWith, toJson } from "../protocol/schema.ts";
import type { Store } from "../runtime/store.ts";
import {
  type KeptConsent,
  type LedgerJob,
  type LedgerTerms,
  type OpeningTransaction,
  readLedgerJob,
  rowsOf,
} from "./ledger-rows.ts";
import { openRequestLedger, type RequestLedger } from "./request-ledger.ts";

export type PlannedJob = {
  jobId: Hex;
  job: Job;
  terms: LedgerTerms;
  deposit: bigint;
  maxCharge: bigint;
  createdAt: number;
  /** The process that works on it from the first moment on, so that no other one tends it. */
  worker: number | null;
};

/** A move that its owner signed. */
export type OwnedMove = Exclude<RelayedMove, { kind: "refund" }>;

export type RequesterLedger = {
  /** Runs `work` in one durable transaction: what it reads cannot change before what it writes is kept. */
  transact<Result>(work: () => Result): Result;
  /** An index that no other job of this seed has, a lost ledger's included: it never lags behind the clock. */
  nextSaltIndex(nowSeconds: number): number;
  planJob(planned: PlannedJob): void;
  /** Makes a process the job's worker if its present one may be replaced; says whether it did. */
  takeJob(jobId: Hex, worker: number, mayReplace: (present: number) => boolean): boolean;
  /** Nobody works on the job any more. */
  leaveJob(jobId: Hex): void;
  /** Keeps an opening before it is broadcast. */
  noteOpening(jobId: Hex, transaction: OpeningTransaction): void;
  /** Keeps what a node is to open a job by, its fee as signed, and debits the day by it, before either leaves. */
  noteConsent(jobId: Hex, kept: KeptConsent & { day: number }): void;
  /** `tx` is told where it is not the wallet's own. */
  noteOpened(
    jobId: Hex,
    opened: { deposit: bigint; openedAt: number; gasUsed: bigint | null; tx?: Hex },
  ): void;
  /** Raises the signed mark and debits the day by the difference. Throws an Error unless it rises. */
  raiseMark(jobId: Hex, mark: { amount: bigint; lastEventId: number; day: number }): void;
  noteEnded(jobId: Hex, delivery: SignedDelivery | null): void;
  noteEvidence(jobId: Hex, evidence: object): void;
  /** Closes a job with what the chain says its node earned; the days get back what was signed and not claimed. */
  noteClosed(jobId: Hex, phase: "closed" | "refunded", claimed: bigint): void;
  /** Deposits of an account that nodes may still open jobs with at this block time. */
  promised(account: Address, blockTime: number): Record<OpeningConsent["kind"], bigint>;
  /** Keeps a move before it leaves for a node; one that is known is kept as it is now. */
  keepMove(subject: Hex, move: OwnedMove, validBefore: number): void;
  finishMove(subject: Hex): void;
  /** Moves of an account's that are not done and are valid beyond this block time. */
  movesUnderWay(account: Address, blockTime: number): { subject: Hex; move: OwnedMove }[];
  /** Gives up a job that never opened and cannot any more; the days get back what was signed for it. */
  dropJob(jobId: Hex): void;
  /** Adds a job that was found on the chain; does nothing when it is known. */
  adoptJob(jobId: Hex, job: Job, opened: { deposit: bigint; openedAt: number }): void;
  findJob(jobId: Hex): LedgerJob | undefined;
  /** All jobs, newest first. */
  listJobs(): LedgerJob[];
  unfinishedJobs(): LedgerJob[];
  /** Unfinished jobs that pay for exactly this request, newest first. */
  jobsOfRequest(requestHash: Hex): LedgerJob[];
  /** Sessions that may still pay for requests of a node, the oldest first. */
  openSessions(node: Address): LedgerJob[];
  /** Sessions that the chain has not closed yet, newest first. */
  unfinishedSessions(): LedgerJob[];
  spentOn(day: number): bigint;
  /** What receipts to one node spent: of one day's budget, and of all. */
  spentWith(node: Address, day: number): { onDay: bigint; ever: bigint };
  /** Whether this node has delivered to this ledger before, and never lied to it. */
  hasHistory(node: Address): boolean;
  requests: RequestLedger;
};

const FINISHED = "('closed', 'refunded', 'dropped')";

/** The ledger in a store that was opened with `REQUESTER_MIGRATIONS`. */
export function openLedger(store: Store): RequesterLedger {
  const { db } = store;
  const statements = prepareStatements(store);
  const selects = new Map<string, StatementSync>();
  const jobsWhere = (condition: string, ...values: string[]) => {
    const select =
      selects.get(condition) ??
      db.prepare(`SELECT * FROM jobs WHERE ${condition} ORDER BY created_at DESC, rowid DESC`);
    selects.set(condition, select);
    return rowsOf(select, ...values).map(readLedgerJob);
  };
  const findJob = (jobId: Hex) => jobsWhere("job_id = ?", jobId)[0];

  return {
    transact: (work) => store.transact(work),
    nextSaltIndex(nowSeconds) {
      const last = Number(statements.lastSaltIndex.get()?.last ?? 0);
      return Math.max(last + 1, nowSeconds);
    },
    planJob: (planned) => statements.planJob(planned),
    takeJob: (jobId, worker, mayReplace) =>
      store.transact(() => {
        const present = findJob(jobId)?.worker;
        if (present === undefined || (present !== null && !mayReplace(present))) return false;
        statements.setWorker.run(worker, jobId);
        return true;
      }),
    leaveJob: (jobId) => changeOne(statements.setWorker.run(null, jobId), jobId),
    noteOpening: (jobId, { hash, raw, nonce }) =>
      changeOne(statements.noteOpening.run(hash, raw, nonce, jobId), jobId),
    noteConsent: (jobId, { consent, openingFee, day }) =>
      store.transact(() => {
        changeOne(statements.noteConsent.run(toJson(consent), openingFee, openingFee, jobId), jobId);
        statements.debit.run(jobId, day, openingFee);
      }),
    noteOpened: (jobId, { deposit, openedAt, gasUsed, tx = null }) =>
      changeOne(statements.noteOpened.run(deposit, openedAt, gasUsed, tx, jobId), jobId),
    raiseMark: (jobId, { amount, lastEventId, day }) =>
      store.transact(() => {
        const before = findJob(jobId)?.signed ?? 0n;
        changeOne(statements.raiseMark.run(amount, lastEventId, jobId, amount), jobId);
        statements.debit.run(jobId, day, amount - before);
      }),
    noteEnded: (jobId, delivery) =>
      changeOne(statements.noteEnded.run(delivery && toJson(delivery), jobId), jobId),
    noteEvidence: (jobId, evidence) => changeOne(statements.noteEvidence.run(toJson(evidence), jobId), jobId),
    noteClosed: (jobId, phase, claimed) =>
      store.transact(() => {
        changeOne(statements.noteClosed.run(phase, claimed, jobId), jobId);
        creditDays(store, jobId, claimed);
      }),
    promised(account, blockTime) {
      const promised = { credit: 0n, authorization: 0n };
      const handedOver = "phase = 'opening' AND consent IS NOT NULL AND requester = ?";
      for (const { consent, deposit } of jobsWhere(handedOver, account))
        if (consent!.validBefore > blockTime) promised[consent!.kind] += deposit;
      return promised;
    },
    keepMove: (subject, move, validBefore) =>
      store.transact(() =>
        statements.keepMove.run(subject, move.kind, move.owner, toJson(move), validBefore),
      ),
    finishMove: (subject) => store.transact(() => statements.finishMove.run(subject)),
    movesUnderWay: (account, blockTime) =>
      (statements.movesUnderWay.all(account, blockTime) as { subject: Hex; body: string }[]).map(
        ({ subject, body }) => ({
          subject,
          move: parseJsonWith(relayedMoveSchema, body, "store-unusable", "a kept move") as OwnedMove,
        }),
      ),
    dropJob: (jobId) =>
      store.transact(() => {
        changeOne(statements.dropJob.run(jobId), jobId);
        creditDays(store, jobId, 0n);
      }),
    adoptJob: (jobId, job, opened) => statements.adoptJob(jobId, job, opened),
    findJob,
    listJobs: () => jobsWhere("TRUE"),
    unfinishedJobs: () => jobsWhere(`phase NOT IN ${FINISHED}`),
    jobsOfRequest: (requestHash) => jobsWhere(`request_hash = ? AND phase NOT IN ${FINISHED}`, requestHash),
    openSessions: (node) =>
      jobsWhere(
        "request_hash = ? AND phase IN ('open', 'streaming') AND node = ?",
        SESSION_REQUEST_HASH,
        node,
      ).reverse(),
    unfinishedSessions: () =>
      jobsWhere(`request_hash = ? AND phase NOT IN ${FINISHED}`, SESSION_REQUEST_HASH),
    spentOn: (day) => rowsOf(statements.spentOn, day)[0]!.spent as bigint,
    spentWith(node, day) {
      const [row] = rowsOf(statements.spentWith, day, node);
      return { onDay: row!.on_day as bigint, ever: row!.ever as bigint };
    },
    hasHistory: (node) => {
      const { delivered, lied } = statements.history.get(node, node, node) as Record<string, number>;
      return delivered === 1 && lied === 0;
    },
    requests: openRequestLedger(store),
  };
}

function prepareStatements({ db }: Store) {
  const insertJob = db.prepare(`INSERT INTO jobs
    (job_id, phase, requester, signer, node, payee, job_hash, deadline, salt_index, offer, endpoint, path, model,
     request_hash, deposit, max_charge, opened_at, created_at, worker)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (job_id) DO NOTHING`);
  const fieldsOf = (job: Job) =>
    [job.requester, job.signer, job.node, job.payee, job.jobHash, job.deadline] as const;
  return {
    lastSaltIndex: db.prepare("SELECT max(salt_index) AS last FROM jobs"),
    planJob({ jobId, job, terms, deposit, maxCharge, createdAt, worker }: PlannedJob): void {
      const { saltIndex, offerBytes, endpoint, path, model, requestHash } = terms;
      const told = [saltIndex, offerBytes, endpoint, path, model, requestHash] as const;
      const amounts = [deposit, maxCharge, null, createdAt] as const;
      changeOne(insertJob.run(jobId, "planned", ...fieldsOf(job), ...told, ...amounts, worker), jobId);
    },
    adoptJob(jobId: Hex, job: Job, { deposit, openedAt }: { deposit: bigint; openedAt: number }): void {
      const untold = [null, null, null, null, null, null] as const;
      insertJob.run(jobId, "ended", ...fieldsOf(job), ...untold, deposit, deposit, openedAt, openedAt, null);
    },
    setWorker: db.prepare("UPDATE jobs SET worker = ? WHERE job_id = ?"),
    noteOpening: db.prepare(
      "UPDATE jobs SET phase = 'opening', open_tx = ?, open_raw = ?, open_nonce = ? WHERE job_id = ? AND phase IN ('planned', 'opening')",
    ),
    noteConsent: db.prepare(
      "UPDATE jobs SET phase = 'opening', consent = ?, opening_fee = ?, signed = ? WHERE job_id = ? AND phase = 'planned'",
    ),
    noteOpened: db.prepare(
      "UPDATE jobs SET phase = 'open', deposit = ?, opened_at = ?, open_gas = ?, open_tx = coalesce(?, open_tx) WHERE job_id = ? AND phase = 'opening'",
    ),
    raiseMark: db.prepare(
      "UPDATE jobs SET phase = 'streaming', signed = ?, last_event_id = ? WHERE job_id = ? AND signed < ? AND phase IN ('open', 'streaming')",
    ),
    debit: db.prepare(
      "INSERT INTO debits (job_id, day, amount) VALUES (?, ?, ?) ON CONFLICT (job_id, day) DO UPDATE SET amount = amount + excluded.amount",
    ),
    noteEnded: db.prepare(
      "UPDATE jobs SET phase = 'ended', delivery = coalesce(?, delivery) WHERE job_id = ? AND phase IN ('open', 'streaming', 'ended')",
    ),
    noteEvidence: db.prepare("UPDATE jobs SET evidence = coalesce(evidence, ?) WHERE job_id = ?"),
    noteClosed: db.prepare(
      `UPDATE jobs SET phase = ?, claimed = ? WHERE job_id = ? AND phase NOT IN ${FINISHED}`,
    ),
    keepMove: db.prepare(
      "INSERT OR REPLACE INTO moves (subject, kind, owner, body, valid_before) VALUES (?, ?, ?, ?, ?)",
    ),
    finishMove: db.prepare("UPDATE moves SET done = 1 WHERE subject = ?"),
    movesUnderWay: db.prepare(
      "SELECT subject, body FROM moves WHERE owner = ? AND done = 0 AND valid_before > ? ORDER BY rowid",
    ),
    dropJob: db.prepare(
      "UPDATE jobs SET phase = 'dropped' WHERE job_id = ? AND phase IN ('planned', 'opening')",
    ),
    spentOn: db.prepare("SELECT coalesce(sum(amount), 0) AS spent FROM node_days WHERE day = ?"),
    spentWith: db.prepare(
      "SELECT coalesce(sum(amount) FILTER (WHERE day = ?), 0) AS on_day, coalesce(sum(amount), 0) AS ever FROM node_days WHERE node = ?",
    ),
    history: db.prepare(`SELECT
      EXISTS (SELECT 1 FROM jobs WHERE node = ? AND delivery IS NOT NULL)
        OR EXISTS (SELECT 1 FROM requests WHERE node = ? AND delivery IS NOT NULL) AS delivered,
      EXISTS (SELECT 1 FROM jobs WHERE node = ? AND evidence IS NOT NULL) AS lied`),
  };
}

/** Takes back from a job's debits, the newest first, what the chain shows was never claimed. */
function creditDays({ db }: Store, jobId: Hex, claimed: bigint): void {
  const debits = rowsOf(db.prepare("SELECT day, amount FROM debits WHERE job_id = ? ORDER BY day"), jobId);
  const update = db.prepare("UPDATE debits SET amount = ? WHERE job_id = ? AND day = ?");
  let spent = claimed;
  for (const { day, amount } of debits as { day: bigint; amount: bigint }[]) {
    const kept = least(amount, spent);
    update.run(kept, jobId, day);
    spent -= kept;
  }
}

function changeOne({ changes }: { changes: number | bigint }, jobId: Hex): void {
  if (Number(changes) === 1) return;
  throw new InfernetError("job-not-found", `the ledger holds no job ${jobId} in a phase that allows this`);
}
