// Owns the requester as a whole: its ledger, budget and wallet behind one door, for the command line and the gateway.
import type { Chain } from "../chain/chain.ts";
import { createSender } from "../chain/sender.ts";
import type { Address, Hex } from "../protocol/bytes.ts";
import { InfernetError } from "../protocol/errors.ts";
import type { JobDocument } from "../protocol/wire.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Log } from "../runtime/logger.ts";
import type { Signer } from "../runtime/signers/secp256k1.ts";
import type { Store } from "../runtime/store.ts";
import { carryBlockTime } from "./block-time.ts";
import { type BudgetLimits, createReceiptDesk } from "./budget.ts";
import { type JobReport, reportJob } from "./job-report.ts";
import { openLedger } from "./ledger.ts";
import { isSession, type LedgerJob } from "./ledger-rows.ts";
import { depositMoney, type Moved, type MoveWish, withdrawMoney } from "./moves.ts";
import { createJobOpener } from "./opening.ts";
import { recoverJobs } from "./recovery.ts";
import { type JobResult, readResult } from "./result.ts";
import { type Buyer, type BuyerDeps, createBuyer } from "./routing/buyer.ts";
import { createMarket, type MarketDeps } from "./routing/market.ts";
import { openMeasures } from "./routing/measures.ts";
import { type CountTokens, createRecount } from "./routing/recount.ts";
import { openVerdicts, type Verdict } from "./routing/verdicts.ts";
import { closeLeftSession } from "./sessions/left-session.ts";
import type { SessionSettings } from "./sessions/session-opening.ts";
import { createSessions, type Sessions } from "./sessions/sessions.ts";
import { createSettlement, type Refund, type RefundWish } from "./settlement.ts";
import { readSpending, type Spending, type SpendingFilter } from "./spending.ts";
import type { Bill, SubmitEvent, SubmitInput } from "./submission.ts";
import { submitRequest } from "./submit.ts";
import { tendJobs } from "./tending.ts";
import { createWorkList } from "./work-list.ts";

export type RequesterDeps = {
  chain: Chain;
  /** Opened with `REQUESTER_MIGRATIONS`. */
  store: Store;
  log: Log;
  /** Signs, and pays gas where no node does. */
  wallet: Signer;
  /** Whose money it is: a smart wallet that the wallet's key speaks for; the wallet itself unless told otherwise. */
  account?: Address | undefined;
  /** 32 bytes from which every job's salt and session key derive. */
  seed: Hex;
  clock: Clock;
  budget: BudgetLimits;
  sessions?: Partial<SessionSettings>;
  /** How long to try to reach a node that went away during an answer, in milliseconds. */
  patienceMs?: number;
  /** Whether nodes' endpoints may lead into private networks on a real chain, too. */
  allowPrivate?: boolean;
};

const PATIENCE_MS = 20_000;
/** Half a USDC, ten minutes. */
const SESSION_SETTINGS: SessionSettings = { depositUsdc: 500_000n, idleSeconds: 600 };

export type BuyerOptions = Pick<BuyerDeps, "aliases" | "random" | "limits"> &
  Pick<MarketDeps, "refreshMs"> & {
    /** By model name: what its answers are counted with again. */
    counters?: ReadonlyMap<string, CountTokens> | undefined;
  };

export type RequesterSnapshot = {
  active: Hex[];
  /** What receipts may still promise today, in USDC base units. */
  dayLeft: bigint;
  unfinished: number;
};

export type Requester = {
  /** Whose money it is. */
  account: Address;
  /** Pays for one request: see `SubmitInput` and `Bill`. Meanwhile what an earlier run left behind is tended. */
  submit(input: SubmitInput): Promise<Bill>;
  /** Open jobs that pay for any number of requests. */
  sessions: Sessions;
  /** A job after a look at the chain. Throws `job-not-found`. */
  status(jobId: Hex): Promise<JobReport>;
  /** The delivery, and the answer again where its node still keeps it: at no charge. See `readResult`. */
  result(jobId: Hex): Promise<JobResult>;
  /** Resolves when the chain has closed the job. Throws `job-unconfirmed` when that takes longer. */
  wait(jobId: Hex, wait: { timeoutMs: number; signal?: AbortSignal }): Promise<JobReport>;
  /** All jobs as the ledger knows them, newest first. */
  listJobs(): JobReport[];
  /** Asks a job's node to settle it now. */
  close(jobId: Hex): Promise<JobDocument>;
  /** Takes back what nobody claimed, from the deadline on. */
  refund(jobId: Hex, how?: RefundWish): Promise<Refund | "nothing-to-do">;
  /** Moves the account's USDC into its credit. */
  deposit(wish: MoveWish): Promise<Moved>;
  /** Moves credit out as USDC. */
  withdraw(wish: MoveWish & { to: Address }): Promise<Moved>;
  /** Brings all jobs that nobody works on further towards their end. */
  tend(): Promise<JobReport[]>;
  /** Finds the wallet's open jobs on the chain when the ledger was lost, and returns them. */
  recover(): Promise<JobReport[]>;
  /** A buyer on the market whose answers this requester pays for. Its caller stops it, before the requester. */
  createBuyer(options?: BuyerOptions): Buyer;
  /** What requests have cost so far. */
  spending(filter?: SpendingFilter): Spending;
  /** Nodes that are not asked any more, and why. */
  dropped(): Verdict[];
  /** Lets a dropped node be asked again; says whether it was dropped. */
  forgive(node: Address): boolean;
  /** Interrupts what runs and waits for its end; store and chain stay open, for they are the caller's. */
  stop(): Promise<void>;
  snapshot(): RequesterSnapshot;
  subscribe(listener: (event: SubmitEvent) => void): () => void;
};

