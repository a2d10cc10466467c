// Owns the requester's memory of requests: their keys, what was signed for each, what each came to, and their sums a job.
import type { SQLOutputValue } from "node:sqlite";
import { type Address, type Hex, ZERO_WORD } from "../protocol/bytes.ts";
import { type SignedDelivery, signedDeliverySchema } from "../protocol/delivery.ts";
import { parseJsonWith, toJson } from "../protocol/schema.ts";
import type { ModelPath } from "../protocol/wire.ts";
import type { Store } from "../runtime/store.ts";

/**
 * Amounts of `requests`, and `settled` and `lost` of jobs, are millionths of a base unit. `settled` is what the job's
 * ended requests cost, `lost` what was signed for those that ended without a delivery. `node_days` is kept by triggers:
 * what receipts spent of each day's budget, by node.
 */
export const REQUESTS_MIGRATION = `
  ALTER TABLE jobs ADD COLUMN settled INTEGER NOT NULL DEFAULT 0;
  ALTER TABLE jobs ADD COLUMN lost INTEGER NOT NULL DEFAULT 0;
  ALTER TABLE jobs ADD COLUMN used_at INTEGER;
  CREATE INDEX deliveries_of_node ON jobs (node) WHERE delivery IS NOT NULL;

  CREATE TABLE requests (
    request_id TEXT PRIMARY KEY,
    job_id TEXT NOT NULL REFERENCES jobs (job_id),
    idempotency_key TEXT,
    body_hash TEXT NOT NULL,
    node TEXT NOT NULL,
    model TEXT NOT NULL,
    path TEXT NOT NULL,
    day INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    ended_at INTEGER,
    state TEXT NOT NULL CHECK (state IN ('running', 'lost', 'ended', 'refused')),
    prompt_bound INTEGER NOT NULL,
    token_limit INTEGER NOT NULL,
    allowed INTEGER NOT NULL DEFAULT 0,
    can_cost INTEGER NOT NULL,
    prompt_tokens INTEGER,
    completion_tokens INTEGER,
    estimated INTEGER,
    cost INTEGER,
    delivery TEXT,
    evidence TEXT
  ) STRICT;
  CREATE INDEX requests_of_job ON requests (job_id, state);
  CREATE INDEX requests_of_key ON requests (idempotency_key) WHERE idempotency_key IS NOT NULL;
  CREATE INDEX requests_of_day ON requests (day);
  CREATE INDEX requests_of_node ON requests (node) WHERE delivery IS NOT NULL;
  INSERT INTO requests
    SELECT delivery ->> '$.requestId', job_id, NULL, request_hash, node, model, path,
      created_at / 86400, created_at, created_at, 'ended', delivery ->> '$.promptTokens', 0, 0, 0,
      delivery ->> '$.promptTokens', delivery ->> '$.completionTokens', delivery ->> '$.estimated',
      CAST(delivery ->> '$.cost' AS INTEGER), delivery, evidence
    FROM jobs WHERE delivery IS NOT NULL AND request_hash IS NOT NULL;

  CREATE TABLE node_days (
    day INTEGER NOT NULL,
    node TEXT NOT NULL,
    amount INTEGER NOT NULL CHECK (amount >= 0),
    PRIMARY KEY (day, node)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX days_of_node ON node_days (node);
  INSERT INTO node_days
    SELECT day, node, sum(amount) FROM debits JOIN jobs USING (job_id) GROUP BY day, node;
  CREATE TRIGGER debit_added AFTER INSERT ON debits BEGIN
    INSERT INTO node_days (day, node, amount)
      SELECT NEW.day, node, NEW.amount FROM jobs WHERE job_id = NEW.job_id
      ON CONFLICT (day, node) DO UPDATE SET amount = amount + excluded.amount;
  END;
  CREATE TRIGGER debit_changed AFTER UPDATE OF amount ON debits BEGIN
    UPDATE node_days SET amount = amount + NEW.amount - OLD.amount
      WHERE day = NEW.day AND node = (SELECT node FROM jobs WHERE job_id = NEW.job_id);
  END;
`;

/**
 * `running`: it may have left. `lost`: its end was not seen; what was signed for it stays reserved. `ended`: its delivery
 * was judged. `refused`: its node did not run it, and charges nothing for it.
 */
export type RequestState = "running" | "lost" | "ended" | "refused";

