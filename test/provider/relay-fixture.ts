// Owns requesters without gas and a node that relays for them, over a real chain: what they sign, and its desk.
import type { Chain } from "../../chain/chain.ts";
import { type Address, type Hex, toHex, utf8 } from "../../protocol/bytes.ts";
import { openDigest, withdrawDigest } from "../../protocol/consent.ts";
import { depositNonce } from "../../protocol/deposit.ts";
import { type Job, type JobTerms, jobHashOf, jobIdOf } from "../../protocol/job.ts";
import { decodeOffer, encodeOffer, type Offer, type SignedOffer } from "../../protocol/offer.ts";
import { formatReceipt, receiptDigest } from "../../protocol/receipt.ts";
import { RELAY_SECONDS, type RelayedMove, type RelayedOpening } from "../../protocol/relay.ts";
import { PROVIDER_DEFAULTS, type RelayRule } from "../../provider/config.ts";
import { Relay } from "../../provider/relay.ts";
import { createRelayLimits } from "../../provider/relay-limits.ts";
import {
  createSigner,
  generatePrivateKey,
  type Signer,
  toCompactSignature,
} from "../../runtime/signers/secp256k1.ts";
import type { ChainSide, Market } from "./chain-fixture.ts";
import { word } from "./ledger-fixture.ts";

export const OPENING_FEE = 3_000n;
export const RELAY_FEE = 2_000n;
export const DEPOSIT = 100_000n;
/** Gas of the local chain costs what it costs on a roll-up: next to nothing. */
const NATIVE_USD_PRICE = 1_000_000n;

/** The desk of a node that asks 3,000 for an opening and 2,000 for a withdrawal. */
export function openRelay(
  market: Market,
  side: ChainSide,
  rule: Partial<RelayRule> = {},
  terms: Partial<Offer> = {},
) {
  const signed = signedOffer({ ...market.offer, openingFee: OPENING_FEE, relayFee: RELAY_FEE, ...terms });
  const whole = { ...PROVIDER_DEFAULTS.relay, leastMove: 0n, giftUpTo: 1n << 62n, ...rule };
  const time = { ms: 0 };
  const relay = new Relay({
    ...{ chain: side.chain, sender: side.sender, ledger: side.ledger, relays: side.relays },
    ...{ settlement: side.settlement, clock: side.clock, events: side.events, rule: whole },
    node: market.node.address,
    limits: createRelayLimits(whole, () => time.ms),
    offers: { current: () => signed, byHash: (hash) => (hash === signed.offerHash ? signed : undefined) },
    nativeUsdPrice: NATIVE_USD_PRICE,
    poke: side.intake.poke,
  });
  return { relay, offer: signed.offer, offerHash: signed.offerHash, time };
}
export type RelayDesk = ReturnType<typeof openRelay>;

function signedOffer(offer: Offer): SignedOffer {
  return { ...decodeOffer(encodeOffer(offer)), signature: toHex(utf8("not looked at")) };
}

/** A key with USDC in its wallet, and as credit when told so, that never owned gas. */
export async function gaslessSigner(market: Market, { usdc = 0n, credit = 0n }): Promise<Signer> {
  const signer = createSigner(generatePrivateKey());
  await market.local.mintUsdc(signer.address, usdc);
  if (credit > 0n) await giveCredit(market, signer, credit);
  return signer;
}

/** Turns new USDC of this wallet's into its credit, by a transaction of somebody else's. */
export async function giveCredit(market: Market, wallet: Signer, amount: bigint, account = wallet.address) {
  const { local, chain } = market;
  await local.mintUsdc(account, amount);
  const { by, salt } = await signDeposit(market, wallet, amount, account);
  const call = chain.calls.depositWithAuthorization(account, amount, salt, by);
  await local.sendAs(local.accounts[0]!.address, call);
}

let salts = 0;

