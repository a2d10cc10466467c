// Owns what the provider broadcasts for others: each transaction before it leaves, and what came with a relayed opening.
import type { SignedTransaction } from "../chain/sender.ts";
import type { Hex } from "../protocol/bytes.ts";
import type { JobTerms } from "../protocol/job.ts";
import type { Receipt } from "../protocol/receipt.ts";
import type { Store } from "../runtime/store.ts";

export type RelayKind = "open" | "deposit" | "withdraw" | "refund";

/** What is done at most once: the job of an opening or refund, the digest of a deposit or withdrawal. */
export type RelaySubject = { kind: RelayKind; subject: Hex };

/** What a requester gave to an opening beside its consent: kept until the job is seen on the chain. */
export type OpeningTerms = { terms: JobTerms; receipt: Receipt; openingFee: bigint };

/** `signed`: persisted, perhaps broadcast, and not known to be mined. */
export type PendingRelay = RelaySubject & { tx: SignedTransaction };

type Row = { tx: Hex; raw: Hex; nonce: number; kind: RelayKind; subject: Hex };

/** The ledger's record of relays. Each method is one durable transaction. */
export class RelayLedger {
  readonly #store: Store;
  readonly #sql: ReturnType<typeof prepareStatements>;

  constructor(store: Store) {
    this.#store = store;
    this.#sql = prepareStatements(store);
  }

  /** Before its broadcast: the transaction, and for an opening what came with it. The highest receipt is kept. */
  recordSigned(
    { hash, raw, nonce }: SignedTransaction,
    { kind, subject }: RelaySubject,
    now: number,
    opening?: OpeningTerms,
  ): void {
    this.#store.transact(() => {
      this.#sql.sign.run(hash, raw, nonce, kind, subject, now);
      if (!opening) return;
      const { terms, receipt, openingFee } = opening;
      const { amount, transcript, signature } = receipt;
      this.#sql.keepOpening.run({ jobId: subject, openingFee, ...terms, amount, transcript, signature });
    });
  }

  recordMined(tx: Hex): void {
    this.#store.transact(() => this.#sql.setState.run("mined", tx));
  }

  /** A transaction that reverted, or never will be mined. */
  recordFailed(tx: Hex): void {
    this.#store.transact(() => this.#sql.setState.run("failed", tx));
  }

  /** What is signed and not known to be mined, in order of nonces. */
  pending(): PendingRelay[] {
    return (this.#sql.pending.all() as Row[]).map(({ tx: hash, raw, nonce, kind, subject }) => ({
      ...{ kind, subject },
      tx: { hash, raw, nonce },
    }));
  }

  /** The transaction of ours that did this, as far as is known. */
  findMined({ kind, subject }: RelaySubject): Hex | undefined {
    return (this.#sql.mined.get(kind, subject) as { tx: Hex } | undefined)?.tx;
  }
}

function prepareStatements({ db }: Store) {
  return {
    sign: db.prepare(
      "INSERT INTO relays (tx, raw, nonce, kind, subject, state, signed_at) VALUES (?, ?, ?, ?, ?, 'signed', ?)",
    ),
    keepOpening: db.prepare(`
      INSERT INTO relayed_openings (job_id, opening_fee, salt, offer_hash, request_hash, receipt_amount,
        receipt_transcript, receipt_signature)
      VALUES ($jobId, $openingFee, $salt, $offerHash, $requestHash, $amount, $transcript, $signature)
      ON CONFLICT (job_id) DO UPDATE SET receipt_amount = $amount, receipt_transcript = $transcript,
        receipt_signature = $signature
      WHERE receipt_amount < $amount`),
    setState: db.prepare("UPDATE relays SET state = ? WHERE tx = ? AND state = 'signed'"),
    pending: db.prepare(
      "SELECT tx, raw, nonce, kind, subject FROM relays WHERE state = 'signed' ORDER BY nonce",
    ),
    mined: db.prepare("SELECT tx FROM relays WHERE kind = ? AND subject = ? AND state = 'mined'"),
  };
}
