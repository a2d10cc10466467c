// Owns every receipt: what a requester may sign, and the only place where it does. Amounts in USDC base units.
import { type Address, type Hex, ZERO_WORD } from "../protocol/bytes.ts";
import { InfernetError } from "../protocol/errors.ts";
import { marginSeconds } from "../protocol/funding.ts";
import { chargeOf, least, most, type Prices, roundCharge } from "../protocol/price.ts";
import { type Receipt, receiptDigest } from "../protocol/receipt.ts";
import type { Domain } from "../protocol/typed-data.ts";
import type { Clock } from "../runtime/clock.ts";
import { createSigner, deriveSecret, toCompactSignature } from "../runtime/signers/secp256k1.ts";
import type { RequesterLedger } from "./ledger.ts";
import type { KeptConsent, LedgerJob } from "./ledger-rows.ts";

/** The most that receipts may promise, in USDC base units. */
export type BudgetLimits = {
  /** For one request, whatever its caller allows. */
  perRequest: bigint;
  /** For one job: a session, or a single request's. */
  perJob: bigint;
  /** In one UTC day: over all jobs, and to one node. */
  perDay: bigint;
  perNode: bigint;
  /** To a node that has not delivered anything yet, in all. */
  perNewNode: bigint;
};

/** What can stop a signature; those that begin with "max" and "Usdc" are settings. */
export type LimitName =
  | "deposit"
  | "maxCharge"
  | "maxUsdcPerRequest"
  | "maxUsdcPerDay"
  | "maxUsdcPerNode"
  | "maxUsdcPerNewNode";

/** What a budget still holds, in USDC base units. */
export type Left = { limit: LimitName; amount: bigint };

const raise = (setting: LimitName) => `Raise it: infernet config set requester.${setting} AMOUNT`;

/** What each limit is to a person, and what can be done about it. */
export const LIMIT_WORDS: Record<LimitName, readonly [name: string, hint: string]> = {
  deposit: ["the job's deposit", "Ask for fewer tokens, or allow a higher charge."],
  maxCharge: [
    "the most that this job may cost",
    "Allow a higher charge for it (--max-usdc; or the settings requester.maxUsdcPerRequest and maxUsdcPerJob), or ask for fewer tokens.",
  ],
  maxUsdcPerRequest: [
    "the most that this request may cost",
    `Ask for fewer tokens, allow a higher charge for it, or raise the limit: infernet config set requester.maxUsdcPerRequest AMOUNT.`,
  ],
  maxUsdcPerDay: ["today's budget", `${raise("maxUsdcPerDay")}, or wait until tomorrow (UTC).`],
  maxUsdcPerNode: ["today's budget for this node", `${raise("maxUsdcPerNode")}, or choose another node.`],
  maxUsdcPerNewNode: [
    "the budget for a node that has not delivered yet",
    `${raise("maxUsdcPerNewNode")}, or choose another node.`,
  ],
};

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
  /** What the budgets still hold. */
  left: readonly Left[];
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
 * Decides on a node's wish: at most the allowance, the deposit, the job's limit and what the budgets hold, never below
 * the mark. Throws `job-expired` past the deadline's margin and `over-budget` when a limit of the user's is reached.
 */
export function decide(ask: Ask): Decision {
  return judge(ask, allowanceOf(ask), stepOf(ask));
}

/** A session's requests as one: what they may have cost by now with what is paid ahead, and what raise is worth it. */
export type SessionAsk = Omit<Ask, keyof Exposure> & {
  openingFee: bigint;
  /** Millionths of a base unit: what ended requests cost, what is reserved for lost ones, what active ones may cost. */
  ended: bigint;
  active: bigint;
  /** In base units. */
  step: bigint;
};

/** The same for a session: no `need` raises it above what all of its requests may have cost together, rounded once. */
export function decideSession(ask: SessionAsk): Decision {
  return judge(ask, ask.openingFee + roundCharge(ask.ended + ask.active), ask.step);
}

function judge(ask: Omit<Ask, keyof Exposure>, allowance: bigint, step: bigint): Decision {
  const { need, signed } = ask;
  if (need <= signed) return { kind: "keep" };
  if (ask.now >= ask.deadline - marginSeconds(ask.openedAt, ask.deadline)) throw pastMargin();
  const [limit, name] = lowestLimit(ask);
  if (limit <= signed && allowance > signed) throw overBudget(ask, name);
  const amount = least(need, limit, allowance);
  if (amount <= signed) return { kind: "keep" };
  const isPart = amount < need && amount === allowance;
  if (isPart && amount - signed < step) return { kind: "keep" };
  return { kind: "sign", amount };
}

function lowestLimit({ deposit, maxCharge, signed, left }: Omit<Ask, keyof Exposure>): [bigint, LimitName] {
  const limits: [bigint, LimitName][] = [
    [deposit, "deposit"],
    [maxCharge, "maxCharge"],
    ...left.map(({ limit, amount }): [bigint, LimitName] => [signed + most(amount, 0n), limit]),
  ];
  return limits.reduce((low, limit) => (limit[0] < low[0] ? limit : low));
}

function stepOf({ prices, stepTokens }: Exposure): bigint {
  return chargeOf([{ promptTokens: 0, completionTokens: stepTokens }], prices);
}

