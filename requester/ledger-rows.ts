// Owns the tables of the requester's store and how their rows read as values.
import type { SQLOutputValue, StatementSync } from "node:sqlite";
import type { Address, Hex } from "../protocol/bytes.ts";
import { type SignedDelivery, signedDeliverySchema } from "../protocol/delivery.ts";
import { type Job, SESSION_REQUEST_HASH } from "../protocol/job.ts";
import type { OpeningConsent } from "../protocol/relay.ts";
import { parseJsonWith } from "../protocol/schema.ts";
import type { ModelPath } from "../protocol/wire.ts";
import { REQUESTS_MIGRATION } from "./request-ledger.ts";
import { MEASURES_MIGRATION } from "./routing/measures.ts";
import { VERDICTS_MIGRATION } from "./routing/verdicts.ts";

/**
 * `planned`: its terms are written. `opening`: its transaction is signed. `open`: the Escrow holds the deposit.
 * `streaming`: a receipt may have left. `ended`: nothing more will be signed. `closed` and `refunded`: closed on the
 * chain. `dropped`: it never opened, and cannot any more.
 */
export type JobPhase =
  | "planned"
  | "opening"
  | "open"
  | "streaming"
  | "ended"
  | "closed"
  | "refunded"
  | "dropped";

/** What shows the job to its node. Neither prompt nor answer is kept: a resumed answer is read again from its start. */
export type LedgerTerms = {
  /** Salt and signer key are derived from the seed at this index. */
  saltIndex: number;
  offerBytes: Uint8Array;
  endpoint: string;
  /** Null for a session, which pays for requests on any path. */
  path: ModelPath | null;
  /** For a session: the one that it was opened for. */
  model: string;
  requestHash: Hex;
};

export type OpeningTransaction = { hash: Hex; raw: Hex; nonce: number };

/** A consent as it is kept, with what the node asks for using it. */
export type KeptConsent = { consent: OpeningConsent; openingFee: bigint };

/** A job as the requester knows it; amounts in USDC base units, times in Unix seconds. */
export type LedgerJob = {
  jobId: Hex;
  phase: JobPhase;
  job: Job;
  /** Null for a job that was found again on the chain without the ledger that opened it. */
  terms: LedgerTerms | null;
  deposit: bigint;
  maxCharge: bigint;
  /** Block time of its opening. */
  openedAt: number | null;
  /** The transaction that opened it, or is to: its own, or the node's. */
  openTx: Hex | null;
  /** What a node may open it by; null when only its own transaction does. */
  consent: OpeningConsent | null;
  /** What the node may charge for opening it; 0 unless the node was asked to. */
  openingFee: bigint;
  openGas: bigint | null;
  /** The highest amount that a receipt of ours names: the node may claim this much. */
  signed: bigint;
  lastEventId: number;
  delivery: SignedDelivery | null;
  /** What shows that the node lied, as JSON. */
  evidence: string | null;
  /** The process that works on it, alive or not; null when none does. */
  worker: number | null;
  /** What the node earned, once the chain has closed the job. */
  claimed: bigint | null;
  createdAt: number;
  /** Millionths: what its ended requests cost, and what was signed for those that were lost. */
  settled: bigint;
  lost: bigint;
  /** When a request of its last began or ended. */
  usedAt: number | null;
};

/** Whether a job pays for any number of requests. */
export function isSession({ terms }: Pick<LedgerJob, "terms">): boolean {
  return terms?.requestHash === SESSION_REQUEST_HASH;
}

