// Owns moving an account's money into its credit and out of it: by the wallet's own transactions, or by a node's.
import { randomBytes } from "node:crypto";
import type { Call } from "../chain/calls.ts";
import type { Chain } from "../chain/chain.ts";
import type { Sender } from "../chain/sender.ts";
import { type Address, type Hex, toHex } from "../protocol/bytes.ts";
import { withdrawDigest } from "../protocol/consent.ts";
import { depositNonce } from "../protocol/deposit.ts";
import { InfernetError } from "../protocol/errors.ts";
import { formatUsdc } from "../protocol/price.ts";
import { RELAY_SECONDS, type RelayedMove } from "../protocol/relay.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Signer } from "../runtime/signers/secp256k1.ts";
import { readBlockTime } from "./block-time.ts";
import { readFreeMoney } from "./consent.ts";
import { type GasChoice, paysOwnGas } from "./gas.ts";
import type { OwnedMove, RequesterLedger } from "./ledger.ts";
import { relayMove } from "./relays.ts";

export type MoveDeps = {
  chain: Chain;
  ledger: RequesterLedger;
  sender: Sender;
  wallet: Signer;
  account: Address;
  clock: Clock;
  allowPrivate?: boolean;
};

/** `amount` in base units, or all that is free; `node` is the only one that shall send it. */
export type MoveWish = { amount: bigint | "all"; gas?: GasChoice | undefined; node?: Address | undefined };

/** A transaction as far as its sender tells; `block`, `gasUsed` and `feeWei` are the wallet's own alone. */
export type MoveTransaction = {
  label: string;
  tx: Hex;
  block: number | null;
  gasUsed: number | null;
  feeWei: bigint;
};

/** What was moved. `node` is who sent it, null for the wallet itself; `fee` in base units is what that node earned. */
export type Moved = { amount: bigint; fee: bigint; node: Address | null; transactions: MoveTransaction[] };

type Deposit = Extract<RelayedMove, { kind: "deposit" }>;
type Withdrawal = Extract<RelayedMove, { kind: "withdraw" }>;

/** Seconds of validity that a kept move must have left to be sent once more. */
const RESEND_SECONDS = 60;

/**
 * Deposits from the account's USDC. What a node was asked to send and may still send is sent again, not signed again.
 * Throws `insufficient-funds`, `transaction-failed`, `relay-refused`.
 */
export async function depositMoney(deps: MoveDeps, wish: MoveWish): Promise<Moved> {
  const { chain, ledger, wallet, account } = deps;
  const { authorization: free } = await readFreeMoney(chain, ledger, account);
  const amount = wish.amount === "all" ? free : wish.amount;
  if (amount === 0n || amount > free) {
    throw new InfernetError(
      "insufficient-funds",
      `the wallet holds ${formatUsdc(free)} USDC, less than what is to be deposited`,
      {
        hint: `Send USDC to ${account} on chain ${chain.chainId}.`,
        data: { needed: (wish.amount === "all" ? 1n : wish.amount).toString(), wallet: free.toString() },
      },
    );
  }
  if (await paysOwnGas(chain, wallet.address, wish.gas ?? "auto")) {
    const calls =
      account === wallet.address
        ? [chain.calls.approveUsdc(amount), chain.calls.deposit(amount)]
        : [depositCall(chain, await signDeposit(deps, amount))];
    return { amount, fee: 0n, node: null, transactions: await sendAll(deps, calls) };
  }
  const kept = await keptMoves(deps);
  const same = kept.find((one): one is Deposit => one.kind === "deposit" && one.amount === amount);
  const move = same ?? (await signDeposit(deps, amount));
  const { salt, by } = move;
  const subject = depositNonce(chain.domain, account, salt);
  ledger.keepMove(subject, move, by.validBefore);
  const isDone = () => chain.isAuthorizationUsed(account, subject);
  const { node, tx } = await relayMove(deps, wish, async () => move, isDone);
  ledger.finishMove(subject);
  return { amount, fee: 0n, node, transactions: transactionsOf("depositWithAuthorization", tx) };
}

