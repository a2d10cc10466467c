// Owns how the ledger's rows read as values: jobs and requests, and the sums over them that are money.
import type { SQLOutputValue, StatementSync } from "node:sqlite";
import type { Hex } from "../protocol/bytes.ts";
import { type SignedDelivery, signedDeliverySchema } from "../protocol/delivery.ts";
import type { OpenedJob } from "../protocol/funding.ts";
import { chargeablePromptTokens, costMillionths, type Prices, type TokenCounts } from "../protocol/price.ts";
import type { Receipt } from "../protocol/receipt.ts";
import type { ModelPath } from "../protocol/wire.ts";

/**
 * `seen`: its Opened event is known. `funded`: confirmed, may run requests. `refused`: to be refunded. `settling`: over,
 * to be settled or refunded. `closed`: closed on the chain, at finality.
 */
export type JobPhase = "seen" | "funded" | "refused" | "settling" | "closed";

/**
 * A job as the provider knows it. `claimed` is what it earned at finality; `undone` says that a reorg took its opening
 * away; `closeAsked` that its requester wants the rest back.
 */
export type LedgerJob = OpenedJob & {
  openedBlock: number;
  confirmedAtBlock: number | null;
  undone: boolean;
  openingFee: bigint;
  salt: Hex | null;
  offerHash: Hex | null;
  requestHash: Hex | null;
  state: JobPhase;
  receipt: Receipt | null;
  claimed: bigint;
  /** Local time at which it stopped serving. */
  overSince: number | null;
  closeAsked: boolean;
} & JobSums;

/** Sums over a job's requests. Amounts in base units, costs exact in millionths of one. */
export type JobSums = {
  /** What it is charged so far, running requests included: openingFee + their exact cost, rounded up once. */
  charge: bigint;
  /** The same of the requests that have ended: this part never falls. */
  endedCharge: bigint;
  endedCost: bigint;
  runningCost: bigint;
  /** What its running requests may still spend. */
  reserved: bigint;
  running: number;
};

/** A request of a job. `counts` are what is charged so far; `reserved` is what its next tokens may cost. */
export type LedgerRequest = {
  requestId: Hex;
  jobId: Hex;
  /** Of the request's own bytes, in sessions too. */
  requestHash: Hex;
  model: string;
  modelDigest: Hex;
  path: ModelPath;
  prices: Prices;
  promptTextBytes: number;
  status: "running" | "ended";
  reserved: bigint;
  counts: TokenCounts;
  estimated: boolean;
  lastEventId: number;
  transcript: Hex;
  delivery: SignedDelivery | null;
};

export type Row = Record<string, SQLOutputValue>;

/** A statement whose integers read as bigints: amounts may be larger than a double holds exactly. */
export function readingBigInts(statement: StatementSync): StatementSync {
  statement.setReadBigInts(true);
  return statement;
}

const hex = (value: unknown) => value as Hex;
const hexOrNull = (value: unknown) => value as Hex | null;
const numberOrNull = (value: unknown) => (value === null ? null : Number(value));

export function jobOfRow(row: Row): LedgerJob {
  const jobId = hex(row.job_id);
  return {
    jobId,
    job: {
      requester: hex(row.requester),
      signer: hex(row.signer),
      node: hex(row.node),
      payee: hex(row.payee),
      jobHash: hex(row.job_hash),
      deadline: Number(row.deadline),
    },
    deposit: row.deposit as bigint,
    openedAt: Number(row.opened_at),
    openedBlock: Number(row.opened_block),
    registeredPayee: hex(row.registered_payee),
    confirmedAtBlock: numberOrNull(row.confirmed_block),
    undone: row.undone === 1n,
    openingFee: row.opening_fee as bigint,
    salt: hexOrNull(row.salt),
    offerHash: hexOrNull(row.offer_hash),
    requestHash: hexOrNull(row.request_hash),
    state: row.state as JobPhase,
    receipt:
      row.receipt_amount === null
        ? null
        : {
            jobId,
            amount: row.receipt_amount as bigint,
            transcript: hex(row.receipt_transcript),
            signature: hex(row.receipt_signature),
          },
    claimed: row.claimed as bigint,
    overSince: numberOrNull(row.over_since),
    closeAsked: row.close_asked === 1n,
    charge: row.charge as bigint,
    endedCharge: row.ended_charge as bigint,
    endedCost: millionthsOfSums(row.ended_units, row.ended_millionths),
    runningCost: millionthsOfSums(row.running_units, row.running_millionths),
    reserved: row.running_reserved as bigint,
    running: Number(row.running_requests),
  };
}

function millionthsOfSums(units: unknown, millionths: unknown): bigint {
  return (units as bigint) * 1_000_000n + (millionths as bigint);
}

export function requestOfRow(row: Row): LedgerRequest {
  return {
    requestId: hex(row.request_id),
    jobId: hex(row.job_id),
    requestHash: hex(row.request_hash),
    model: row.model as string,
    modelDigest: hex(row.model_digest),
    path: row.path as ModelPath,
    prices: { inputPrice: row.input_price as bigint, outputPrice: row.output_price as bigint },
    promptTextBytes: Number(row.prompt_text_bytes),
    status: row.status as LedgerRequest["status"],
    reserved: row.reserved as bigint,
    counts: { promptTokens: Number(row.prompt_tokens), completionTokens: Number(row.completion_tokens) },
    estimated: row.estimated === 1n,
    lastEventId: Number(row.last_event_id),
    transcript: hex(row.transcript),
    delivery: row.delivery === null ? null : signedDeliverySchema.parse(JSON.parse(row.delivery as string)),
  };
}

/**
 * What a request is charged when it ends without the upstream's usage: the released completion tokens, and the
 * upstream's count of the prompt if it told one, else floor(bytes / 4) capped by what is signed for. Nothing released
 * is nothing charged. `coverage` is what the job's receipt leaves to this request, in millionths of a base unit.
 */
export function countsWithoutUsage(request: LedgerRequest, coverage: bigint): TokenCounts {
  const { counts, prices, promptTextBytes } = request;
  if (request.lastEventId === 0) return { promptTokens: 0, completionTokens: 0 };
  if (counts.promptTokens > 0) return counts;
  const promptTokens = chargeablePromptTokens(promptTextBytes);
  if (prices.inputPrice === 0n) return { ...counts, promptTokens };
  const left = coverage - costMillionths(counts, prices);
  const paidFor = left > 0n ? left / prices.inputPrice : 0n;
  return { ...counts, promptTokens: paidFor < BigInt(promptTokens) ? Number(paidFor) : promptTokens };
}