/** A request as the requester knows it; amounts in millionths of a USDC base unit, times in Unix seconds. */
export type LedgerRequest = {
  requestId: Hex;
  jobId: Hex;
  /** Null for the request of a single job, which its bytes name. */
  idempotencyKey: string | null;
  /** What its path and bytes hash to. */
  bodyHash: Hex;
  node: Address;
  model: string;
  path: ModelPath;
  /** The UTC day of its start, counted from 1970. */
  day: number;
  createdAt: number;
  endedAt: number | null;
  state: RequestState;
  /** The most tokens of its prompt and its completion that are paid for. */
  promptBound: number;
  tokenLimit: number;
  /** The most that it can cost: its bound of prompt tokens and all completion tokens. */
  canCost: bigint;
  /** The most that was signed for it while it ran. */
  allowed: bigint;
  promptTokens: number | null;
  completionTokens: number | null;
  estimated: boolean | null;
  /** What it came to by its judged delivery; null until then. */
  cost: bigint | null;
  delivery: SignedDelivery | null;
  /** What shows that its node lied about it, as JSON. */
  evidence: string | null;
};

export type NewRequest = Pick<
  LedgerRequest,
  | "requestId"
  | "jobId"
  | "idempotencyKey"
  | "bodyHash"
  | "node"
  | "model"
  | "path"
  | "day"
  | "createdAt"
  | "promptBound"
  | "tokenLimit"
  | "canCost"
>;

export type RequestLedger = {
  /** Keeps a request before it leaves; one that was lost or refused runs again. Throws an Error if it has ended. */
  start(request: NewRequest): void;
  /** Raises what is signed for a running request. */
  allow(requestId: Hex, allowed: bigint): void;
  /** Ends a request with its judged delivery: its cost takes the place of what was reserved for it. */
  end(requestId: Hex, delivery: SignedDelivery, now: number): void;
  /** A running request's end was not seen: what was signed for it stays reserved. */
  lose(requestId: Hex, now: number): void;
  /** The same for all running requests of a job: those of a process that died. */
  loseRunning(jobId: Hex, now: number): void;
  /** Its node did not run it: nothing is reserved for it any more. */
  refuse(requestId: Hex, now: number): void;
  noteEvidence(requestId: Hex, evidence: object): void;
  find(requestId: Hex): LedgerRequest | undefined;
  /** The newest request of a key that may have been run. */
  findByKey(idempotencyKey: string): LedgerRequest | undefined;
  lostOf(jobId: Hex): LedgerRequest[];
  /** What the requests of a job whose end is not known yet can cost at most; `but` is left out. In millionths. */
  openCostOf(jobId: Hex, but?: Hex): bigint;
  /** How many requests of a job there were, and how many run. */
  countOf(jobId: Hex): { requests: number; running: number };
};

type Row = Record<string, SQLOutputValue>;

/** The requests of a store that was opened with `REQUESTER_MIGRATIONS`. */
export function openRequestLedger(store: Store): RequestLedger {
  const sql = prepareStatements(store);
  const find = (requestId: Hex) => readFirst(sql.find.all(requestId) as Row[]);

  /** Moves a request to another state, and what is reserved for it with it. */
  const move = (requestId: Hex, to: RequestState, work: (request: LedgerRequest) => void) =>
    store.transact(() => {
      const request = find(requestId);
      if (!request || request.state === "ended" || request.state === to) return;
      if (request.state === "lost") sql.addLost.run(-request.allowed, request.jobId);
      if (to === "lost") sql.addLost.run(request.allowed, request.jobId);
      work(request);
    });

  return {
    find,
    start: (request) =>
      store.transact(() => {
        const known = find(request.requestId);
        if (known?.state === "ended") throw new Error(`the request ${request.requestId} has ended`);
        if (known)
          move(request.requestId, "running", () => sql.setState.run("running", null, request.requestId));
        else sql.start.run({ ...request });
        sql.useJob.run(request.createdAt, request.jobId);
      }),
    allow: (requestId, allowed) => void sql.allow.run(allowed, requestId, allowed),
    end: (requestId, delivery, now) =>
      move(requestId, "ended", ({ jobId }) => {
        const { promptTokens, completionTokens, estimated, cost } = delivery;
        const counts = { promptTokens, completionTokens, estimated: estimated ? 1 : 0 };
        sql.end.run({ ...counts, cost, delivery: toJson(delivery), now, requestId });
        sql.settle.run(cost, now, jobId);
      }),
    lose: (requestId, now) => move(requestId, "lost", () => sql.setState.run("lost", now, requestId)),
    loseRunning: (jobId, now) =>
      store.transact(() => {
        for (const { request_id } of sql.running.all(jobId) as Row[])
          move(request_id as Hex, "lost", () => sql.setState.run("lost", now, request_id as Hex));
      }),
    refuse: (requestId, now) => move(requestId, "refused", () => sql.setState.run("refused", now, requestId)),
    noteEvidence: (requestId, evidence) => void sql.noteEvidence.run(toJson(evidence), requestId),
    findByKey: (key) => readFirst(sql.findByKey.all(key) as Row[]),
    lostOf: (jobId) => (sql.lost.all(jobId) as Row[]).map(readRequest),
    openCostOf: (jobId, but = ZERO_WORD) => (sql.openCost.get(jobId, but) as Row).cost as bigint,
    countOf(jobId) {
      const { requests, running } = sql.count.get(jobId) as Row;
      return { requests: Number(requests), running: Number(running) };
    },
  };
}

