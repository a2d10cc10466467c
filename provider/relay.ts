// Owns the transactions that the node sends for others: judged, simulated, limited, persisted, and never sent twice.
import type { Call, Chain } from "../chain/chain.ts";
import { estimateGas } from "../chain/fees.ts";
import type { Sender, SignedTransaction } from "../chain/sender.ts";
import type { Address, Hex } from "../protocol/bytes.ts";
import { withdrawDigest } from "../protocol/consent.ts";
import { depositNonce } from "../protocol/deposit.ts";
import { InfernetError } from "../protocol/errors.ts";
import { type Job, type JobState, jobIdOf } from "../protocol/job.ts";
import type { RelayedMove, RelayedOpening } from "../protocol/relay.ts";
import type { Clock } from "../runtime/clock.ts";
import type { RelayRule } from "./config.ts";
import { type EventHub, errorEvent } from "./events.ts";
import type { JobLedger } from "./job-ledger.ts";
import type { Offers } from "./offers.ts";
import type { OpeningTerms, PendingRelay, RelayLedger, RelaySubject } from "./relay-ledger.ts";
import type { RelayLimits } from "./relay-limits.ts";
import { checkOpening, checkWouldPay, MINING_SECONDS, type OpeningScene, refusal } from "./relay-policy.ts";
import type { Settlement } from "./settlement.ts";
import { feeUsdc } from "./settlement-policy.ts";

export type RelayDependencies = {
  chain: Chain;
  sender: Sender;
  node: Address;
  ledger: JobLedger;
  relays: RelayLedger;
  limits: RelayLimits;
  offers: Pick<Offers, "current" | "byHash">;
  settlement: Pick<Settlement, "closeNow">;
  rule: RelayRule;
  /** USDC base units for one whole native token. */
  nativeUsdPrice: bigint;
  clock: Clock;
  events: EventHub;
  /** Reads the chain up to its head of now. */
  poke(): Promise<void>;
};

/** One transaction for somebody: what it does, whose allowance it takes, what the node earns and the owner moves by it. */
type Act = RelaySubject & {
  requester: Address;
  call: Call;
  earns: bigint;
  moves: bigint;
  opening?: OpeningTerms;
};

export class Relay {
  readonly #deps: RelayDependencies;
  /** What is under way, by kind and subject: asked for again meanwhile, it is waited for. */
  readonly #running = new Map<string, Promise<Hex | null>>();

  constructor(deps: RelayDependencies) {
    this.#deps = deps;
  }

