// Owns sending transactions of one key: nonces in order, persisted before broadcast, followed until they are mined.
import { setTimeout as delay } from "node:timers/promises";
import { Transaction } from "ethers";
import { type Address, type Hex, toAddress } from "../protocol/bytes.ts";
import { InfernetError } from "../protocol/errors.ts";
import { backoffMs } from "./backoff.ts";
import type { Call } from "./calls.ts";
import type { Chain } from "./chain.ts";
import { checkAffordable, explainRevert, readFees, simulate } from "./fees.ts";
import { RpcError } from "./rpc.ts";

/** A key that signs digests: r || s || v, 65 bytes. */
export type DigestSigner = { address: Address; signDigest(digest: Hex): Hex };

/** What must be kept to follow a transaction through a crash. */
export type SignedTransaction = { hash: Hex; raw: Hex; nonce: number };

/** A mined transaction; `feeWei` is what its gas cost. */
export type TransactionOutcome = {
  hash: Hex;
  block: number;
  gasUsed: bigint;
  feeWei: bigint;
  status: "success" | "reverted";
};

export type Sender = {
  /**
   * Simulates, signs, persists, broadcasts and waits until mined. Throws `transaction-failed` when the contract
   * refuses, before or after mining (then `data.tx` is set), and `insufficient-funds` when gas cannot be paid.
   * `onSigned` ends before the broadcast begins. It may be called again: what it got before can then never be mined.
   */
  send(
    call: Call,
    onSigned?: (transaction: SignedTransaction) => void | Promise<void>,
  ): Promise<TransactionOutcome>;
  /** Follows a transaction of an earlier run: broadcasts it again unless it is mined. "replaced": it never will be. */
  resume(transaction: SignedTransaction): Promise<TransactionOutcome | "replaced">;
};

type Broadcast = "accepted" | "nonce-taken" | "fee-too-low";

const SIGNING_ATTEMPTS = 5;
const FIRST_POLL_MS = 20;
const LAST_POLL_MS = 1_000;
/** Polls without a receipt after which the transaction is broadcast again, in case the RPC forgot it. */
const POLLS_PER_BROADCAST = 30;
/** How long a nonce must be used without a receipt of ours: servers of one RPC may lag behind each other. */
const REPLACED_AFTER_MS = 1_500;

