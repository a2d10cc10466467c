// Owns what each job's receipt covers: shared among its requests in order of arrival, never more than is signed for.
import type { Hex } from "../protocol/bytes.ts";
import { InfernetError } from "../protocol/errors.ts";
import { least, roundCharge } from "../protocol/price.ts";
import type { JobLedger } from "./job-ledger.ts";
import type { LedgerJob } from "./ledger-rows.ts";
import { millionthsOf } from "./metering.ts";

/** A request's share of its job's receipt, in millionths of a base unit. */
export type Seat = {
  /** What the request may cost in all, of which every millionth is signed for. */
  covered(): bigint;
  /** What it may cost once all that it asked for is signed for. */
  asked(): bigint;
  /**
   * Asks that the request may cost `cover` in all. Returns undefined when that is covered or asked for already, else the
   * cumulative amount, in base units, that a receipt must reach.
   */
  ask(cover: bigint): bigint | undefined;
  /** Resolves to true as soon as `cover` is covered, to false after `timeoutMs` or when the signal aborts. */
  waitFor(cover: bigint, timeoutMs: number, signal: AbortSignal): Promise<boolean>;
  /** Takes back what it asked for and has not got: the next request's receipts are not for one that nobody listens to. */
  withdraw(): void;
  /** Gives up the share; the ledger holds what the request cost. Idempotent. */
  leave(): void;
};

export type Admission = {
  /** Takes a seat of `cover` millionths. Throws `receipt-too-small` with the `need` of the job. */
  admit(job: LedgerJob, cover: bigint): Seat;
  /** Hands out what a job's receipt now covers; to be called after every accepted receipt. */
  grant(jobId: Hex): void;
};

type Place = { covered: bigint; asked: bigint; waiters: Set<() => void> };
/**
 * `settled` is what the job's opening and its ended requests cost. `asks` stand in order, so that a `need` once told
 * stays true: it counts all that was asked before it, and what its place asks later comes after others' asks.
 */
type Account = { settled: bigint; places: Set<Place>; asks: { place: Place; cover: bigint }[] };

export function createAdmission(ledger: JobLedger): Admission {
  const accounts = new Map<Hex, Account>();

  const receiptOf = (jobId: Hex) => ledger.findJob(jobId)?.receipt?.amount ?? 0n;

  const settledOf = ({ openingFee, endedCost }: LedgerJob) => millionthsOf(openingFee) + endedCost;

  const grant = (jobId: Hex): void => {
    const account = accounts.get(jobId);
    if (!account) return;
    const signed = millionthsOf(receiptOf(jobId));
    let free = signed - committed(account);
    while (free > 0n && account.asks.length > 0) {
      // What is signed for is handed out though it is less than asked: a careful requester signs in small steps.
      const { place, cover } = account.asks[0]!;
      const given = least(free, cover - place.covered);
      place.covered += given;
      free -= given;
      if (place.covered === cover) account.asks.shift();
      for (const wake of place.waiters) wake();
    }
  };

  const seatOf = (job: LedgerJob, account: Account, place: Place): Seat => ({
    covered: () => place.covered,
    asked: () => place.asked,
    ask(cover) {
      if (cover <= place.covered || cover <= place.asked) return undefined;
      place.asked = cover;
      account.asks.push({ place, cover });
      grant(job.jobId);
      return place.covered >= cover ? undefined : roundCharge(committed(account) + asked(account));
    },
    withdraw() {
      if (place.asked === place.covered) return;
      place.asked = place.covered;
      account.asks = account.asks.filter((ask) => ask.place !== place);
      grant(job.jobId);
    },
    waitFor: (cover, timeoutMs, signal) => waitFor(place, cover, timeoutMs, signal),
    leave() {
      if (!account.places.delete(place)) return;
      account.asks = account.asks.filter((ask) => ask.place !== place);
      // Only the ledger knows what the request came to; an account is read from it again when it is next needed.
      if (account.places.size === 0) accounts.delete(job.jobId);
      else account.settled = settledOf(ledger.findJob(job.jobId) ?? job);
      grant(job.jobId);
    },
  });

  return {
    admit(job, cover) {
      const account: Account = accounts.get(job.jobId) ?? {
        settled: settledOf(job),
        places: new Set(),
        asks: [],
      };
      const need = roundCharge(committed(account) + asked(account) + cover);
      const amount = receiptOf(job.jobId);
      if (need > amount) {
        throw new InfernetError("receipt-too-small", `a receipt of ${need} is needed, ${amount} is signed`, {
          hint: "Sign a receipt of at least `need` base units and send the request again: nothing was charged.",
          data: { need: need.toString() },
        });
      }
      const place: Place = { covered: cover, asked: cover, waiters: new Set() };
      account.places.add(place);
      accounts.set(job.jobId, account);
      return seatOf(job, account, place);
    },
    grant,
  };
}

/** Millionths that the job has cost and its running requests may cost. */
function committed({ settled, places }: Account): bigint {
  return [...places].reduce((sum, place) => sum + place.covered, settled);
}

/** Millionths that its requests wait for. */
function asked({ places }: Account): bigint {
  return [...places].reduce((sum, place) => sum + place.asked - place.covered, 0n);
}

function waitFor(place: Place, cover: bigint, timeoutMs: number, signal: AbortSignal): Promise<boolean> {
  if (place.covered >= cover) return Promise.resolve(true);
  return new Promise((resolve) => {
    const settle = () => {
      clearTimeout(timer);
      place.waiters.delete(look);
      signal.removeEventListener("abort", settle);
      resolve(place.covered >= cover);
    };
    const look = () => {
      if (place.covered >= cover) settle();
    };
    const timer = setTimeout(settle, timeoutMs);
    place.waiters.add(look);
    signal.addEventListener("abort", settle, { once: true });
    if (signal.aborted) settle();
  });
}