/** Starts a requester; it does nothing by itself until it is asked to. */
export async function startRequester(deps: RequesterDeps): Promise<Requester> {
  const { chain, store, log, wallet, seed, clock, budget: limits, patienceMs = PATIENCE_MS } = deps;
  const { account = wallet.address, allowPrivate = false } = deps;
  const ledger = openLedger(store);
  const sender = createSender(chain, wallet);
  const desk = createReceiptDesk({ ledger, domain: chain.domain, seed, limits, clock });
  const opener = createJobOpener({
    ...{ chain, ledger, desk, sender, wallet, account, seed, clock, patienceMs },
  });
  const work = createWorkList(ledger);
  const verdicts = openVerdicts(store);
  const settlement = createSettlement({ chain, ledger, sender, wallet, seed, clock, allowPrivate });
  const settings = { ...SESSION_SETTINGS, ...deps.sessions };
  const money = { ledger, desk, opener, settlement, work, wallet, account, seed, limits };
  const payingDeps = {
    ...{ ...money, chain, log, clock, patienceMs, allowPrivate, settings },
    ...{ verdictOn: verdicts.on, now: carryBlockTime(chain, clock) },
  };
  const tendingDeps = {
    ...{ chain, ledger, settlement, work, log, clock, idleSeconds: settings.idleSeconds },
    closeSession: (job: LedgerJob) => closeLeftSession(payingDeps, job),
  };
  const moveDeps = { chain, ledger, sender, wallet, account, clock, allowPrivate };
  const running = new Set<Promise<unknown>>();
  const listeners = new Set<(event: SubmitEvent) => void>();
  const stopped = new AbortController();

  function tendLeft(): void {
    const tending = tendJobs(tendingDeps, "left").catch((error: unknown) =>
      log.warn({ error: String(error) }, "jobs of an earlier run stay as they are"),
    );
    running.add(tending);
    void tending.finally(() => running.delete(tending));
  }
  const sessions = createSessions({ ...payingDeps, tendLeft });

  async function submit(input: SubmitInput): Promise<Bill> {
    if (stopped.signal.aborted) throw new InfernetError("interrupted", "the requester is stopping");
    const signals = [stopped.signal, input.signal].filter((signal) => signal !== undefined);
    const submission = submitRequest(
      { ...payingDeps, tendLeft },
      {
        ...input,
        signal: AbortSignal.any(signals),
        onEvent(event) {
          input.onEvent?.(event);
          for (const listener of listeners) listener(event);
        },
      },
    );
    running.add(submission);
    return submission.finally(() => running.delete(submission));
  }

  return {
    account,
    submit,
    sessions,
    status: async (jobId) => reportJob(await settlement.sync(jobId)),
    result: async (jobId) => readResult(await settlement.sync(jobId), seed, chain.domain),
    async wait(jobId, wait) {
      const closed = await settlement.awaitClosed(jobId, wait);
      if (closed) return reportJob(closed);
      throw new InfernetError("job-unconfirmed", `the chain has not closed the job ${jobId} yet`, {
        hint: "Its node settles it when that pays for the gas: infernet job close asks for it now.",
        data: { jobId },
      });
    },
    listJobs: () => ledger.listJobs().map(reportJob),
    async close(jobId) {
      const job = ledger.findJob(jobId);
      if (!job || !isSession(job)) return await settlement.closeAtNode(jobId);
      throw new InfernetError("bad-request", `the job ${jobId} is a session`, {
        hint: `Close it with: infernet session close ${jobId}`,
      });
    },
    refund: (jobId, how) => settlement.refund(jobId, how),
    deposit: (wish) => depositMoney(moveDeps, wish),
    withdraw: (wish) => withdrawMoney(moveDeps, wish),
    tend: async () => (await tendJobs(tendingDeps, "all")).map(reportJob),
    async recover() {
      const found = await recoverJobs(chain, ledger, account);
      return found.map((jobId) => reportJob(ledger.findJob(jobId)!));
    },
    createBuyer: ({ refreshMs, counters = new Map(), ...options } = {}) =>
      createBuyer({
        ...options,
        check: createRecount({ counters, ledger, sessions, log }),
        market: createMarket({ chain, clock, log, allowPrivate, ...(refreshMs ? { refreshMs } : {}) }),
        measures: openMeasures({ store, clock }),
        verdicts,
        ask: sessions.ask,
        maxCharge: () => desk.affordable(undefined),
      }),
    spending: (filter) => readSpending(store, filter),
    dropped: () => verdicts.all(),
    forgive: (node) => verdicts.forgive(node),
    async stop() {
      stopped.abort();
      await sessions.stop();
      await Promise.allSettled(running);
    },
    snapshot: () => ({
      active: work.jobs(),
      dayLeft: desk.dayLeft(),
      unfinished: ledger.unfinishedJobs().length,
    }),
    subscribe(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
}
