// Owns going to the chain for what jobs earned: settles, refunds and pays out, and knows after any crash where it stood.
import type { Block, Call, Chain } from "../chain/chain.ts";
import type { Sender, SignedTransaction, TransactionOutcome } from "../chain/sender.ts";
import type { Address, Hex } from "../protocol/bytes.ts";
import { InfernetError } from "../protocol/errors.ts";
import type { Clock } from "../runtime/clock.ts";
import { findTaggedBlock } from "./block-depth.ts";
import type { SettlementRule } from "./config.ts";
import { type EventHub, errorEvent } from "./events.ts";
import type { JobLedger } from "./job-ledger.ts";
import type { LedgerJob } from "./ledger-rows.ts";
import type { OpeningLedger } from "./opening-ledger.ts";
import type { Intent, PendingTransaction, SettlementLedger } from "./settlement-ledger.ts";
import { type Claim, claimableOf, isPayOutWorth, planSettlements } from "./settlement-policy.ts";

/** A job whose transaction the chain refused is left alone this long. */
const RETRY_SECONDS = 60;
const NEVER: Block = { number: -1, hash: "0x", timestamp: 0 };

export type SettlementDependencies = {
  chain: Chain;
  sender: Sender;
  ledger: JobLedger;
  openings: OpeningLedger;
  settlements: SettlementLedger;
  rule: SettlementRule;
  clock: Clock;
  events: EventHub;
};

/** All of its work runs one after the other, so that no two transactions are about the same job. */
export class Settlement {
  readonly #deps: SettlementDependencies;
  #tail: Promise<unknown> = Promise.resolve();
  #nextLook: Promise<void> | undefined;
  #timer: NodeJS.Timeout | undefined;
  #stopped = false;
  #draining = false;
  /** Payees whose earnings may have changed since they were last read. */
  #unreadPayees: Set<Address>;
  readonly #earned = new Map<Address, bigint>();

  constructor(deps: SettlementDependencies) {
    this.#deps = deps;
    this.#unreadPayees = new Set(deps.settlements.payees());
  }

