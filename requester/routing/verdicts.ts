// Owns which nodes are dropped: those that the ledger holds evidence of lying against, until the user forgives them.
import type { SQLOutputValue } from "node:sqlite";
import type { Address } from "../../protocol/bytes.ts";
import type { Store } from "../../runtime/store.ts";

/** What is forgiven, in the requester's store: as much evidence as there was at that time, so that a new lie counts. */
export const VERDICTS_MIGRATION = `
  CREATE TABLE forgiven (
    node TEXT PRIMARY KEY,
    accusations INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX accused_nodes ON jobs (node) WHERE evidence IS NOT NULL;
`;

export type Verdict = { node: Address; reason: string };

export type Verdicts = {
  /** What shows that a node lied; undefined for one that did not, or is forgiven. */
  on(node: Address): string | undefined;
  all(): Verdict[];
  /** Lets a node be asked again; says whether it was dropped. */
  forgive(node: Address): boolean;
};

const ACCUSED = `
  SELECT jobs.node AS node, count(*) AS accusations, max(evidence) AS evidence FROM jobs
  LEFT JOIN forgiven ON forgiven.node = jobs.node
  WHERE evidence IS NOT NULL AND (?1 IS NULL OR jobs.node = ?1)
  GROUP BY jobs.node HAVING count(*) > coalesce(max(forgiven.accusations), 0)`;

/** The verdicts of a store that was opened with `REQUESTER_MIGRATIONS`. */
export function openVerdicts(store: Store): Verdicts {
  const accused = store.db.prepare(ACCUSED);
  const forgive = store.db.prepare("INSERT OR REPLACE INTO forgiven (node, accusations) VALUES (?, ?)");
  const find = (node: Address | null) => accused.all(node) as Record<string, SQLOutputValue>[];
  return {
    on: (node) => find(node).map(reasonOf)[0],
    all: () => find(null).map((row) => ({ node: row.node as Address, reason: reasonOf(row) })),
    forgive: (node) =>
      store.transact(() => {
        const [row] = find(node);
        if (row) forgive.run(node, row.accusations!);
        return row !== undefined;
      }),
  };
}

function reasonOf({ evidence }: Record<string, SQLOutputValue>): string {
  const { reason } = JSON.parse(String(evidence)) as { reason?: unknown };
  return typeof reason === "string" ? reason : "the ledger holds evidence against it";
}
