// Owns when a job's money is worth a transaction: pure rules over what jobs may claim, their deadlines and the fee of gas.
import { marginSeconds } from "../protocol/funding.ts";
import type { SettlementRule } from "./config.ts";
import type { DueJob } from "./settlement-ledger.ts";

/** Gas of the Escrow's functions, as DESIGN section 2 bounds them. */
const SETTLE_GAS = 51_000n;
const SETTLE_BATCH_GAS = { base: 30_000n, each: 26_000n };
const PAY_OUT_GAS = 60_000n;
const WEI_PER_NATIVE = 10n ** 18n;
/** Items of one settleBatch: far below a block's gas. */
export const LARGEST_BATCH = 50;

/** What the decision looks at beside the jobs. Times in Unix seconds: `now` local, `blockTime` the chain's. */
export type SettlementScene = { rule: SettlementRule; gasPrice: bigint; now: number; blockTime: number };

/** A job to settle, at this amount in base units. */
export type Claim = { due: DueJob; amount: bigint };

export type SettlementPlan = {
  settle: Claim[];
  /** Jobs that earned nothing and whose deposit goes back now. */
  refund: DueJob[];
};

/** USDC base units that this much gas costs, rounded up. `gasPrice` in wei, `nativeUsdPrice` in base units a token. */
export function feeUsdc(gas: bigint, gasPrice: bigint, nativeUsdPrice: bigint): bigint {
  return (gas * gasPrice * nativeUsdPrice + WEI_PER_NATIVE - 1n) / WEI_PER_NATIVE;
}

/** What the node may claim of a job: never above its own charge, the highest receipt or the deposit. */
export function claimableOf({ job, charge }: DueJob): bigint {
  if (job.state === "refused") return 0n;
  const signed = job.receipt?.amount ?? 0n;
  return [charge, signed, job.deposit].reduce((least, amount) => (amount < least ? amount : least));
}

/** Which of these jobs, all over, to settle or refund now; the others wait. Never a settlement that costs more than it claims. */
export function planSettlements(jobs: readonly DueJob[], scene: SettlementScene): SettlementPlan {
  const { rule, gasPrice, blockTime } = scene;
  const claims = jobs.map((due) => ({ due, amount: claimableOf(due) }));
  const ready = claims.filter((claim) => claim.amount > 0n && !awaitsTopUp(claim.due, scene));
  if (rule.when === "always") {
    const refund = claims.filter(({ amount }) => amount === 0n).map(({ due }) => due);
    return { settle: ready.slice(0, LARGEST_BATCH), refund };
  }
  const fee = (gas: bigint) => feeUsdc(gas, gasPrice, rule.nativeUsdPrice);
  const paying = ready.filter(({ amount }) => amount > fee(SETTLE_BATCH_GAS.each));
  paying.sort((one, other) => (one.amount < other.amount ? 1 : -1));
  const exposed = totalOf(paying) >= rule.exposureCap;
  const chosen = exposed ? paying : paying.slice(0, countWorth(paying, rule.feeMultiple, fee));
  const urgent = paying.slice(chosen.length).filter(({ due }) => isNearDeadline(due, blockTime));
  const settle = [...urgent, ...chosen].slice(0, LARGEST_BATCH);
  return { settle: totalOf(settle) > fee(settleGas(settle.length)) ? settle : [], refund: [] };
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
function awaitsTopUp({ job, charge }: DueJob, { rule, now, blockTime }: SettlementScene): boolean {
  const signed = job.receipt?.amount ?? 0n;
  if (signed >= charge || signed >= job.deposit || isNearDeadline({ job, charge }, blockTime)) return false;
  return now < (job.overSince ?? 0) + rule.topUpSeconds;
}

function isNearDeadline({ job }: DueJob, blockTime: number): boolean {
  return blockTime > job.job.deadline - marginSeconds(job.openedAt, job.job.deadline);
}
