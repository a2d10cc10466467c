// Owns the Escrow's rules in plain TypeScript, without chain, clock or signatures: what a simulator can run.
import type { Address, Hex } from "../../protocol/bytes.ts";

/** What the model needs to know of a job. */
export interface ModelJob {
  id: Hex;
  requester: Address;
  signer: Address;
  node: Address;
  payee: Address;
  deadlineSeconds: number;
}

/** One job's money, in base units. */
export interface ModelState {
  deposit: bigint;
  claimed: bigint;
  status: "none" | "open" | "closed";
}

/** A receipt whose signature recovers to `signedBy`. */
export interface ModelReceipt {
  amount: bigint;
  jobId: Hex;
  signedBy: Address;
}

/** A claim or settlement; `by` is the caller. */
export interface ModelCapture {
  job: ModelJob;
  receipt: ModelReceipt;
  amount: bigint;
}

/** The error that the contract reverts with, or undefined after success. */
export type Fault = string | undefined;

const MAX_JOB_SECONDS = 30 * 86_400;

/** The Escrow: every method is one call, changes nothing when it gives a fault, and takes times in Unix seconds. */
export class EscrowModel {
  readonly credit = new Map<Address, bigint>();
  readonly earned = new Map<Address, bigint>();
  readonly states = new Map<Hex, ModelState>();
  balance = 0n;
  readonly #escrow: Address;

  constructor(escrow: Address) {
    this.#escrow = escrow;
  }

  stateOf(id: Hex): ModelState {
    return this.states.get(id) ?? { deposit: 0n, claimed: 0n, status: "none" };
  }

  deposit(owner: Address, amount: bigint): Fault {
    if (amount === 0n) return "EscrowZeroAmount";
    add(this.credit, owner, amount);
    this.balance += amount;
    return undefined;
  }

  withdraw(owner: Address, to: Address, amount: bigint): Fault {
    if (amount === 0n) return "EscrowZeroAmount";
    if (to === this.#escrow || BigInt(to) === 0n) return "EscrowBadRecipient";
    const fault = this.#spend(owner, amount);
    if (fault === undefined) this.balance -= amount;
    return fault;
  }

  open(by: Address, job: ModelJob, amount: bigint, now: number): Fault {
    if (by !== job.requester) return "EscrowNotRequester";
    if ((this.credit.get(by) ?? 0n) < amount) return "EscrowCreditTooLow";
    if (this.stateOf(job.id).status !== "none") return "EscrowJobExists";
    if (amount === 0n) return "EscrowZeroAmount";
    const parties = [job.signer, job.node, job.payee];
    if (parties.some((party) => BigInt(party) === 0n) || job.payee === this.#escrow) {
      return "EscrowBadParties";
    }
    if (job.deadlineSeconds <= now || job.deadlineSeconds > now + MAX_JOB_SECONDS) return "EscrowBadDeadline";
    this.#spend(by, amount);
    this.states.set(job.id, { deposit: amount, claimed: 0n, status: "open" });
    return undefined;
  }

  /** Claims, and closes the job if `closing`. */
  capture(by: Address, { job, receipt, amount }: ModelCapture, closing: boolean): Fault {
    const state = this.stateOf(job.id);
    if (by !== job.node && by !== job.payee) return "EscrowStranger";
    if (state.status !== "open") return "EscrowJobNotOpen";
    if (amount > receipt.amount) return "EscrowAboveReceipt";
    if (receipt.signedBy !== job.signer || receipt.jobId !== job.id) return "EscrowBadReceipt";
    const reached = amount < state.deposit ? amount : state.deposit;
    // biome-ignore lint/complexity/useMathMinMax: money is bigint.
    const claimed = reached > state.claimed ? reached : state.claimed;
    add(this.earned, job.payee, claimed - state.claimed);
    this.states.set(job.id, { ...state, claimed });
    if (closing) this.#close(job);
    return undefined;
  }

  /** Captures each item that would succeed alone; the faults of the others by index. */
  captureBatch(by: Address, items: readonly ModelCapture[], closing: boolean): Map<number, string> {
    const faults = items.map((item) => this.capture(by, item, closing));
    return new Map(faults.flatMap((fault, index) => (fault === undefined ? [] : [[index, fault] as const])));
  }

  refund(by: Address, job: ModelJob, now: number): Fault {
    if (this.stateOf(job.id).status !== "open") return "EscrowJobNotOpen";
    if (now < job.deadlineSeconds && by !== job.node && by !== job.payee) return "EscrowTooEarly";
    this.#close(job);
    return undefined;
  }

  payOut(payee: Address): Fault {
    const amount = this.earned.get(payee) ?? 0n;
    if (amount === 0n) return "EscrowNothingEarned";
    this.earned.set(payee, 0n);
    this.balance -= amount;
    return undefined;
  }

  #spend(owner: Address, amount: bigint): Fault {
    const available = this.credit.get(owner) ?? 0n;
    if (available < amount) return "EscrowCreditTooLow";
    this.credit.set(owner, available - amount);
    return undefined;
  }

  #close(job: ModelJob): void {
    const state = this.stateOf(job.id);
    add(this.credit, job.requester, state.deposit - state.claimed);
    this.states.set(job.id, { ...state, status: "closed" });
  }
}

function add(book: Map<Address, bigint>, account: Address, amount: bigint): void {
  book.set(account, (book.get(account) ?? 0n) + amount);
}
