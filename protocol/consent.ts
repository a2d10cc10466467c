// Owns what an owner of credit signs so that others may move it for them: an opening from credit, and a withdrawal.
import type { Address, Hex } from "./bytes.ts";
import { JOB_TYPE, type Job } from "./job.ts";
import { type Domain, type StructType, typedDataDigest } from "./typed-data.ts";

export const OPEN_TYPE: StructType = {
  name: "Open",
  fields: [
    ["job", JOB_TYPE],
    ["amount", "uint96"],
    ["validBefore", "uint40"],
  ],
};

/** A withdrawal that anyone may bring, who earns `fee` on top of `amount`. Each `nonce` of an owner serves once. */
export type Withdrawal = {
  owner: Address;
  to: Address;
  amount: bigint;
  fee: bigint;
  nonce: Hex;
  validBefore: number;
};

export const WITHDRAW_TYPE: StructType = {
  name: "Withdraw",
  fields: [
    ["owner", "address"],
    ["to", "address"],
    ["amount", "uint96"],
    ["fee", "uint96"],
    ["nonce", "bytes32"],
    ["validBefore", "uint40"],
  ],
};

/** What a requester signs to open a job from its credit; valid while block time < `validBefore`. */
export function openDigest(domain: Domain, job: Job, amount: bigint, validBefore: number): Hex {
  return typedDataDigest(domain, OPEN_TYPE, { job, amount, validBefore });
}

/** What an owner signs to withdraw; valid while block time < `validBefore`. */
export function withdrawDigest(domain: Domain, withdrawal: Withdrawal): Hex {
  return typedDataDigest(domain, WITHDRAW_TYPE, withdrawal);
}