function prepareStatements({ db }: Store) {
  const prepare = (text: string) => {
    const statement = db.prepare(text);
    statement.setReadBigInts(true);
    return statement;
  };
  return {
    find: prepare("SELECT * FROM requests WHERE request_id = ?"),
    openCost: prepare(
      "SELECT coalesce(sum(can_cost), 0) AS cost FROM requests WHERE job_id = ? AND state IN ('running', 'lost') AND request_id <> ?",
    ),
    findByKey: prepare(
      "SELECT * FROM requests WHERE idempotency_key = ? AND state <> 'refused' ORDER BY created_at DESC, rowid DESC LIMIT 1",
    ),
    running: prepare("SELECT request_id FROM requests WHERE job_id = ? AND state = 'running'"),
    lost: prepare("SELECT * FROM requests WHERE job_id = ? AND state = 'lost' ORDER BY created_at"),
    count: prepare(
      "SELECT count(*) AS requests, coalesce(sum(state = 'running'), 0) AS running FROM requests WHERE job_id = ?",
    ),
    start: prepare(`INSERT INTO requests
      (request_id, job_id, idempotency_key, body_hash, node, model, path, day, created_at, state, prompt_bound,
       token_limit, can_cost)
      VALUES (:requestId, :jobId, :idempotencyKey, :bodyHash, :node, :model, :path, :day, :createdAt, 'running',
       :promptBound, :tokenLimit, :canCost)`),
    allow: prepare("UPDATE requests SET allowed = ? WHERE request_id = ? AND allowed < ?"),
    setState: prepare("UPDATE requests SET state = ?, ended_at = ? WHERE request_id = ?"),
    end: prepare(`UPDATE requests SET state = 'ended', prompt_tokens = :promptTokens, ended_at = :now,
      completion_tokens = :completionTokens, estimated = :estimated, cost = :cost, delivery = :delivery
      WHERE request_id = :requestId`),
    settle: prepare("UPDATE jobs SET settled = settled + ?, used_at = ? WHERE job_id = ?"),
    useJob: prepare("UPDATE jobs SET used_at = ? WHERE job_id = ?"),
    addLost: prepare("UPDATE jobs SET lost = lost + ? WHERE job_id = ?"),
    noteEvidence: prepare("UPDATE requests SET evidence = coalesce(evidence, ?) WHERE request_id = ?"),
  };
}

function readFirst([row]: Row[]): LedgerRequest | undefined {
  return row && readRequest(row);
}

function readRequest(row: Row): LedgerRequest {
  const count = (name: string) => (row[name] === null ? null : Number(row[name]));
  return {
    requestId: row.request_id as Hex,
    jobId: row.job_id as Hex,
    idempotencyKey: row.idempotency_key as string | null,
    bodyHash: row.body_hash as Hex,
    node: row.node as Address,
    model: row.model as string,
    path: row.path as ModelPath,
    day: Number(row.day),
    createdAt: Number(row.created_at),
    endedAt: count("ended_at"),
    state: row.state as RequestState,
    promptBound: Number(row.prompt_bound),
    tokenLimit: Number(row.token_limit),
    canCost: row.can_cost as bigint,
    allowed: row.allowed as bigint,
    promptTokens: count("prompt_tokens"),
    completionTokens: count("completion_tokens"),
    estimated: row.estimated === null ? null : row.estimated === 1n,
    cost: row.cost as bigint | null,
    delivery:
      row.delivery === null
        ? null
        : parseJsonWith(signedDeliverySchema, row.delivery as string, "store-unusable", "a kept delivery"),
    evidence: row.evidence as string | null,
  };
}