  /** USDC base units that stand in the Escrow for our payees, as last read. */
  get earnedOnChain(): bigint {
    return [...this.#earned.values()].reduce((sum, earned) => sum + earned, 0n);
  }

  /**
   * Looks at all jobs that are over and does what pays now; calls during a look share the next one. Never throws: what
   * fails is told as an event, and tried again at a later look.
   */
  review(): Promise<void> {
    if (this.#stopped) return Promise.resolve();
    this.#nextLook ??= this.#enqueue(async () => {
      this.#nextLook = undefined;
      await this.#look();
    }).catch((error: unknown) => this.#deps.events.emit(errorEvent(error, null)));
    return this.#nextLook;
  }

  /**
   * Ends one job and closes it, whether that pays or not: what it may claim is settled, the rest goes back. Undefined
   * when nothing is left to send: it is closed, or its closing is on its way. Throws `request-in-progress`.
   */
  closeNow(jobId: Hex): Promise<TransactionOutcome | undefined> {
    return this.#enqueue(async () => {
      this.#deps.ledger.finishJob(jobId);
      const due = this.#deps.settlements.dueJobs(Number.MAX_SAFE_INTEGER).find((job) => job.jobId === jobId);
      if (!due) return undefined;
      const amount = claimableOf(due);
      return amount > 0n ? await this.#settle([{ job: due, amount }]) : await this.#refund(due);
    });
  }

  /** The last look before a stop: waits for no more receipts, and pays out if the rule says so. */
  async drain(): Promise<void> {
    this.#draining = true;
    await this.review();
    this.stop();
    if (!this.#deps.rule.payOutAtStop) return;
    await this.#enqueue(() => this.#attempt(() => this.#payOut({ evenIfDear: true })));
  }

  /** Looks no more. */
  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
  }

  async #look(): Promise<void> {
    const { chain, ledger, openings, settlements, rule, clock } = this.#deps;
    await this.#resumeSigned();
    await this.#closeFinal();
    const { timestamp: blockTime } = await chain.getBlock("latest");
    for (const jobId of openings.idleJobsPastMargin(blockTime)) ledger.finishJob(jobId);
    const due = settlements.dueJobs(clock.nowSeconds());
    if (due.length > 0) {
      const gasPrice = await chain.getGasPrice();
      const now = this.#draining ? Number.MAX_SAFE_INTEGER : clock.nowSeconds();
      const plan = planSettlements(due, { rule, gasPrice, blockTime, now });
      if (plan.settle.length > 0) await this.#attempt(() => this.#settle(plan.settle));
      for (const job of plan.refund) await this.#attempt(() => this.#refund(job));
      if (settlements.dueJobs(clock.nowSeconds()).length > 0) this.#lookAgainLater();
    }
    await this.#payOut({ evenIfDear: false });
    await this.#closeFinal();
  }

  async #settle(claims: readonly Claim[]): Promise<TransactionOutcome> {
    const { calls } = this.#deps.chain;
    const items = claims.map(({ job, amount }) => ({ job: job.job, receipt: job.receipt!, amount }));
    const [only, ...others] = items;
    const call = others.length > 0 ? calls.settleBatch(items) : calls.settle(only!);
    const amount = claims.reduce((sum, claim) => sum + claim.amount, 0n);
    const outcome = await this.#send(call, {
      kind: "settle",
      amount,
      items: claims.map(({ job: { jobId }, amount }) => ({ jobId, amount })),
    });
    for (const { job } of claims) this.#unreadPayees.add(job.job.payee);
    return outcome;
  }

  #refund({ jobId, job }: LedgerJob): Promise<TransactionOutcome> {
    const items = [{ jobId, amount: 0n }];
    return this.#send(this.#deps.chain.calls.refund(job), { kind: "refund", amount: 0n, items });
  }

  async #payOut({ evenIfDear }: { evenIfDear: boolean }): Promise<void> {
    const { chain, settlements, rule } = this.#deps;
    if (settlements.pending().some(({ kind, state }) => kind === "payOut" && state === "signed")) return;
    for (const payee of evenIfDear ? settlements.payees() : this.#unreadPayees) {
      const earned = await chain.getEarned(payee);
      this.#earned.set(payee, earned);
      this.#unreadPayees.delete(payee);
      const worth = isPayOutWorth(earned, rule, await chain.getGasPrice());
      if (!worth && !(evenIfDear && earned > 0n)) continue;
      await this.#attempt(async () => {
        await this.#send(chain.calls.payOut(payee), { kind: "payOut", amount: earned, items: [] });
        this.#earned.set(payee, await chain.getEarned(payee));
      });
    }
  }

  /** Persists the intent before the broadcast, and what became of it after. */
  async #send(call: Call, intent: Intent): Promise<TransactionOutcome> {
    const { sender, settlements, clock } = this.#deps;
    let signed: SignedTransaction | undefined;
    try {
      const outcome = await sender.send(call, (tx) => {
        // Signed again: what was signed before can never be mined.
        if (signed) settlements.recordFailed(signed.hash);
        signed = tx;
        settlements.recordSigned(tx, intent, clock.nowSeconds());
      });
      this.#recordOutcome({ ...intent, hash: outcome.hash }, outcome);
      return outcome;
    } catch (error) {
      // Signed and not refused means unknown: the next look asks the chain what became of it.
      const refused = error instanceof InfernetError && error.code === "transaction-failed";
      if (signed && refused) settlements.recordFailed(signed.hash);
      if (!signed || refused) this.#postpone(intent);
      throw error;
    }
  }

  #recordOutcome(intent: Intent & { hash: Hex }, outcome: TransactionOutcome | "replaced"): void {
    const { settlements, events } = this.#deps;
    if (outcome === "replaced" || outcome.status === "reverted") {
      settlements.recordFailed(intent.hash);
      if (outcome !== "replaced") this.#postpone(intent);
      return;
    }
    const { hash: tx, gasUsed } = outcome;
    settlements.recordMined(tx, outcome.block, gasUsed);
    if (intent.kind === "payOut") events.emit({ type: "paidOut", tx, gasUsed, amount: intent.amount });
  }

  #postpone({ items }: Intent): void {
    const { settlements, clock } = this.#deps;
    for (const { jobId } of items) settlements.postpone(jobId, clock.nowSeconds() + RETRY_SECONDS);
  }

  /** What was signed before a crash, or undone by a reorg: broadcast again and awaited. */
  async #resumeSigned(): Promise<void> {
    for (const pending of this.#deps.settlements.pending()) {
      if (pending.state !== "signed") continue;
      await this.#attempt(async () => {
        const outcome = await this.#deps.sender.resume(pending.tx);
        this.#recordOutcome({ ...pending, hash: pending.tx.hash }, outcome);
      });
    }
  }

  /** At finality, and only then, what the chain says of a job is what was claimed. */
  async #closeFinal(): Promise<void> {
    const { chain, settlements } = this.#deps;
    const mined = settlements.pending().filter(({ state }) => state === "mined");
    if (mined.length === 0 && !settlements.hasClosings()) return;
    const final = (await findTaggedBlock(chain, "finalized")) ?? NEVER;
    const settled = mined.filter(({ block }) => block !== null && block <= final.number);
    for (const pending of settled) {
      for (const { jobId } of pending.items) await this.#closeIfFinal(jobId, final, pending);
      settlements.recordFinal(pending.tx.hash);
    }
    // Others close jobs too: the payee, and after the deadline anyone.
    for (const jobId of settlements.closingsUpTo(final.number)) await this.#closeIfFinal(jobId, final, null);
  }

  async #closeIfFinal(jobId: Hex, final: Block, by: PendingTransaction | null): Promise<void> {
    const { chain, settlements, events } = this.#deps;
    const { status, deposit, claimed } = await chain.getJobState(jobId, final.number);
    if (status !== "closed" || !settlements.closeJob(jobId, claimed)) return;
    events.emit({
      type: "settled",
      jobId,
      tx: by?.tx.hash ?? null,
      gasUsed: by?.gasUsed ?? 0n,
      jobs: by?.items.length ?? 1,
      claimed,
      returned: deposit - claimed,
    });
  }

  /** Tells a failure and goes on with other work. */
  async #attempt(work: () => Promise<unknown>): Promise<void> {
    try {
      await work();
    } catch (error) {
      this.#deps.events.emit(errorEvent(error, null));
    }
  }

  /** Jobs that wait for a receipt or a retry make no new block on a quiet chain. */
  #lookAgainLater(): void {
    if (this.#stopped || this.#draining) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.review(), Math.max(1, this.#deps.rule.topUpSeconds) * 1000);
    this.#timer.unref();
  }

  #enqueue<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#tail.then(work);
    this.#tail = result.catch(() => {});
    return result;
  }
}
