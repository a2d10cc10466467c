// Owns how each act on the contracts is encoded: pure functions from terms to a call that a sender can send.
import type { Interface } from "ethers";
import type { Address, Hex } from "../protocol/bytes.ts";
import type { Withdrawal } from "../protocol/consent.ts";
import type { Job } from "../protocol/job.ts";
import type { ListedModel } from "../protocol/offer.ts";
import type { Receipt } from "../protocol/receipt.ts";
import { ESCROW, REGISTRY, USDC } from "./contracts.ts";
import type { Deployment } from "./deployments.ts";

/**
 * What a transaction does; `label` is its name for people: "open", "settle"… A call that needs more gas than `gasCap`
 * is not sent.
 */
export type Call = { to: Address; data: Hex; label: string; gasCap?: bigint };

/** One claim or settlement: `amount` in USDC base units, at most the receipt's. */
export type ClaimItem = { job: Job; receipt: Receipt; amount: bigint };

/** An EIP-3009 authorisation of the wallet that pays: Unix seconds, exclusive at both ends; `signature` r || s || v. */
export type Authorization = { validAfter: number; validBefore: number; signature: Hex };

/** A signature of the credit's owner over what is done with it; a smart wallet's has any length. */
export type Consent = { validBefore: number; signature: Hex };

/** All acts, by name. Amounts in USDC base units. */
export type Calls = ReturnType<typeof createCalls>;

export function createCalls({ registry, escrow, usdc }: Deployment) {
  return {
    // By a node, or its payee where it says so.
    register: (payee: Address, endpoint: string, models: readonly ListedModel[]) =>
      encode(REGISTRY, registry, "register", [payee, endpoint, models]),
    setEndpoint: (endpoint: string) => encode(REGISTRY, registry, "setEndpoint", [endpoint]),
    setModels: (models: readonly ListedModel[]) => encode(REGISTRY, registry, "setModels", [models]),
    setActive: (active: boolean) => encode(REGISTRY, registry, "setActive(bool)", [active]),
    /** By the payee: switches `node` off. */
    deactivate: (node: Address) => encode(REGISTRY, registry, "setActive(address,bool)", [node, false]),
    /** By the payee: hands the node's future earnings, and this right, to another. */
    setPayee: (node: Address, payee: Address) => encode(REGISTRY, registry, "setPayee", [node, payee]),

    // By a requester, the authorised ones by anyone.
    approveUsdc: (amount: bigint) => encode(USDC, usdc, "approve", [escrow, amount]),
    deposit: (amount: bigint) => encode(ESCROW, escrow, "deposit", [amount]),
    depositWithAuthorization: (owner: Address, amount: bigint, salt: Hex, by: Authorization) =>
      encode(ESCROW, escrow, "depositWithAuthorization", [owner, amount, salt, ...authorizationWords(by)]),
    withdraw: (to: Address, amount: bigint) => encode(ESCROW, escrow, "withdraw", [to, amount]),
    withdrawWithSignature: ({ owner, to, amount, fee, nonce, validBefore }: Withdrawal, signature: Hex) =>
      encode(ESCROW, escrow, "withdrawWithSignature", [
        owner,
        to,
        amount,
        fee,
        nonce,
        validBefore,
        signature,
      ]),
    open: (job: Job, amount: bigint) => encode(ESCROW, escrow, "open", [job, amount]),
    openWithSignature: (job: Job, amount: bigint, { validBefore, signature }: Consent) =>
      encode(ESCROW, escrow, "openWithSignature", [job, amount, validBefore, signature]),
    openWithAuthorization: (job: Job, amount: bigint, by: Authorization) =>
      encode(ESCROW, escrow, "openWithAuthorization", [job, amount, ...authorizationWords(by)]),

    // By a job's node or payee; `refund` by anyone after the deadline, `payOut` by anyone.
    claim: (item: ClaimItem) => encode(ESCROW, escrow, "claim", itemWords(item)),
    claimBatch: (items: readonly ClaimItem[]) => encode(ESCROW, escrow, "claimBatch", [items.map(itemWords)]),
    settle: (item: ClaimItem) => encode(ESCROW, escrow, "settle", itemWords(item)),
    settleBatch: (items: readonly ClaimItem[]) =>
      encode(ESCROW, escrow, "settleBatch", [items.map(itemWords)]),
    refund: (job: Job) => encode(ESCROW, escrow, "refund", [job]),
    payOut: (payee: Address) => encode(ESCROW, escrow, "payOut", [payee]),

    /** On local chains only: their test token gives itself away. */
    mintTestUsdc: (to: Address, amount: bigint) => encode(USDC, usdc, "mint", [to, amount]),
  };
}

function encode(abi: Interface, to: Address, method: string, args: readonly unknown[]): Call {
  const label = method.split("(")[0]!;
  return { to, data: abi.encodeFunctionData(method, args) as Hex, label };
}

function authorizationWords({ validAfter, validBefore, signature }: Authorization): unknown[] {
  return [validAfter, validBefore, signature];
}

/** The Escrow's `Item` as the ABI orders it; the receipt's compact signature falls into its two words. */
function itemWords({ job, receipt, amount }: ClaimItem): unknown[] {
  const r = receipt.signature.slice(0, 66);
  const vs = `0x${receipt.signature.slice(66)}`;
  return [job, { amount: receipt.amount, transcript: receipt.transcript, r, vs }, amount];
}
