// Owns when a job's money is worth a transaction: pure rules over what jobs may claim, their deadlines and the fee of gas.
import { marginSeconds } from "../protocol/funding.ts";
import { least } from "../protocol/price.ts";
import type { SettlementRule } from "./config.ts";
import type { LedgerJob } from "./ledger-rows.ts";

/** Gas of the Escrow's functions, as DESIGN section 2 bounds them. */
const SETTLE_GAS = 51_000n;
const SETTLE_BATCH_GAS = { base: 30_000n, each: 26_000n };
const REFUND_GAS = 45_000n;
const PAY_OUT_GAS = 60_000n;
const WEI_PER_NATIVE = 10n ** 18n;
/** Items of one settleBatch: far below a block's gas. */
export const LARGEST_BATCH = 50;

/** What the decision looks at beside the jobs. Times in Unix seconds: `now` local, `blockTime` the chain's. */
export type SettlementScene = { rule: SettlementRule; gasPrice: bigint; now: number; blockTime: number };

/** A job to settle, at this amount in base units. */
export type Claim = { job: LedgerJob; amount: bigint };

export type SettlementPlan = {
  settle: Claim[];
  /** Jobs that earned nothing and whose deposit goes back now. */
  refund: LedgerJob[];
};

/** USDC base units that this much gas costs, rounded up. `gasPrice` in wei, `nativeUsdPrice` in base units a token. */
export function feeUsdc(gas: bigint, gasPrice: bigint, nativeUsdPrice: bigint): bigint {
  return (gas * gasPrice * nativeUsdPrice + WEI_PER_NATIVE - 1n) / WEI_PER_NATIVE;
}

/** What the node may claim of a job: never above its own charge, the highest receipt or the deposit. */
export function claimableOf({ state, charge, receipt, deposit }: LedgerJob): bigint {
  return state === "refused" ? 0n : least(charge, receipt?.amount ?? 0n, deposit);
}

/**
 * Which of these jobs, all over, to settle or refund now; the others wait. Never a settlement that costs more than it
 * claims, but for what the rule gives to close a job whose requester asks for the rest.
 */
export function planSettlements(jobs: readonly LedgerJob[], scene: SettlementScene): SettlementPlan {
  const { rule, gasPrice, blockTime } = scene;
  const claims = jobs.map((job) => ({ job, amount: claimableOf(job) }));
  const nothing = claims.filter(({ amount }) => amount === 0n).map(({ job }) => job);
  const ready = claims.filter(({ job, amount }) => amount > 0n && !awaitsTopUp(job, scene));
  if (rule.when === "always") return { settle: ready.slice(0, LARGEST_BATCH), refund: nothing };
  const fee = (gas: bigint) => feeUsdc(gas, gasPrice, rule.nativeUsdPrice);
  const refund = nothing.filter(({ closeAsked }) => closeAsked && fee(REFUND_GAS) <= rule.closeGiftUpTo);
  const asked = ready.filter(
    ({ job, amount }) => job.closeAsked && fee(SETTLE_GAS) <= amount + rule.closeGiftUpTo,
  );
  const paying = ready.filter((claim) => !asked.includes(claim) && claim.amount > fee(SETTLE_BATCH_GAS.each));
  paying.sort((one, other) => (one.amount < other.amount ? 1 : -1));
  const exposed = totalOf(paying) >= rule.exposureCap;
  const chosen = exposed ? paying : paying.slice(0, countWorth(paying, rule.feeMultiple, fee));
  const urgent = paying.slice(chosen.length).filter(({ job }) => isNearDeadline(job, blockTime));
  const wanted = [...urgent, ...chosen];
  const worth = totalOf(wanted) > fee(settleGas(wanted.length)) ? wanted : [];
  return { settle: [...asked, ...worth].slice(0, LARGEST_BATCH), refund };
}

/** How many of these claims, largest first, one transaction may take that claims `multiple` times its fee. */
function countWorth(claims: readonly Claim[], multiple: bigint, fee: (gas: bigint) => bigint): number {
  let total = 0n;
  let worth = 0;
  for (const [index, { amount }] of claims.slice(0, LARGEST_BATCH).entries()) {
    total += amount;
    if (total >= multiple * fee(settleGas(index + 1))) worth = index + 1;
  }
  return worth;
}

function totalOf(claims: readonly Claim[]): bigint {
  return claims.reduce((sum, { amount }) => sum + amount, 0n);
}

function settleGas(jobs: number): bigint {
  return jobs === 1 ? SETTLE_GAS : SETTLE_BATCH_GAS.base + SETTLE_BATCH_GAS.each * BigInt(jobs);
}

/** Whether what a payee has earned in the Escrow is worth a pay-out. */
export function isPayOutWorth(earned: bigint, rule: SettlementRule, gasPrice: bigint): boolean {
  if (earned === 0n) return false;
  if (rule.when === "always") return true;
  return earned >= rule.payOutFeeMultiple * feeUsdc(PAY_OUT_GAS, gasPrice, rule.nativeUsdPrice);
}

/** The requester may still sign the rest of a charge that came out above its receipt. */
function awaitsTopUp(job: LedgerJob, { rule, now, blockTime }: SettlementScene): boolean {
  const signed = job.receipt?.amount ?? 0n;
  if (signed >= job.charge || signed >= job.deposit || isNearDeadline(job, blockTime)) return false;
  return now < (job.overSince ?? 0) + rule.topUpSeconds;
}

function isNearDeadline({ job, openedAt }: LedgerJob, blockTime: number): boolean {
  return blockTime > job.deadline - marginSeconds(openedAt, job.deadline);
}
