// Owns what pays a job's deposit, and the signature by which its owner lets another's transaction open the job.
import type { Call } from "../chain/calls.ts";
import type { Chain } from "../chain/chain.ts";
import type { Address, Hex } from "../protocol/bytes.ts";
import { openDigest } from "../protocol/consent.ts";
import { InfernetError } from "../protocol/errors.ts";
import type { Job } from "../protocol/job.ts";
import { formatUsdc } from "../protocol/price.ts";
import type { OpeningConsent } from "../protocol/relay.ts";
import type { Signer } from "../runtime/signers/secp256k1.ts";
import type { RequesterLedger } from "./ledger.ts";

export type MoneySource = OpeningConsent["kind"];

/** An account's money by where it is, in USDC base units. */
export type Money = Record<MoneySource, bigint>;

/** What an account owns on the chain. */
export async function readOwned(chain: Chain, account: Address): Promise<Money> {
  const [credit, authorization] = await Promise.all([chain.getCredit(account), chain.getUsdc(account)]);
  return { credit, authorization };
}

/** What is left of it beside what nodes may still open jobs with, whatever those nodes say. */
export function freeOf(owned: Money, promised: Money): Money {
  return {
    credit: owned.credit - promised.credit,
    authorization: owned.authorization - promised.authorization,
  };
}

export async function readFreeMoney(chain: Chain, ledger: RequesterLedger, account: Address): Promise<Money> {
  const { timestamp } = await chain.getBlock("latest");
  const promised = ledger.promised(account, timestamp);
  // Promises first: one that is kept in between counts twice, never not at all.
  return freeOf(await readOwned(chain, account), promised);
}

/** Which free money pays a deposit: the credit where it suffices, else the wallet's. Throws `insufficient-funds`. */
export function chooseSource(
  { credit, authorization: wallet }: Money,
  deposit: bigint,
  account: Address,
  chainId: number,
): MoneySource {
  if (credit >= deposit) return "credit";
  if (wallet >= deposit) return "authorization";
  const [needs, has, free] = [deposit, wallet, credit].map(formatUsdc);
  throw new InfernetError(
    "insufficient-funds",
    `the job's deposit is ${needs} USDC, the wallet has ${has} free, and its credit is ${free}`,
    {
      hint: `Send USDC to ${account} on chain ${chainId}, ask for fewer tokens, or lower the highest charge.`,
      data: { needed: deposit.toString(), wallet: wallet.toString(), credit: credit.toString() },
    },
  );
}

/** Signs that anybody's transaction may open this job with this deposit, and nothing else. */
export async function signConsent(
  chain: Chain,
  wallet: Signer,
  { jobId, job, deposit }: { jobId: Hex; job: Job; deposit: bigint },
  { source, validBefore }: { source: MoneySource; validBefore: number },
): Promise<OpeningConsent> {
  if (source === "credit") {
    const signature = wallet.signDigest(openDigest(chain.domain, job, deposit, validBefore));
    return { kind: "credit", validBefore, signature };
  }
  const terms = { validAfter: 0, validBefore };
  const digest = await chain.authorizationDigest({
    from: job.requester,
    amount: deposit,
    nonce: jobId,
    ...terms,
  });
  return { kind: "authorization", ...terms, signature: wallet.signDigest(digest) };
}

/** The call that opens a job by its requester's consent. */
export function openingCall({ calls }: Chain, job: Job, deposit: bigint, by: OpeningConsent): Call {
  return by.kind === "credit"
    ? calls.openWithSignature(job, deposit, by)
    : calls.openWithAuthorization(job, deposit, by);
}

/** Whether a refusal says that the account's code, or the token for it, does not take the key's signature. */
export function isSignatureRefused(error: unknown): boolean {
  if (!(error instanceof InfernetError) || error.code !== "transaction-failed") return false;
  return /EscrowBadSignature|invalid signature/i.test(String(error.data.error ?? error.message));
}
