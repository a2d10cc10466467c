// Owns going to the chain for what jobs earned: claims, settles, refunds, pays out, and knows after a crash where it stood.
import type { Call, Chain } from "../chain/chain.ts";
import type { Sender, SignedTransaction, TransactionOutcome } from "../chain/sender.ts";
import type { Address, Hex } from "../protocol/bytes.ts";
import { InfernetError } from "../protocol/errors.ts";
import type { Clock } from "../runtime/clock.ts";
import type { SettlementRule } from "./config.ts";
import { type EventHub, errorEvent } from "./events.ts";
import { RETRY_SECONDS, recordFinal } from "./finality.ts";
import type { JobLedger } from "./job-ledger.ts";
import type { LedgerJob } from "./ledger-rows.ts";
import type { OpeningLedger } from "./opening-ledger.ts";
import type { Intent, SettlementLedger } from "./settlement-ledger.ts";
import { type Claim, claimableOf, isPayOutWorth, planSettlements } from "./settlement-policy.ts";

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
   * Looks at what jobs have earned and does what pays now; calls during a look share the next one. Never throws: what
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

  /** Looks before long, for what is earned while no block comes. Calls until then share that look. */
  reviewSoon(): void {
    if (this.#timer === undefined) this.#lookAgainLater();
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
      const gain = amount - due.claiming;
      if (amount <= due.claimed) return await this.#refund(due);
      return await this.#capture("settle", [{ job: due, amount, gain }]);
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
    const { chain, ledger, openings, settlements, clock } = this.#deps;
    await this.#resumeSigned();
    await recordFinal(this.#deps);
    const { timestamp: blockTime } = await chain.getBlock("latest");
    for (const jobId of openings.idleJobsPastMargin(blockTime)) ledger.finishJob(jobId);
    const seconds = clock.nowSeconds();
    const [over, live] = [settlements.dueJobs(seconds), settlements.claimableJobs(seconds)];
    if (over.length + live.length > 0) {
      const gasPrice = await chain.getGasPrice();
      const plan = planSettlements(over, live, { ...this.#rules(), gasPrice, blockTime });
      if (plan.settle.length > 0) await this.#attempt(() => this.#capture("settle", plan.settle));
      for (const job of plan.refund) await this.#attempt(() => this.#refund(job));
      if (plan.claim.length > 0) await this.#attempt(() => this.#claim(plan.claim));
      if (settlements.dueJobs(clock.nowSeconds()).length > 0) this.#lookAgainLater();
    }
    await this.#payOut({ evenIfDear: false });
    await recordFinal(this.#deps);
  }

  /** At the last look nobody is waited for, and where everything goes to the chain at once, so does what goes on. */
  #rules(): { rule: SettlementRule; now: number } {
    const { rule, clock } = this.#deps;
    if (!this.#draining) return { rule, now: clock.nowSeconds() };
    const exposureCap = rule.when === "always" ? 0n : rule.exposureCap;
    return { rule: { ...rule, exposureCap }, now: Number.MAX_SAFE_INTEGER };
  }

  /** What a payee claimed by itself is not claimed again. */
  async #claim(claims: readonly Claim[]): Promise<void> {
    const { chain, settlements, clock } = this.#deps;
    const states = await Promise.all(claims.map(({ job }) => chain.getJobState(job.jobId)));
    const isLeft = (claim: Claim, index: number) =>
      states[index]!.status === "open" && states[index]!.claimed < claim.amount;
    const left = claims.filter(isLeft);
    for (const { job } of claims.filter((claim) => !left.includes(claim)))
      settlements.postpone(job.jobId, clock.nowSeconds() + RETRY_SECONDS);
    if (left.length > 0) await this.#capture("claim", left);
  }

  async #capture(kind: "claim" | "settle", claims: readonly Claim[]): Promise<TransactionOutcome> {
    const { calls } = this.#deps.chain;
    const items = claims.map(({ job, amount }) => ({ job: job.job, receipt: job.receipt!, amount }));
    const [only, ...others] = items;
    const [one, many] =
      kind === "settle" ? [calls.settle, calls.settleBatch] : [calls.claim, calls.claimBatch];
    const call = others.length > 0 ? many(items) : one(only!);
    const amount = claims.reduce((sum, claim) => sum + claim.amount, 0n);
    const outcome = await this.#send(call, {
      kind,
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
    const look = () => {
      this.#timer = undefined;
      void this.review();
    };
    this.#timer = setTimeout(look, Math.max(1, this.#deps.rule.topUpSeconds) * 1000).unref();
  }

  #enqueue<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#tail.then(work);
    this.#tail = result.catch(() => {});
    return result;
  }
}