/** Applied in order, once each. Amounts are INTEGER base units; `debits` is what receipts spent of each day's budget. */
export const REQUESTER_MIGRATIONS: readonly string[] = [
  `
  CREATE TABLE jobs (
    job_id TEXT PRIMARY KEY,
    phase TEXT NOT NULL CHECK (phase IN
      ('planned', 'opening', 'open', 'streaming', 'ended', 'closed', 'refunded', 'dropped')),
    requester TEXT NOT NULL,
    signer TEXT NOT NULL,
    node TEXT NOT NULL,
    payee TEXT NOT NULL,
    job_hash TEXT NOT NULL,
    deadline INTEGER NOT NULL,
    salt_index INTEGER UNIQUE,
    offer BLOB,
    endpoint TEXT,
    path TEXT,
    model TEXT,
    request_hash TEXT,
    deposit INTEGER NOT NULL,
    max_charge INTEGER NOT NULL,
    opened_at INTEGER,
    open_tx TEXT,
    open_raw TEXT,
    open_nonce INTEGER,
    open_gas INTEGER,
    signed INTEGER NOT NULL DEFAULT 0,
    last_event_id INTEGER NOT NULL DEFAULT 0,
    delivery TEXT,
    evidence TEXT,
    worker INTEGER,
    claimed INTEGER,
    created_at INTEGER NOT NULL
  ) STRICT;
  CREATE INDEX unfinished_jobs ON jobs (phase) WHERE phase NOT IN ('closed', 'refunded', 'dropped');
  CREATE INDEX jobs_of_node ON jobs (node, phase);
  CREATE INDEX jobs_of_request ON jobs (request_hash, phase);

  CREATE TABLE debits (
    job_id TEXT NOT NULL REFERENCES jobs (job_id),
    day INTEGER NOT NULL,
    amount INTEGER NOT NULL CHECK (amount >= 0),
    PRIMARY KEY (job_id, day)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX debits_of_day ON debits (day);
  `,
  `
  ALTER TABLE jobs ADD COLUMN consent TEXT;
  ALTER TABLE jobs ADD COLUMN opening_fee INTEGER NOT NULL DEFAULT 0;

  CREATE TABLE moves (
    subject TEXT PRIMARY KEY,
    kind TEXT NOT NULL CHECK (kind IN ('deposit', 'withdraw')),
    owner TEXT NOT NULL,
    body TEXT NOT NULL,
    valid_before INTEGER NOT NULL,
    done INTEGER NOT NULL DEFAULT 0
  ) STRICT;
  CREATE INDEX moves_under_way ON moves (owner) WHERE done = 0;
  `,
  MEASURES_MIGRATION,
  VERDICTS_MIGRATION,
  REQUESTS_MIGRATION,
];

type Row = Record<string, SQLOutputValue>;

export function readLedgerJob(row: Row): LedgerJob {
  const text = (name: string) => row[name] as string;
  const number = (name: string) => Number(row[name]);
  const optional = <Value>(name: string, value: Value): Value | null => (row[name] === null ? null : value);
  return {
    jobId: text("job_id") as Hex,
    phase: text("phase") as JobPhase,
    job: {
      requester: text("requester") as Address,
      signer: text("signer") as Address,
      node: text("node") as Address,
      payee: text("payee") as Address,
      jobHash: text("job_hash") as Hex,
      deadline: number("deadline"),
    },
    terms: optional("salt_index", {
      saltIndex: number("salt_index"),
      offerBytes: row.offer as Uint8Array,
      endpoint: text("endpoint"),
      path: row.path as ModelPath | null,
      model: text("model"),
      requestHash: text("request_hash") as Hex,
    }),
    deposit: row.deposit as bigint,
    maxCharge: row.max_charge as bigint,
    openedAt: optional("opened_at", number("opened_at")),
    openTx: row.open_tx as Hex | null,
    consent: row.consent === null ? null : (JSON.parse(text("consent")) as OpeningConsent),
    openingFee: row.opening_fee as bigint,
    openGas: row.open_gas as bigint | null,
    signed: row.signed as bigint,
    lastEventId: number("last_event_id"),
    delivery: row.delivery === null ? null : readDelivery(text("delivery")),
    evidence: row.evidence as string | null,
    worker: optional("worker", number("worker")),
    claimed: row.claimed as bigint | null,
    createdAt: number("created_at"),
    settled: row.settled as bigint,
    lost: row.lost as bigint,
    usedAt: optional("used_at", number("used_at")),
  };
}

function readDelivery(json: string): SignedDelivery {
  return parseJsonWith(signedDeliverySchema, json, "store-unusable", "a kept delivery");
}

/** A statement's rows, with integers as bigints. */
export function rowsOf(statement: StatementSync, ...values: (string | number | bigint)[]): Row[] {
  statement.setReadBigInts(true);
  return statement.all(...values);
}
