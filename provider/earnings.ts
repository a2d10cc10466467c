// Owns what a provider's ledger says of money: what it charged, by day and by model, and what is still to be settled.
import type { Address } from "../protocol/bytes.ts";
import { costMillionths } from "../protocol/price.ts";
import type { Store } from "../runtime/store.ts";
import { type Row, readingBigInts } from "./ledger-rows.ts";
import { SettlementLedger, type Totals } from "./settlement-ledger.ts";

/** Requests that ended, and the tokens that they were charged for. */
export type ServedTokens = { requests: number; promptTokens: number; completionTokens: number };

/** `cost` is exact, in millionths of a base unit: each job's sum of them is rounded up once. */
export type Served = ServedTokens & { cost: bigint };

/** One UTC day: what was served, claimed at finality and paid out by transactions of that day, in base units. */
export type EarnedDay = Served & { day: string; settled: bigint; paidOut: bigint };

/** Amounts in USDC base units. `unsettled` is what receipts cover of charges and is not claimed. */
export type Earnings = Totals & {
  unsettled: bigint;
  payees: Address[];
  days: EarnedDay[];
  models: (Served & { model: string })[];
};

const NOTHING: Served = { requests: 0, promptTokens: 0, completionTokens: 0, cost: 0n };

/** Reads a store of PROVIDER_MIGRATIONS, also beside the worker that writes it. Days and models are in order. */
export function readEarnings(store: Store): Earnings {
  const ledger = new SettlementLedger(store);
  const read = (text: string) => readingBigInts(store.db.prepare(text)).all() as Row[];
  const days = new Map<string, EarnedDay>();
  const models = new Map<string, Served & { model: string }>();
  const dayOf = (day: string) => days.get(day) ?? { ...NOTHING, day, settled: 0n, paidOut: 0n };
  for (const row of read(SERVED)) {
    const [day, model] = [row.day as string, row.model as string];
    const served = servedOfRow(row);
    days.set(day, add(dayOf(day), served));
    models.set(model, add(models.get(model) ?? { ...NOTHING, model }, served));
  }
  for (const row of read(SETTLED)) {
    const day = row.day as string;
    days.set(day, { ...dayOf(day), settled: row.amount as bigint });
  }
  for (const row of read(PAID_OUT)) {
    const day = row.day as string;
    days.set(day, { ...dayOf(day), paidOut: row.amount as bigint });
  }
  return {
    ...ledger.totals(),
    unsettled: read(UNSETTLED)[0]!.amount as bigint,
    payees: ledger.payees(),
    days: [...days.values()].sort((one, other) => (one.day < other.day ? -1 : 1)),
    models: [...models.values()].sort((one, other) => (one.model < other.model ? -1 : 1)),
  };
}

/** What requests that ended from this second on were charged for. */
export function servedSince(store: Store, seconds: number): ServedTokens {
  const row = store.db.prepare(SERVED_SINCE).get(seconds) as Record<string, number>;
  return {
    requests: row.requests!,
    promptTokens: row.prompt_tokens!,
    completionTokens: row.completion_tokens!,
  };
}

function servedOfRow(row: Row): Served {
  const [promptTokens, completionTokens] = [Number(row.prompt_tokens), Number(row.completion_tokens)];
  const prices = { inputPrice: row.input_price as bigint, outputPrice: row.output_price as bigint };
  const cost = costMillionths({ promptTokens, completionTokens }, prices);
  return { requests: Number(row.requests), promptTokens, completionTokens, cost };
}

function add<Sum extends Served>(sum: Sum, served: Served): Sum {
  return {
    ...sum,
    requests: sum.requests + served.requests,
    promptTokens: sum.promptTokens + served.promptTokens,
    completionTokens: sum.completionTokens + served.completionTokens,
    cost: sum.cost + served.cost,
  };
}

// Prices are multiplied outside of SQL, whose products are no longer exact beyond 63 bits.
const SERVED = `
  SELECT date(ended_at, 'unixepoch') AS day, model, input_price, output_price, COUNT(*) AS requests,
    SUM(prompt_tokens) AS prompt_tokens, SUM(completion_tokens) AS completion_tokens
  FROM requests WHERE status = 'ended' GROUP BY 1, 2, 3, 4`;

const SERVED_SINCE = `
  SELECT COUNT(*) AS requests, COALESCE(SUM(prompt_tokens), 0) AS prompt_tokens,
    COALESCE(SUM(completion_tokens), 0) AS completion_tokens
  FROM requests WHERE status = 'ended' AND ended_at >= ? AND prompt_tokens + completion_tokens > 0`;

const SETTLED = `
  SELECT date(signed_at, 'unixepoch') AS day, SUM(gained) AS amount
  FROM transaction_jobs JOIN transactions USING (tx) WHERE gained > 0 GROUP BY 1`;

const PAID_OUT = `
  SELECT date(signed_at, 'unixepoch') AS day, SUM(amount) AS amount FROM transactions
  WHERE kind = 'payOut' AND state IN ('mined', 'final') GROUP BY 1`;

const UNSETTLED = `
  SELECT COALESCE(SUM(MAX(0, MIN(charge, COALESCE(receipt_amount, 0), deposit) - claimed)), 0) AS amount FROM jobs
  WHERE state IN ('seen', 'funded', 'settling') AND undone = 0`;
