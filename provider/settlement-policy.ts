// Owns when a job's money is worth a transaction: pure rules over what jobs may claim, their deadlines and the fee of gas.
import { marginSeconds } from "../protocol/funding.ts";
import { least, most } from "../protocol/price.ts";
import type { SettlementRule } from "./config.ts";
import type { LedgerJob } from "./ledger-rows.ts";
import type { DueJob } from "./settlement-ledger.ts";

/** Gas of the Escrow's functions, as DESIGN section 2 bounds them; a claim takes no more than a settlement. */
const SETTLE_GAS = 51_000n;
const SETTLE_BATCH_GAS = { base: 30_000n, each: 26_000n };
const REFUND_GAS = 45_000n;
const PAY_OUT_GAS = 60_000n;
const WEI_PER_NATIVE = 10n ** 18n;
/** Items of one batch: far below a block's gas. */
export const LARGEST_BATCH = 50;

/** What the decision looks at beside the jobs. Times in Unix seconds: `now` local, `blockTime` the chain's. */
export type SettlementScene = { rule: SettlementRule; gasPrice: bigint; now: number; blockTime: number };

/** A job to claim of, up to this amount in base units; `gain` is what that adds to earlier claims. */
export type Claim = { job: DueJob; amount: bigint; gain: bigint };

export type SettlementPlan = {
  /** Claims that close their jobs. */
  settle: Claim[];
  /** Jobs of which nothing is left to claim and whose deposit goes back now. */
  refund: DueJob[];
  /** Claims of jobs that go on. */
  claim: Claim[];
};

/** USDC base units that this much gas costs, rounded up. `gasPrice` in wei, `nativeUsdPrice` in base units a token. */
export function feeUsdc(gas: bigint, gasPrice: bigint, nativeUsdPrice: bigint): bigint {
  return (gas * gasPrice * nativeUsdPrice + WEI_PER_NATIVE - 1n) / WEI_PER_NATIVE;
}

/**
 * What the node may claim of a job: never above the highest receipt, the deposit, or what it has signed deliveries for,
 * which is what requests cost that have ended.
 */
export function claimableOf({ state, endedCharge, receipt, deposit }: LedgerJob): bigint {
  return state === "refused" ? 0n : least(endedCharge, receipt?.amount ?? 0n, deposit);
}

/**
 * Which jobs that are over to settle or refund now, and which that go on to claim of; the others wait. Never a
 * transaction that costs more than it gains, but for what the rule gives to close a job whose requester asks for the rest.
 */
export function planSettlements(
  over: readonly DueJob[],
  live: readonly DueJob[],
  scene: SettlementScene,
): SettlementPlan {
  const claims = over.map(claimOf);
  const nothing = claims.filter(({ job, amount }) => amount <= job.claimed).map(({ job }) => job);
  const ready = claims.filter(({ job, amount }) => amount > job.claimed && !awaitsTopUp(job, scene));
  const earned = live.map(claimOf);
  const isExposed = totalOf([...ready, ...earned]) >= scene.rule.exposureCap;
  const claim = planClaims(earned, isExposed, scene);
  if (scene.rule.when === "always") return { settle: ready.slice(0, LARGEST_BATCH), refund: nothing, claim };
  return { ...planClosings(ready, nothing, isExposed, scene), claim };
}

function claimOf(job: DueJob): Claim {
  const amount = claimableOf(job);
  return { job, amount, gain: most(0n, amount - job.claiming) };
}

/** Closings where gas costs money. */
function planClosings(
  ready: readonly Claim[],
  nothing: readonly DueJob[],
  isExposed: boolean,
  scene: SettlementScene,
): Omit<SettlementPlan, "claim"> {
  const { rule } = scene;
  const fee = feeIn(scene);
  const refund = nothing.filter(({ closeAsked }) => closeAsked && fee(REFUND_GAS) <= rule.closeGiftUpTo);
  const isGiven = ({ job, gain }: Claim) => job.closeAsked && fee(SETTLE_GAS) <= gain + rule.closeGiftUpTo;
  const given = ready.filter(isGiven);
  const wanted = chooseWorth(
    ready.filter((claim) => !isGiven(claim)),
    isExposed,
    rule.feeMultiple,
    scene,
  );
  return { settle: [...given, ...wanted].slice(0, LARGEST_BATCH), refund };
}

/** Claims of jobs that go on. Where everything goes to the chain at once they still wait: their settlement is to come. */
function planClaims(earned: readonly Claim[], isExposed: boolean, scene: SettlementScene): Claim[] {
  const { rule } = scene;
  if (rule.when === "always") return isExposed ? earned.slice(0, LARGEST_BATCH) : [];
  return chooseWorth(earned, isExposed, rule.claimFeeMultiple, scene);
}

/** The claims that pay: all when too much is exposed or their deadline is near, else those worth a multiple of the fee. */
function chooseWorth(
  claims: readonly Claim[],
  isExposed: boolean,
  multiple: bigint,
  scene: SettlementScene,
): Claim[] {
  const fee = feeIn(scene);
  const paying = claims.filter(({ gain }) => gain > fee(SETTLE_BATCH_GAS.each));
  paying.sort((one, other) => (one.gain < other.gain ? 1 : -1));
  const chosen = isExposed ? paying : paying.slice(0, countWorth(paying, multiple, fee));
  const urgent = paying.slice(chosen.length).filter(({ job }) => isNearDeadline(job, scene.blockTime));
  const wanted = [...urgent, ...chosen].slice(0, LARGEST_BATCH);
  return totalOf(wanted) > fee(settleGas(wanted.length)) ? wanted : [];
}

function feeIn({ rule, gasPrice }: SettlementScene): (gas: bigint) => bigint {
  return (gas) => feeUsdc(gas, gasPrice, rule.nativeUsdPrice);
}

/** How many of these claims, largest first, one transaction may take that gains `multiple` times its fee. */
function countWorth(claims: readonly Claim[], multiple: bigint, fee: (gas: bigint) => bigint): number {
  let total = 0n;
  let worth = 0;
  for (const [index, { gain }] of claims.slice(0, LARGEST_BATCH).entries()) {
    total += gain;
    if (total >= multiple * fee(settleGas(index + 1))) worth = index + 1;
  }
  return worth;
}

function totalOf(claims: readonly Claim[]): bigint {
  return claims.reduce((sum, { gain }) => sum + gain, 0n);
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