/** Withdraws credit as USDC to `to`; a node's fee comes on top, out of the credit. Throws as `depositMoney`. */
export async function withdrawMoney(deps: MoveDeps, wish: MoveWish & { to: Address }): Promise<Moved> {
  const { chain, ledger, wallet, account } = deps;
  const { to } = wish;
  const { credit: free } = await readFreeMoney(chain, ledger, account);
  const amountFor = (fee: bigint): bigint => {
    const amount = wish.amount === "all" ? free - fee : wish.amount;
    if (amount > 0n && amount + fee <= free) return amount;
    const also = fee > 0n ? ` and the node's fee of ${formatUsdc(fee)}` : "";
    throw new InfernetError(
      "insufficient-funds",
      `the credit is ${formatUsdc(free)} USDC, less than what is to be withdrawn${also}`,
      { hint: "What open jobs hold comes back when they are settled or refunded: infernet job list." },
    );
  };
  if (await paysOwnGas(chain, wallet.address, wish.gas ?? "auto")) {
    const amount = amountFor(0n);
    const call =
      account === wallet.address
        ? chain.calls.withdraw(to, amount)
        : withdrawCall(chain, await signWithdrawal(deps, { to, amount, fee: 0n, nonce: freshWord() }));
    return { amount, fee: 0n, node: null, transactions: await sendAll(deps, [call]) };
  }
  const kept = (await keptMoves(deps)).find(
    (one): one is Withdrawal => one.kind === "withdraw" && one.to === to && one.amount === amountFor(one.fee),
  );
  // One nonce for all nodes that are asked: whatever each of them does with it, the money leaves once.
  const nonce = kept?.nonce ?? freshWord();
  let signed = kept;
  const moveFor = async ({ offer }: { offer: { relayFee: bigint } }) => {
    if (!signed || signed.fee < offer.relayFee)
      signed = await signWithdrawal(deps, {
        to,
        amount: amountFor(offer.relayFee),
        fee: offer.relayFee,
        nonce,
      });
    ledger.keepMove(nonce, signed, signed.validBefore);
    return signed;
  };
  const { node, tx } = await relayMove(deps, wish, moveFor, () => chain.isWithdrawalUsed(account, nonce));
  ledger.finishMove(nonce);
  const { amount, fee } = signed!;
  return { amount, fee, node, transactions: transactionsOf("withdrawWithSignature", tx) };
}

/** What was handed to nodes before, was not done, and stays valid long enough to be sent again. */
async function keptMoves({ chain, ledger, account, clock }: MoveDeps): Promise<OwnedMove[]> {
  const now = await readBlockTime(chain, clock);
  const moves: OwnedMove[] = [];
  for (const { subject, move } of ledger.movesUnderWay(account, now + RESEND_SECONDS)) {
    const isDone =
      move.kind === "deposit"
        ? await chain.isAuthorizationUsed(account, subject)
        : await chain.isWithdrawalUsed(account, subject);
    if (isDone) ledger.finishMove(subject);
    else moves.push(move);
  }
  return moves;
}

async function signDeposit({ chain, wallet, account, clock }: MoveDeps, amount: bigint): Promise<Deposit> {
  const salt = freshWord();
  const terms = { validAfter: 0, validBefore: (await readBlockTime(chain, clock)) + RELAY_SECONDS };
  const nonce = depositNonce(chain.domain, account, salt);
  const digest = await chain.authorizationDigest({ from: account, amount, nonce, ...terms });
  return {
    kind: "deposit",
    owner: account,
    amount,
    salt,
    by: { ...terms, signature: wallet.signDigest(digest) },
  };
}

async function signWithdrawal(
  { chain, wallet, account, clock }: MoveDeps,
  terms: { to: Address; amount: bigint; fee: bigint; nonce: Hex },
): Promise<Withdrawal> {
  const validBefore = (await readBlockTime(chain, clock)) + RELAY_SECONDS;
  const withdrawal = { owner: account, ...terms, validBefore };
  const signature = wallet.signDigest(withdrawDigest(chain.domain, withdrawal));
  return { kind: "withdraw", ...withdrawal, signature };
}

function depositCall({ calls }: Chain, { owner, amount, salt, by }: Deposit): Call {
  return calls.depositWithAuthorization(owner, amount, salt, by);
}

function withdrawCall({ calls }: Chain, { signature, ...withdrawal }: Withdrawal): Call {
  return calls.withdrawWithSignature(withdrawal, signature);
}

async function sendAll({ sender }: MoveDeps, calls: readonly Call[]): Promise<MoveTransaction[]> {
  const sent: MoveTransaction[] = [];
  for (const call of calls) {
    const { hash: tx, block, gasUsed, feeWei } = await sender.send(call);
    sent.push({ label: call.label, tx, block, gasUsed: Number(gasUsed), feeWei });
  }
  return sent;
}

function transactionsOf(label: string, tx: Hex | null): MoveTransaction[] {
  return tx === null ? [] : [{ label, tx, block: null, gasUsed: null, feeWei: 0n }];
}

function freshWord(): Hex {
  return toHex(randomBytes(32));
}