/** A sender of this key. One process must use one sender per key and chain, which keeps the nonces in order. */
export function createSender(chain: Chain, signer: DigestSigner): Sender {
  const { rpc } = chain;
  const from = signer.address;
  /** The nonce after the last one that was broadcast here. */
  let nextNonce = 0;
  let queue: Promise<unknown> = Promise.resolve();

  /** One transaction at a time gets its nonce and is broadcast; waiting for them to be mined overlaps. */
  function inOrder<Result>(work: () => Promise<Result>): Promise<Result> {
    const result = queue.then(work);
    queue = result.catch(() => {});
    return result;
  }

  async function countTransactions(tag: "latest" | "pending"): Promise<number> {
    return Number(await rpc.call<Hex>("eth_getTransactionCount", [from, tag]));
  }

  async function signAndBroadcast(
    call: Call,
    onSigned: (transaction: SignedTransaction) => void | Promise<void>,
  ): Promise<SignedTransaction> {
    const gasLimit = await simulate(rpc, from, call);
    let nonce = Math.max(nextNonce, await countTransactions("pending"));
    for (let attempt = 0; attempt < SIGNING_ATTEMPTS; attempt++) {
      const { maxFeePerGas, maxPriorityFeePerGas } = await readFees(rpc);
      await checkAffordable(rpc, from, chain.chainId, gasLimit * maxFeePerGas);
      const fees = { gasLimit, maxFeePerGas: maxFeePerGas << BigInt(attempt), maxPriorityFeePerGas };
      const signed = sign(signer, { chainId: chain.chainId, to: call.to, data: call.data, nonce, ...fees });
      await onSigned(signed);
      const answer = await broadcast(signed);
      if (answer === "accepted") {
        nextNonce = nonce + 1;
        return signed;
      }
      // Another sender of this key, or an earlier run, holds that nonce.
      if (answer === "nonce-taken") nonce = Math.max(nonce + 1, await countTransactions("pending"));
    }
    throw new InfernetError("transaction-failed", `${call.label} was not accepted by the RPC`, {
      hint: "Is another program sending with the same key? Try again when it is done.",
    });
  }

  async function broadcast(transaction: SignedTransaction): Promise<Broadcast> {
    try {
      await rpc.call("eth_sendRawTransaction", [transaction.raw]);
      return "accepted";
    } catch (error) {
      if (!(error instanceof RpcError)) throw error;
      if (/known transaction|already (known|imported|exists)|already in (the )?mempool/i.test(error.reason)) {
        return "accepted";
      }
      // An RPC that mines at once may complain of a transaction that it has mined.
      if (await findOutcome(transaction.hash)) return "accepted";
      if (/replacement transaction|same nonce/i.test(error.reason)) return "nonce-taken";
      // It may be ours that took the nonce, when an answer was lost: signing anew at once could do the same thing twice.
      if (/nonce.{0,20}too low/i.test(error.reason)) {
        return (await follow(transaction)) === "replaced" ? "nonce-taken" : "accepted";
      }
      if (/underpriced|base ?fee|fee (cap )?(too low|less)/i.test(error.reason)) return "fee-too-low";
      throw refusal(error);
    }
  }

  function refusal(error: RpcError): InfernetError {
    if (!/insufficient (funds|balance)|enough funds/i.test(error.reason)) return error;
    return new InfernetError("insufficient-funds", `${from} cannot pay for gas on chain ${chain.chainId}`, {
      hint: `Send some of the chain's own coin to ${from} on chain ${chain.chainId}.`,
      cause: error,
    });
  }

  async function findOutcome(hash: Hex): Promise<TransactionOutcome | undefined> {
    const receipt = await rpc.call<RawReceipt | null>("eth_getTransactionReceipt", [hash]);
    if (!receipt) return undefined;
    const gasUsed = BigInt(receipt.gasUsed);
    return {
      hash,
      block: Number(receipt.blockNumber),
      gasUsed,
      // Roll-ups charge for the layer below on top.
      feeWei: gasUsed * BigInt(receipt.effectiveGasPrice) + BigInt(receipt.l1Fee ?? 0),
      status: receipt.status === "0x1" ? "success" : "reverted",
    };
  }

  async function follow(transaction: SignedTransaction): Promise<TransactionOutcome | "replaced"> {
    let takenSince = Number.POSITIVE_INFINITY;
    for (let polls = 0; ; polls++) {
      const mined = await countTransactions("latest");
      const outcome = await findOutcome(transaction.hash);
      if (outcome) return outcome;
      if (mined > transaction.nonce) {
        takenSince = Math.min(takenSince, performance.now());
        if (performance.now() - takenSince > REPLACED_AFTER_MS) return "replaced";
      }
      if (polls % POLLS_PER_BROADCAST === POLLS_PER_BROADCAST - 1) await broadcast(transaction);
      const pauseMs = backoffMs(Math.floor(polls / 4), FIRST_POLL_MS, LAST_POLL_MS);
      // When the RPC is closed the next call says so.
      await delay(pauseMs, undefined, { signal: rpc.closed }).catch(() => {});
    }
  }

  return {
    async send(call, onSigned = () => {}) {
      const signed = await inOrder(() => signAndBroadcast(call, onSigned));
      const outcome = await follow(signed);
      if (outcome === "replaced") {
        throw new InfernetError("transaction-failed", `${call.label} was replaced by another transaction`, {
          hint: "Another program sends with the same key. Try again.",
        });
      }
      if (outcome.status === "success") return outcome;
      const reason = await explainRevert(rpc, from, call, outcome.block);
      throw new InfernetError("transaction-failed", reason.message, {
        cause: reason,
        data: { ...reason.data, tx: outcome.hash, block: outcome.block, feeWei: String(outcome.feeWei) },
      });
    },
    async resume(transaction) {
      await inOrder(async () => {
        if (await findOutcome(transaction.hash)) return;
        if ((await countTransactions("latest")) > transaction.nonce) return;
        await broadcast(transaction);
        nextNonce = Math.max(nextNonce, transaction.nonce + 1);
      });
      return await follow(transaction);
    },
  };
}

type RawReceipt = { blockNumber: Hex; gasUsed: Hex; effectiveGasPrice: Hex; status: Hex; l1Fee?: Hex };

type TransactionTerms = {
  chainId: number;
  to: Address;
  data: Hex;
  nonce: number;
  gasLimit: bigint;
  maxFeePerGas: bigint;
  maxPriorityFeePerGas: bigint;
};

function sign(signer: DigestSigner, terms: TransactionTerms): SignedTransaction {
  const transaction = Transaction.from({ type: 2, value: 0n, ...terms });
  transaction.signature = signer.signDigest(transaction.unsignedHash as Hex);
  if (toAddress(String(transaction.from)) !== signer.address) {
    throw new TypeError("the signature is not the signer's");
  }
  return { hash: transaction.hash as Hex, raw: transaction.serialized as Hex, nonce: terms.nonce };
}