  /**
   * Opens a job by this node's transaction; a job that is open already is success. Throws `relay-refused`,
   * `rate-limited`, `job-closed`, and what `checkOpening` and `checkFunded` throw; then nothing was spent.
   */
  async openJob(opening: RelayedOpening): Promise<{ jobId: Hex; tx: Hex }> {
    const { chain, node, offers } = this.#deps;
    const { job, amount, by, terms } = opening;
    const jobId = jobIdOf(chain.domain, job);
    const offer = offers.byHash(terms.offerHash)?.offer;
    if (!offer) throw refusal("this node does not know the offer that the job is to be opened under");
    const scene = { domain: chain.domain, node, offer, now: this.#deps.clock.nowSeconds() };
    const openingTerms = checkOpening(jobId, opening, scene);
    const call =
      by.kind === "credit"
        ? chain.calls.openWithSignature(job, amount, by)
        : chain.calls.openWithAuthorization(job, amount, by);
    const act = {
      ...({ kind: "open", subject: jobId, requester: job.requester } as const),
      ...{ call, earns: offer.openingFee, moves: amount, opening: openingTerms },
    };
    const tx = await this.#once(act, async () => {
      const { status } = await chain.getJobState(jobId);
      if (status === "closed") throw new InfernetError("job-closed", "the job is closed");
      if (status === "open") return await this.#openedBy(jobId);
      await this.#checkWouldPay(jobId, opening, scene);
      const sent = await this.#transact(act, async () => {
        const isOpen = (await chain.getJobState(jobId)).status === "open";
        return isOpen ? await this.#openedBy(jobId) : undefined;
      });
      await this.#deps.poke().catch((error: unknown) => this.#tell(error, jobId));
      return sent;
    });
    return { jobId, tx: tx! };
  }

  /**
   * Deposits, withdraws or refunds by this node's transaction; what is done already is success. Throws
   * `relay-refused`, `rate-limited`, and for refunds `job-not-found` or `job-unconfirmed` before the deadline.
   */
  async move(move: RelayedMove): Promise<{ tx: Hex | null }> {
    if (move.kind === "refund") return { tx: await this.#refund(move.job) };
    const act = move.kind === "deposit" ? this.#depositOf(move) : this.#withdrawalOf(move);
    const { isDone, ...rest } = act;
    const findDone = async () => ((await isDone()) ? (this.#deps.relays.findMined(rest) ?? null) : undefined);
    const tx = await this.#once(rest, async () => {
      const done = await findDone();
      return done === undefined ? await this.#transact(rest, findDone) : done;
    });
    return { tx };
  }

  /** What was signed before a crash: broadcast again and awaited. Never throws. */
  async resume(): Promise<void> {
    await Promise.all(
      this.#deps.relays
        .pending()
        .map((pending) => this.#follow(pending).catch((error: unknown) => this.#tell(error, null))),
    );
  }

  #depositOf({ owner, amount, salt, by }: Extract<RelayedMove, { kind: "deposit" }>) {
    const { chain } = this.#deps;
    this.#checkValidity(by.validBefore);
    const subject = depositNonce(chain.domain, owner, salt);
    return {
      ...({ kind: "deposit", subject, requester: owner, earns: 0n, moves: amount } as const),
      call: chain.calls.depositWithAuthorization(owner, amount, salt, by),
      isDone: () => chain.isAuthorizationUsed(owner, subject),
    };
  }

  #withdrawalOf({ kind: _kind, signature, ...withdrawal }: Extract<RelayedMove, { kind: "withdraw" }>) {
    const { chain, offers } = this.#deps;
    const { owner, amount, fee, nonce, validBefore } = withdrawal;
    this.#checkValidity(validBefore);
    const { relayFee } = offers.current().offer;
    if (fee < relayFee) {
      throw refusal(`the node broadcasts withdrawals for a fee of ${relayFee}, ${fee} is signed`, {
        relayFee: relayFee.toString(),
      });
    }
    const subject = withdrawDigest(chain.domain, withdrawal);
    return {
      ...({ kind: "withdraw", subject, requester: owner, earns: fee, moves: amount } as const),
      call: chain.calls.withdrawWithSignature(withdrawal, signature),
      isDone: () => chain.isWithdrawalUsed(owner, nonce),
    };
  }

  /** A job of this node's is closed as the node itself would: what it earned is settled in the same transaction. Others' are refunded. */
  async #refund(job: Job): Promise<Hex | null> {
    const { chain, ledger, limits, settlement } = this.#deps;
    const jobId = jobIdOf(chain.domain, job);
    const { kind, subject } = { kind: "refund", subject: jobId } as const;
    const refundOf = ({ deposit, claimed }: JobState): Act => ({
      ...{ kind, subject, requester: job.requester, earns: 0n },
      ...{ moves: deposit - claimed, call: chain.calls.refund(job) },
    });
    return await this.#once({ kind, subject }, async () => {
      const state = await chain.getJobState(jobId);
      if (state.status === "none") throw new InfernetError("job-not-found", "no such job on the chain");
      if (state.status === "closed") return this.#deps.relays.findMined({ kind, subject }) ?? null;
      await this.#checkDeadline(job);
      const act = refundOf(state);
      if (!ledger.findJob(jobId)) return await this.#transact(act, async () => undefined);
      await this.#checkCost(act);
      limits.transact(job.requester);
      const sent = await orRefuse(settlement.closeNow(jobId));
      if (sent) return sent.hash;
      if ((await chain.getJobState(jobId)).status === "closed") return null;
      throw new InfernetError("job-unconfirmed", "the job's closing is on its way", {
        hint: "Ask again in a moment.",
      });
    });
  }

  async #checkWouldPay(jobId: Hex, opening: RelayedOpening, scene: OpeningScene): Promise<void> {
    const [listing, now] = await Promise.all([this.#deps.chain.getNode(scene.node), this.#blockTime()]);
    checkWouldPay(jobId, opening, { ...scene, now }, listing);
  }

  async #checkDeadline({ deadline }: Job): Promise<void> {
    if ((await this.#blockTime()) >= deadline) return;
    throw new InfernetError("job-unconfirmed", "the job's deadline is not yet past", {
      hint: "Until then the node settles it: infernet job close.",
      data: { deadline },
    });
  }

  #checkValidity(validBefore: number): void {
    if (validBefore < this.#deps.clock.nowSeconds() + MINING_SECONDS)
      throw refusal("the signature is about to expire");
  }

  /** Joins what is under way for the same subject, or starts it when a look at the chain is free. */
  async #once({ kind, subject }: RelaySubject, work: () => Promise<Hex | null>): Promise<Hex | null> {
    const key = `${kind}:${subject}`;
    const running = this.#running.get(key);
    if (running) return await running;
    this.#deps.limits.simulate();
    const started = work().finally(() => this.#running.delete(key));
    this.#running.set(key, started);
    return await started;
  }

  /** Sends an act's transaction. When that fails, `findDone` says whether somebody else's did the same. */
  async #transact(act: Act, findDone: () => Promise<Hex | null | undefined>): Promise<Hex | null> {
    const left = this.#deps.relays
      .pending()
      .find((one) => one.kind === act.kind && one.subject === act.subject);
    if (left && (await this.#follow(left))) return left.tx.hash;
    try {
      await this.#checkCost(act);
      this.#deps.limits.transact(act.requester);
      return await this.#send(act);
    } catch (error) {
      if (!(error instanceof InfernetError) || error.code !== "relay-refused") throw error;
      const done = await findDone();
      if (done === undefined) throw error;
      return done;
    }
  }

  /** Simulates, and weighs the gas against what the node earns; nobody moves crumbs at its expense. */
  async #checkCost({ call, earns, moves }: Act): Promise<void> {
    const { chain, node, rule, nativeUsdPrice } = this.#deps;
    const gas = await orRefuse(estimateGas(chain.rpc, node, { ...call, gasCap: rule.gasCap }));
    const cost = feeUsdc(gas, await chain.getGasPrice(), nativeUsdPrice);
    const figures = { gas: gas.toString(), costUsdc: cost.toString() };
    if (cost > earns + rule.giftUpTo)
      throw refusal("the gas costs more now than this node gives for it", figures);
    if (earns === 0n && moves < rule.leastMove)
      throw refusal(`the node moves no less than ${rule.leastMove} for nothing`, figures);
  }

  /** Persists before the broadcast, and what became of it after. */
  async #send({ call, kind, subject, opening }: Act): Promise<Hex> {
    const { sender, relays, rule, clock, events } = this.#deps;
    let signed: SignedTransaction | undefined;
    try {
      const { hash: tx, gasUsed } = await sender.send({ ...call, gasCap: rule.gasCap }, (transaction) => {
        // Signed again: what was signed before can never be mined.
        if (signed) relays.recordFailed(signed.hash);
        signed = transaction;
        relays.recordSigned(transaction, { kind, subject }, clock.nowSeconds(), opening);
      });
      relays.recordMined(tx);
      events.emit({ type: "relayed", kind, tx, gasUsed });
      return tx;
    } catch (error) {
      // Signed and not refused means unknown: the next ask, or the next start, finds out.
      const isRefused = error instanceof InfernetError && error.code === "transaction-failed";
      if (signed && isRefused) relays.recordFailed(signed.hash);
      if (error instanceof InfernetError && error.code === "insufficient-funds") this.#tell(error, null);
      throw asRefusal(error);
    }
  }

  /** Whether a transaction of an earlier try or run came to its end well. */
  async #follow({ kind, tx }: PendingRelay): Promise<boolean> {
    const { sender, relays, events } = this.#deps;
    const outcome = await sender.resume(tx);
    if (outcome === "replaced" || outcome.status === "reverted") {
      relays.recordFailed(tx.hash);
      return false;
    }
    relays.recordMined(tx.hash);
    events.emit({ type: "relayed", kind, tx: tx.hash, gasUsed: outcome.gasUsed });
    return true;
  }

  async #openedBy(jobId: Hex): Promise<Hex> {
    const { chain, relays } = this.#deps;
    const tx = relays.findMined({ kind: "open", subject: jobId }) ?? (await chain.getOpened(jobId))?.tx;
    if (tx) return tx;
    throw new InfernetError("job-unconfirmed", "the job is open, but its opening is not yet to be found", {
      hint: "Ask again in a moment.",
    });
  }

  /** The time that the next block has at least. */
  async #blockTime(): Promise<number> {
    const { timestamp } = await this.#deps.chain.getBlock("latest");
    return Math.max(timestamp, this.#deps.clock.nowSeconds());
  }

  #tell(error: unknown, jobId: Hex | null): void {
    this.#deps.events.emit(errorEvent(error, jobId));
  }
}

async function orRefuse<Result>(work: Promise<Result>): Promise<Result> {
  try {
    return await work;
  } catch (error) {
    throw asRefusal(error);
  }
}

/** A contract's no, or an empty purse, as the node's refusal; anything else as it is. */
function asRefusal(error: unknown): unknown {
  if (!(error instanceof InfernetError)) return error;
  if (error.code === "insufficient-funds") return refusal("the node cannot pay for gas now", {}, error);
  if (error.code !== "transaction-failed") return error;
  return refusal(error.message, error.data, error);
}
