// Owns what requests have cost, read from the ledger: single ones, and sums that equal it to the millionth of a base unit.
import type { SQLOutputValue } from "node:sqlite";
import type { Address, Hex } from "../protocol/bytes.ts";
import type { Store } from "../runtime/store.ts";
import type { RequestState } from "./request-ledger.ts";

/** What is looked at; what is left out is free. Times in Unix seconds: from `since` on, before `until`. */
export type SpendingFilter = {
  since?: number | undefined;
  until?: number | undefined;
  node?: Address | undefined;
  model?: string | undefined;
  job?: Hex | undefined;
};

/** Costs in millionths of a USDC base unit. */
type Costs = {
  /** By judged deliveries. */
  cost: bigint;
  /** Signed for requests whose end is not known: the most that they can still cost. */
  pending: bigint;
};

export type SpentRequest = Costs & {
  requestId: Hex;
  jobId: Hex;
  node: Address;
  model: string;
  createdAt: number;
  state: RequestState;
  promptTokens: number;
  completionTokens: number;
  estimated: boolean;
};

export type SpendingSum = Costs & { requests: number; promptTokens: number; completionTokens: number };

export type Spending = {
  /** Oldest first. */
  requests: SpentRequest[];
  total: SpendingSum;
  /** By UTC day as YYYY-MM-DD, by node, by model. */
  days: Map<string, SpendingSum>;
  nodes: Map<string, SpendingSum>;
  models: Map<string, SpendingSum>;
  /** What nodes took for opening jobs, in base units: of these jobs, whatever they were opened for. */
  openingFees: bigint;
};

const WANTED = `(:since IS NULL OR created_at >= :since) AND (:until IS NULL OR created_at < :until)
  AND (:node IS NULL OR node = :node) AND (:model IS NULL OR model = :model) AND (:job IS NULL OR job_id = :job)`;
const REQUESTS = `SELECT * FROM requests WHERE ${WANTED} ORDER BY created_at, rowid`;
const FEES = `SELECT coalesce(sum(opening_fee), 0) AS fees FROM jobs
  WHERE phase NOT IN ('planned', 'opening', 'dropped') AND ${WANTED}`;
const NOTHING: SpendingSum = { requests: 0, promptTokens: 0, completionTokens: 0, cost: 0n, pending: 0n };

/** Reads a store that was opened with `REQUESTER_MIGRATIONS`. */
export function readSpending({ db }: Pick<Store, "db">, filter: SpendingFilter = {}): Spending {
  const { since = null, until = null, node = null, model = null, job = null } = filter;
  const rowsOf = (text: string) => {
    const statement = db.prepare(text);
    statement.setReadBigInts(true);
    return statement.all({ since, until, node, model, job }) as Record<string, SQLOutputValue>[];
  };
  const requests = rowsOf(REQUESTS).map(readRequest);
  return {
    requests,
    total: requests.reduce(add, NOTHING),
    days: sumBy(requests, ({ createdAt }) => new Date(createdAt * 1000).toISOString().slice(0, 10)),
    nodes: sumBy(requests, (request) => request.node),
    models: sumBy(requests, (request) => request.model),
    openingFees: rowsOf(FEES)[0]!.fees as bigint,
  };
}

function sumBy(requests: readonly SpentRequest[], keyOf: (request: SpentRequest) => string) {
  const sums = new Map<string, SpendingSum>();
  for (const request of requests) {
    const key = keyOf(request);
    sums.set(key, add(sums.get(key) ?? NOTHING, request));
  }
  return sums;
}

function add(sum: SpendingSum, request: SpentRequest): SpendingSum {
  return {
    requests: sum.requests + 1,
    promptTokens: sum.promptTokens + request.promptTokens,
    completionTokens: sum.completionTokens + request.completionTokens,
    cost: sum.cost + request.cost,
    pending: sum.pending + request.pending,
  };
}

function readRequest(row: Record<string, SQLOutputValue>): SpentRequest {
  const state = row.state as RequestState;
  return {
    requestId: row.request_id as Hex,
    jobId: row.job_id as Hex,
    node: row.node as Address,
    model: row.model as string,
    createdAt: Number(row.created_at),
    state,
    promptTokens: Number(row.prompt_tokens ?? 0n),
    completionTokens: Number(row.completion_tokens ?? 0n),
    estimated: row.estimated === 1n,
    cost: (row.cost as bigint | null) ?? 0n,
    pending: state === "running" || state === "lost" ? (row.allowed as bigint) : 0n,
  };
}