export type OpeningChanges = {
  from?: "wallet" | "credit";
  job?: Partial<Job>;
  amount?: bigint;
  terms?: Partial<JobTerms>;
  /** The first receipt's amount, and who signs it. */
  receipt?: bigint;
  receiptSigner?: Signer;
  transcript?: Hex;
  validBefore?: number;
  /** Whose money it is, when a smart wallet's. */
  account?: Address;
};

/** An opening as a requester signs it, and the job's id. */
export async function signOpening(
  { chain, node, payee }: Market,
  { offerHash, offer }: RelayDesk,
  wallet: Signer,
  changes: OpeningChanges = {},
): Promise<{ jobId: Hex; opening: RelayedOpening }> {
  const { amount = DEPOSIT, receiptSigner = wallet, account = wallet.address } = changes;
  const terms = { salt: saltOf(++salts), offerHash, requestHash: word(3), ...changes.terms };
  const { timestamp: now } = await chain.getBlock("latest");
  const job: Job = {
    ...{ requester: account, signer: wallet.address, node: node.address, payee },
    ...{ jobHash: jobHashOf(terms), deadline: now + 7200, ...changes.job },
  };
  const jobId = jobIdOf(chain.domain, job);
  const validBefore = changes.validBefore ?? now + RELAY_SECONDS;
  const unsigned = {
    jobId,
    amount: changes.receipt ?? offer.openingFee,
    transcript: changes.transcript ?? word(0),
  };
  const signature = toCompactSignature(receiptSigner.signDigest(receiptDigest(chain.domain, unsigned)));
  const receipt = formatReceipt({ ...unsigned, signature });
  const by =
    changes.from === "credit"
      ? signCredit(chain, wallet, job, amount, validBefore)
      : await signAuthorization(chain, wallet, { from: account, amount, nonce: jobId, validBefore });
  return { jobId, opening: { job, amount, terms, receipt, by } };
}

function signCredit(chain: Chain, wallet: Signer, job: Job, amount: bigint, validBefore: number) {
  const signature = wallet.signDigest(openDigest(chain.domain, job, amount, validBefore));
  return { kind: "credit", validBefore, signature } as const;
}

async function signAuthorization(
  chain: Chain,
  wallet: Signer,
  { from, amount, nonce, validBefore }: { from: Address; amount: bigint; nonce: Hex; validBefore: number },
) {
  const terms = { validAfter: 0, validBefore };
  const digest = await chain.authorizationDigest({ from, amount, nonce, ...terms });
  return { kind: "authorization", ...terms, signature: wallet.signDigest(digest) } as const;
}

export async function signDeposit({ chain }: Market, wallet: Signer, amount: bigint, owner = wallet.address) {
  const { timestamp: now } = await chain.getBlock("latest");
  const salt = saltOf(++salts);
  const nonce = depositNonce(chain.domain, owner, salt);
  const validBefore = now + RELAY_SECONDS;
  const { kind: _kind, ...by } = await signAuthorization(chain, wallet, {
    from: owner,
    amount,
    nonce,
    validBefore,
  });
  return { kind: "deposit", owner, amount, salt, by } as const satisfies RelayedMove;
}

export async function signWithdrawal(
  { chain }: Market,
  wallet: Signer,
  changes: { amount: bigint; fee?: bigint; to?: Address; validBefore?: number },
): Promise<RelayedMove> {
  const { timestamp: now } = await chain.getBlock("latest");
  const { fee = RELAY_FEE, to = wallet.address, validBefore = now + RELAY_SECONDS, amount } = changes;
  const withdrawal = { owner: wallet.address, to, amount, fee, nonce: saltOf(++salts), validBefore };
  return {
    kind: "withdraw",
    ...withdrawal,
    signature: wallet.signDigest(withdrawDigest(chain.domain, withdrawal)),
  };
}

function saltOf(index: number): Hex {
  return `0x${index.toString(16).padStart(64, "a")}`;
}
