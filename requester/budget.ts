// Owns every receipt: what a requester may sign, and the only place where it does. Amounts in USDC base units.
import { type Hex, ZERO_WORD } from "../protocol/bytes.ts";
import { InfernetError } from "../protocol/errors.ts";
import { marginSeconds } from "../protocol/funding.ts";
import { chargeOf, least, most, type Prices } from "../protocol/price.ts";
import { type Receipt, receiptDigest } from "../protocol/receipt.ts";
import type { Domain } from "../protocol/typed-data.ts";
import type { Clock } from "../runtime/clock.ts";
import { createSigner, deriveSecret, toCompactSignature } from "../runtime/signers/secp256k1.ts";
import type { RequesterLedger } from "./ledger.ts";
import type { KeptConsent, LedgerJob } from "./ledger-rows.ts";

/** The most that receipts may promise: for one job, and in one UTC day over all jobs. */
export type BudgetLimits = { perJob: bigint; perDay: bigint };

/** What one request may cost by the requester's own reckoning. */
export type Exposure = {
  prices: Prices;
  /** What the node's opening of the job costs beside it. */
  openingFee: bigint;
  /** The prompt tokens that it is ready to pay for. */
  promptTokens: number;
  /** Completion tokens of what arrived, by its own count. */
  arrivedTokens: number;
  /** Completion tokens that it pays before they arrive. */
  aheadTokens: number;
  /** Completion tokens that the request allows in all. */
  maxTokens: number;
  /** The smallest raise that is worth a receipt while the node asks for more than arrived. */
  stepTokens: number;
};

export type Ask = Exposure & {
  /** What the node asks for: cumulative over the job, and no more than a wish. */
  need: bigint;
  /** The signed mark. */
  signed: bigint;
  /** The deposit that the chain shows. */
  deposit: bigint;
  maxCharge: bigint;
  /** What the day's budget still holds. */
  dayLeft: bigint;
  /** What block time is now, and was when the job opened. */
  now: number;
  openedAt: number;
  deadline: number;
};

/** `sign` up to an amount; `keep` the mark until more has arrived, or because it covers the need. */
export type Decision = { kind: "sign"; amount: bigint } | { kind: "keep" };

/** What a request may have cost by now, with what is paid ahead: no `need` of a node raises it. */
export function allowanceOf(exposure: Exposure): bigint {
  const { prices, openingFee, promptTokens, arrivedTokens, aheadTokens, maxTokens } = exposure;
  const completionTokens = Math.min(arrivedTokens + aheadTokens, maxTokens);
  return chargeOf([{ promptTokens, completionTokens }], prices, openingFee);
}

/**
 * Decides on a node's wish: at most the allowance, the deposit, the job's limit and the day's budget, never below the
 * mark. Throws `job-expired` past the deadline's margin and `over-budget` when a limit of the user's is reached.
 */
export function decide(ask: Ask): Decision {
  const { need, signed, deposit, maxCharge, dayLeft } = ask;
  if (need <= signed) return { kind: "keep" };
  if (ask.now >= ask.deadline - marginSeconds(ask.openedAt, ask.deadline)) throw pastMargin();
  const limit = least(deposit, maxCharge, signed + most(dayLeft, 0n));
  const allowance = allowanceOf(ask);
  if (limit <= signed && allowance > signed) throw overBudget(ask, limit);
  const amount = least(need, limit, allowance);
  if (amount <= signed) return { kind: "keep" };
  const isPart = amount < need && amount === allowance;
  if (isPart && amount - signed < stepOf(ask)) return { kind: "keep" };
  return { kind: "sign", amount };
}

function stepOf({ prices, stepTokens }: Exposure): bigint {
  return chargeOf([{ promptTokens: 0, completionTokens: stepTokens }], prices);
}

function pastMargin(): InfernetError {
  return new InfernetError("job-expired", "the job is too near its deadline to sign for more of it", {
    hint: "Open a new job; what this one did not use comes back.",
  });
}

function overBudget({ need, signed, deposit, maxCharge }: Ask, limit: bigint): InfernetError {
  const [name, hint] =
    limit === deposit
      ? ["the job's deposit", "Ask for fewer tokens, or allow a higher charge."]
      : limit === maxCharge
        ? ["the most that this job may cost", "Allow a higher charge for it, or ask for fewer tokens."]
        : ["today's budget", "Raise the daily budget, or wait until tomorrow (UTC)."];
  return new InfernetError("over-budget", `the node needs ${need}, but ${signed} reaches ${name}`, {
    hint,
    data: { need: need.toString(), signed: signed.toString() },
  });
}

