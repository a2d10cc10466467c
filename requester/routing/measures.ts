// Owns what was measured of nodes: a cache over restarts that decides who is asked first, and never about money.
import type { Address } from "../../protocol/bytes.ts";
import type { ErrorCode, InfernetError } from "../../protocol/errors.ts";
import type { Clock } from "../../runtime/clock.ts";
import type { Store } from "../../runtime/store.ts";
import type { RouteRow } from "./buyer.ts";

/** The cache's table, one of the requester's store. */
export const MEASURES_MIGRATION = `
  CREATE TABLE measures (
    node TEXT NOT NULL,
    model TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (node, model)
  ) STRICT, WITHOUT ROWID;
`;

/** What one answer showed; null where it was too short to tell. */
export type Sample = { firstTokenMs: number | null; tokensPerSecond: number | null };

/** A row of the table, without what the ledger knows of the node. */
export type Measure = Omit<RouteRow, "dropped">;

export type Measures = {
  noteServed(node: Address, model: string, sample: Sample): void;
  /** Counts a failure and lets the node, or its model alone, cool down. */
  noteFailed(node: Address, model: string, error: InfernetError): void;
  /** A measure with whatever holds for the whole node. */
  of(node: Address, model: string): Measure;
  rows(): Measure[];
};

type Kept = Omit<Measure, "node" | "model"> & {
  /** Failures since the last success. */
  failures: number;
};

/** How much the newest answer weighs in its averages. */
const SAMPLE_WEIGHT = 0.3;
const ERROR_WEIGHT = 0.2;
const ERRORS_KEPT = 3;
const LONGEST_MESSAGE = 200;
const FIRST_COOL_SECONDS = 5;
const LONGEST_COOL_SECONDS = 600;
const BUSY_SECONDS = 1;
const LONGEST_BUSY_SECONDS = 60;
/** The entry that holds for all models of a node: no model has an empty name. */
const WHOLE_NODE = "";
/** Errors that one model alone has; all others speak of the node. */
const OF_ONE_MODEL: readonly ErrorCode[] = [
  "upstream-failed",
  "upstream-unreachable",
  "upstream-timeout",
  "model-not-found",
  "model-not-offered",
];
/** A node that says how much it can take is not a failing one. */
const BUSY: readonly ErrorCode[] = ["node-busy", "rate-limited"];

const UNKNOWN: Kept = {
  requests: 0,
  firstTokenMs: null,
  tokensPerSecond: null,
  errorRate: 0,
  lastErrors: [],
  coolUntil: null,
  coolReason: null,
  failures: 0,
};

/** The table in a store that was opened with `MEASURES_MIGRATION`; what cannot be written is only forgotten. */
export function openMeasures({ store, clock }: { store: Store; clock: Clock }): Measures {
  const write = store.db.prepare("INSERT OR REPLACE INTO measures (node, model, body) VALUES (?, ?, ?)");
  const kept = readKept(store);

  const get = (node: Address, model: string): Kept => kept.get(node)?.get(model) ?? UNKNOWN;
  const put = (node: Address, model: string, value: Kept) => {
    const models = kept.get(node) ?? new Map<string, Kept>();
    kept.set(node, models.set(model, value));
    store.commitSoon(() => write.run(node, model, JSON.stringify(value))).catch(() => {});
  };
  const measureOf = (node: Address, model: string): Measure => {
    const { failures: _failures, ...own } = get(node, model);
    const whole = get(node, WHOLE_NODE);
    const cooler = (whole.coolUntil ?? 0) > (own.coolUntil ?? 0) ? whole : own;
    const isCooling = (cooler.coolUntil ?? 0) > clock.nowSeconds();
    const { coolUntil, coolReason } = isCooling ? cooler : UNKNOWN;
    return { ...own, node, model, coolUntil, coolReason };
  };

  return {
    of: measureOf,
    noteServed(node, model, { firstTokenMs, tokensPerSecond }) {
      const before = get(node, model);
      put(node, model, {
        ...before,
        requests: before.requests + 1,
        firstTokenMs: averageOf(before.firstTokenMs, firstTokenMs),
        tokensPerSecond: averageOf(before.tokensPerSecond, tokensPerSecond),
        errorRate: before.errorRate * (1 - ERROR_WEIGHT),
        ...{ coolUntil: null, coolReason: null, failures: 0 },
      });
      if (get(node, WHOLE_NODE).failures > 0) put(node, WHOLE_NODE, UNKNOWN);
    },
    noteFailed(node, model, error) {
      const before = get(node, model);
      const now = clock.nowSeconds();
      const { code } = error;
      const isBusy = BUSY.includes(code);
      const told = { at: now, code, message: error.message.slice(0, LONGEST_MESSAGE) };
      const errorRate = before.errorRate * (1 - ERROR_WEIGHT) + ERROR_WEIGHT;
      put(node, model, {
        ...before,
        requests: before.requests + 1,
        errorRate: isBusy ? before.errorRate : errorRate,
        lastErrors: [told, ...before.lastErrors].slice(0, ERRORS_KEPT),
      });
      const place = OF_ONE_MODEL.includes(code) ? model : WHOLE_NODE;
      const cooled = get(node, place);
      const failures = cooled.failures + (isBusy ? 0 : 1);
      const seconds = isBusy ? busySeconds(error) : coolSeconds(failures);
      const isLonger = now + seconds >= (cooled.coolUntil ?? 0);
      const cooling = isLonger ? { coolUntil: now + seconds, coolReason: code } : {};
      put(node, place, { ...cooled, failures, ...cooling });
    },
    rows: () =>
      [...kept].flatMap(([node, models]) =>
        [...models.keys()].filter((model) => model !== WHOLE_NODE).map((model) => measureOf(node, model)),
      ),
  };
}

function readKept({ db }: Store): Map<Address, Map<string, Kept>> {
  const kept = new Map<Address, Map<string, Kept>>();
  const rows = db.prepare("SELECT node, model, body FROM measures").all();
  for (const { node, model, body } of rows as { node: Address; model: string; body: string }[]) {
    const models = kept.get(node) ?? new Map<string, Kept>();
    kept.set(node, models.set(model, { ...UNKNOWN, ...JSON.parse(body) }));
  }
  return kept;
}

function averageOf(before: number | null, sample: number | null): number | null {
  if (before === null || sample === null) return sample ?? before;
  return before + SAMPLE_WEIGHT * (sample - before);
}

/** Twice as long with each failure in a row, up to ten minutes. */
function coolSeconds(failures: number): number {
  return Math.min(FIRST_COOL_SECONDS * 2 ** (failures - 1), LONGEST_COOL_SECONDS);
}

function busySeconds({ data }: InfernetError): number {
  const told = Number(data.retryAfter ?? BUSY_SECONDS);
  return Math.min(Math.max(Number.isFinite(told) ? told : 0, BUSY_SECONDS), LONGEST_BUSY_SECONDS);
}
