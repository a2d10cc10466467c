// Owns how large a session is made and how it comes to stand in the Escrow.
import type { Chain } from "../../chain/chain.ts";
import type { Address } from "../../protocol/bytes.ts";
import { SESSION_REQUEST_HASH } from "../../protocol/job.ts";
import { least, most } from "../../protocol/price.ts";
import type { BudgetLimits, ReceiptDesk } from "../budget.ts";
import type { Choice } from "../choose.ts";
import { readFreeMoney } from "../consent.ts";
import { type GasChoice, paysOwnGas } from "../gas.ts";
import type { RequesterLedger } from "../ledger.ts";
import type { LedgerJob } from "../ledger-rows.ts";
import type { JobOpener } from "../opening.ts";
import type { WorkList } from "../work-list.ts";

export type SessionSettings = {
  /** What a session is opened with when the budgets and the free money allow it, in USDC base units. */
  depositUsdc: bigint;
  /** A session that was idle for so long is closed. */
  idleSeconds: number;
};

export type SessionOpeningDeps = {
  chain: Chain;
  ledger: RequesterLedger;
  desk: ReceiptDesk;
  opener: JobOpener;
  work: WorkList;
  /** Signs, and pays gas where no node does; `account` is whose money it is. */
  wallet: { address: Address };
  account: Address;
  limits: BudgetLimits;
  settings: SessionSettings;
};

export type SessionPlan = {
  choice: Choice;
  /** What the first request keeps free of the deposit, in base units. */
  reserve: bigint;
  depositUsdc?: bigint | undefined;
  deadlineSeconds?: number | undefined;
  gas?: GasChoice | undefined;
  signal: AbortSignal;
  onPlanned(planned: LedgerJob): void;
};

/** The wished time from opening to deadline: until then a session's money may be locked if its node goes away. */
const LIFE_SECONDS = 2 * 3600;
/** For so long at least a session can begin requests. */
const SERVING_SECONDS = 1200;

/** Opens a session, in hand of this process from its first moment on. Throws what `JobOpener` throws. */
export async function openSession(deps: SessionOpeningDeps, plan: SessionPlan): Promise<LedgerJob> {
  const { chain, opener, work, wallet, limits } = deps;
  const { choice, signal, onPlanned } = plan;
  const { longestRequestSeconds } = choice.signedOffer.offer;
  // Past its margin, a tenth of its life, there must be time for requests however long its node lets them run.
  const shortest = Math.ceil(((longestRequestSeconds + SERVING_SECONDS) * 10) / 9);
  const deadlineSeconds = Math.max(plan.deadlineSeconds ?? LIFE_SECONDS, shortest);
  const isRelayed = !(await paysOwnGas(chain, wallet.address, plan.gas ?? "auto"));
  const deposit = await depositFor(deps, plan, isRelayed ? choice.signedOffer.offer.openingFee : 0n);
  const planned = await opener.plan(choice, {
    ...{ requestHash: SESSION_REQUEST_HASH, path: null, deposit, lifeSeconds: deadlineSeconds },
    maxCharge: least(deposit, limits.perJob),
  });
  work.take(planned.jobId);
  try {
    onPlanned(planned);
    return await opener.open(planned, { isRelayed, signal });
  } catch (error) {
    work.leave(planned.jobId);
    throw error;
  }
}

/** What was wished or set, as far as budgets and free money go; the first request's reserve at least. */
async function depositFor(
  { chain, ledger, desk, account, limits, settings }: SessionOpeningDeps,
  { choice, reserve, depositUsdc = settings.depositUsdc }: SessionPlan,
  openingFee: bigint,
): Promise<bigint> {
  const { credit, authorization } = await readFreeMoney(chain, ledger, account);
  const { amount } = desk.leftFor(choice.node);
  // One source pays a deposit whole.
  const affordable = least(depositUsdc, limits.perJob, amount, most(credit, authorization));
  return most(affordable, reserve + openingFee, choice.signedOffer.offer.minDeposit);
}