function pastMargin(): InfernetError {
  return new InfernetError("job-expired", "the job is too near its deadline to sign for more of it", {
    hint: "Open a new job; what this one did not use comes back.",
  });
}

function overBudget({ need, signed }: { need: bigint; signed: bigint }, limit: LimitName): InfernetError {
  const [name, hint] = LIMIT_WORDS[limit];
  return new InfernetError("over-budget", `the node needs ${need}, but ${signed} reaches ${name}`, {
    hint,
    data: { need: need.toString(), signed: signed.toString(), limit },
  });
}

/** What the active requests of a session come to, as its account reckons it. Amounts in millionths of a base unit. */
export type SessionStanding = {
  active: bigint;
  /** In base units: the smallest raise that is worth a receipt. */
  step: bigint;
  /** What may be signed for each request by this reckoning: kept beside the mark. */
  shares: readonly { requestId: Hex; allowed: bigint }[];
  now: number;
};

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
  /**
   * The current receipt of a session, after raising its mark as far as `decideSession` allows for this need; a receipt
   * that is held and still current is returned as it is. `begin` is kept in the same transaction as the mark. `ended` is
   * what the ledger knows of the session's other requests, in millionths.
   */
  signSession(
    jobId: Hex,
    need: bigint,
    standing: SessionStanding,
    more?: { held?: Receipt | undefined; begin?(): void },
  ): { receipt: Receipt; ended: bigint };
  /** What receipts may still promise today. */
  dayLeft(): bigint;
  /** What receipts to this node may still promise, and by which limit. */
  leftFor(node: Address): Left;
  /** The most that a new request may cost: what is wished within the budgets. Throws `over-budget` when nothing is left. */
  affordable(wished: bigint | undefined, node?: Address): bigint;
};

/** Budgets are of UTC days. */
export const SECONDS_PER_DAY = 86_400;

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
  const leftOf = (node: Address): Left[] => {
    const { onDay, ever } = ledger.spentWith(node, today());
    const left: Left[] = [
      { limit: "maxUsdcPerDay", amount: dayLeft() },
      { limit: "maxUsdcPerNode", amount: most(limits.perNode - onDay, 0n) },
    ];
    if (!ledger.hasHistory(node))
      left.push({ limit: "maxUsdcPerNewNode", amount: most(limits.perNewNode - ever, 0n) });
    return left;
  };
  const leftFor = (node: Address) =>
    leftOf(node).reduce((low, left) => (left.amount < low.amount ? left : low));
  const signReceipt = (jobId: Hex, saltIndex: number, amount: bigint, transcript: Hex): Receipt => {
    const unsigned = { jobId, amount, transcript };
    const signature = sessionSigner(seed, saltIndex).signDigest(receiptDigest(domain, unsigned));
    return { ...unsigned, signature: toCompactSignature(signature) };
  };
  return {
    dayLeft,
    leftFor,
    affordable(wished = limits.perRequest, node) {
      const left: Left = node === undefined ? { limit: "maxUsdcPerDay", amount: dayLeft() } : leftFor(node);
      if (left.amount === 0n) {
        const [name, hint] = LIMIT_WORDS[left.limit];
        throw new InfernetError("over-budget", `${name} is spent`, { hint, data: { limit: left.limit } });
      }
      return least(wished, limits.perRequest, limits.perJob, left.amount);
    },
    signOpening(jobId, { consent, openingFee }) {
      ledger.transact(() => {
        const { maxCharge, deposit, job } = mustFind(ledger, jobId);
        if (openingFee > least(maxCharge, limits.perJob, deposit, leftFor(job.node).amount))
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
        const limited = { signed, deposit, maxCharge, left: leftOf(job.node), now, openedAt, deadline };
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
    signSession(jobId, need, { active, step, shares, now }, { held, begin } = {}) {
      const { amount, saltIndex, ended } = ledger.transact(() => {
        begin?.();
        const kept = ledger.findJob(jobId);
        if (kept?.terms == null || kept.openedAt === null || !["open", "streaming"].includes(kept.phase))
          throw new InfernetError("job-closed", `the session ${jobId} is not open any more`);
        if (kept.evidence !== null)
          throw new InfernetError(
            "node-misbehaved",
            "the node lied: nothing more is signed for this session",
          );
        const { signed, deposit, openingFee, openedAt, job, terms } = kept;
        const maxCharge = least(kept.maxCharge, limits.perJob);
        const { deadline } = job;
        const limited = { signed, deposit, maxCharge, left: leftOf(job.node), now, openedAt, deadline };
        const ended = kept.settled + kept.lost;
        const decision = decideSession({ ...limited, need, openingFee, ended, active, step });
        if (decision.kind === "sign")
          ledger.raiseMark(jobId, { amount: decision.amount, lastEventId: 0, day: today() });
        for (const { requestId, allowed } of shares) ledger.requests.allow(requestId, allowed);
        return {
          amount: decision.kind === "sign" ? decision.amount : signed,
          saltIndex: terms.saltIndex,
          ended,
        };
      });
      const receipt = held?.amount === amount ? held : signReceipt(jobId, saltIndex, amount, ZERO_WORD);
      return { receipt, ended };
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