export type ReceiptDesk = {
  /** The current receipt of a job, after raising its mark as far as `decide` allows for this need. */
  sign(
    jobId: Hex,
    need: bigint,
    exposure: Exposure,
    seen: { lastEventId: number; transcript: Hex; now: number },
  ): Receipt;
  /**
   * Keeps a consent of a planned job and signs for its opening fee: nothing may leave before this is durable. Throws
   * `over-budget`.
   */
  signOpening(jobId: Hex, kept: KeptConsent): void;
  /** The first receipt of a job that its node opens: of the opening fee. */
  openingReceipt(jobId: Hex): Receipt;
  /** What receipts may still promise today. */
  dayLeft(): bigint;
};

const SECONDS_PER_DAY = 86_400;

/** The desk that signs receipts with the session keys of one seed, inside one ledger's budget. */
export function createReceiptDesk(deps: {
  ledger: RequesterLedger;
  domain: Domain;
  seed: Hex;
  limits: BudgetLimits;
  clock: Clock;
}): ReceiptDesk {
  const { ledger, domain, seed, limits, clock } = deps;
  const today = () => Math.floor(clock.nowSeconds() / SECONDS_PER_DAY);
  const dayLeft = () => most(limits.perDay - ledger.spentOn(today()), 0n);
  const signReceipt = (jobId: Hex, saltIndex: number, amount: bigint, transcript: Hex): Receipt => {
    const unsigned = { jobId, amount, transcript };
    const signature = sessionSigner(seed, saltIndex).signDigest(receiptDigest(domain, unsigned));
    return { ...unsigned, signature: toCompactSignature(signature) };
  };
  return {
    dayLeft,
    signOpening(jobId, { consent, openingFee }) {
      ledger.transact(() => {
        const { maxCharge, deposit } = mustFind(ledger, jobId);
        if (openingFee > least(maxCharge, limits.perJob, deposit, dayLeft()))
          throw new InfernetError(
            "over-budget",
            "the node's fee for opening the job is above what it may cost",
            {
              hint: "Allow a higher charge, pay the gas yourself (--gas own), or choose another node.",
              data: { openingFee: openingFee.toString() },
            },
          );
        ledger.noteConsent(jobId, { consent, openingFee, day: today() });
      });
    },
    openingReceipt(jobId) {
      const { terms, openingFee } = mustFind(ledger, jobId);
      return signReceipt(jobId, terms!.saltIndex, openingFee, ZERO_WORD);
    },
    sign(jobId, need, exposure, { lastEventId, transcript, now }) {
      // Judged and kept in one durable transaction: only then is there a signature that could leave.
      const { amount, saltIndex } = ledger.transact(() => {
        const kept = ledger.findJob(jobId);
        if (kept?.terms == null || kept.openedAt === null)
          throw new InfernetError("job-not-found", `the ledger holds no open job ${jobId}`);
        const { signed, deposit, openedAt, job, terms } = kept;
        const maxCharge = least(kept.maxCharge, limits.perJob);
        const { deadline } = job;
        const limited = { signed, deposit, maxCharge, dayLeft: dayLeft(), now, openedAt, deadline };
        const decision = decide({ ...exposure, ...limited, need });
        if (decision.kind === "sign")
          ledger.raiseMark(jobId, { amount: decision.amount, lastEventId, day: today() });
        return {
          amount: decision.kind === "sign" ? decision.amount : signed,
          saltIndex: terms.saltIndex,
        };
      });
      return signReceipt(jobId, saltIndex, amount, transcript);
    },
  };
}

function mustFind(ledger: RequesterLedger, jobId: Hex): LedgerJob {
  const kept = ledger.findJob(jobId);
  if (kept) return kept;
  throw new InfernetError("job-not-found", `the ledger holds no job ${jobId}`);
}

/** The throw-away key that signs one job's receipts. */
export function sessionSigner(seed: Hex, saltIndex: number) {
  return createSigner(deriveSecret(seed, `signer:${saltIndex}`));
}

/** What proves to the node that a job is the sender's. */
export function jobSalt(seed: Hex, saltIndex: number): Hex {
  return deriveSecret(seed, `salt:${saltIndex}`);
}
