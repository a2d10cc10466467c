// Owns how a job comes to stand in the Escrow: its terms first into the ledger, then one transaction of the wallet's.

import type { Call } from "../chain/calls.ts";
import type { Chain } from "../chain/chain.ts";
import type { Sender } from "../chain/sender.ts";
import type { Hex } from "../protocol/bytes.ts";
import { InfernetError } from "../protocol/errors.ts";
import { type Job, jobHashOf, jobIdOf } from "../protocol/job.ts";
import { formatUsdc } from "../protocol/price.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Signer } from "../runtime/signers/secp256k1.ts";
import { jobSalt, sessionSigner } from "./budget.ts";
import type { Choice } from "./choose.ts";
import type { RequesterLedger } from "./ledger.ts";
import type { LedgerJob } from "./ledger-rows.ts";
import type { ModelRequest } from "./model-request.ts";
import { deadlineFor, depositFor } from "./sizing.ts";

export type OpeningDeps = {
  chain: Chain;
  ledger: RequesterLedger;
  sender: Sender;
  wallet: Signer;
  seed: Hex;
  clock: Clock;
};

export type JobOpener = {
  /** Writes a new job's terms before anything of it is signed. `lifeSeconds` is the wished time to its deadline. */
  plan(
    request: ModelRequest,
    choice: Choice,
    limits: { maxCharge: bigint; lifeSeconds?: number | undefined },
  ): Promise<LedgerJob>;
  /** Opens a planned job and returns it with the deposit that the chain shows. Throws `insufficient-funds` or `transaction-failed`. */
  open(planned: LedgerJob): Promise<LedgerJob>;
};

/** Opens jobs from the wallet's credit where it suffices, else straight from its USDC: no approval is needed. */
export function createJobOpener(deps: OpeningDeps): JobOpener {
  const { chain, ledger, sender, wallet, seed, clock } = deps;
  /** Credit that openings on their way will use up. */
  let promised = 0n;

  async function open(planned: LedgerJob, call: Call): Promise<LedgerJob> {
    const { jobId } = planned;
    const { gasUsed, block } = await sender.send(call, (transaction) =>
      ledger.noteOpening(jobId, transaction),
    );
    const [{ status, deposit }, { timestamp }] = await Promise.all([
      chain.getJobState(jobId),
      chain.getBlock(block),
    ]);
    if (status !== "open") {
      throw new InfernetError("job-unconfirmed", `the job ${jobId} does not stand in the latest block`, {
        hint: "The chain may have reorganised: see `infernet job list`; the deposit comes back in any case.",
      });
    }
    ledger.noteOpened(jobId, { deposit, openedAt: timestamp, gasUsed });
    return ledger.findJob(jobId)!;
  }

  return {
    async plan(request, { node, endpoint, signedOffer, model }, { maxCharge, lifeSeconds }) {
      const { offer, offerHash, bytes } = signedOffer;
      const block = await chain.getBlock("latest");
      const now = Math.max(block.timestamp, clock.nowSeconds());
      return ledger.transact(() => {
        const saltIndex = ledger.nextSaltIndex(clock.nowSeconds());
        const { path, requestHash } = request;
        const job: Job = {
          requester: wallet.address,
          signer: sessionSigner(seed, saltIndex).address,
          node,
          payee: offer.payee,
          jobHash: jobHashOf({ salt: jobSalt(seed, saltIndex), offerHash, requestHash }),
          deadline: deadlineFor(offer, now, lifeSeconds),
        };
        const jobId = jobIdOf(chain.domain, job);
        const terms = { saltIndex, offerBytes: bytes, endpoint, path, model: model.name, requestHash };
        const deposit = depositFor(request, model, offer, maxCharge);
        const createdAt = clock.nowSeconds();
        ledger.planJob({ jobId, job, terms, deposit, maxCharge, createdAt, worker: process.pid });
        return ledger.findJob(jobId)!;
      });
    },

    async open(planned) {
      const { jobId, job, deposit } = planned;
      let fromCredit = 0n;
      try {
        const credit = await chain.getCredit(wallet.address);
        if (credit - promised >= deposit) {
          fromCredit = deposit;
          promised += fromCredit;
          return await open(planned, chain.calls.open(job, deposit));
        }
        return await open(planned, await authorizedOpening(deps, jobId, job, deposit, credit));
      } catch (error) {
        // Nothing was broadcast for a job that is still only planned; any other may stand in the Escrow by now.
        if (ledger.findJob(jobId)?.phase === "planned") ledger.dropJob(jobId);
        throw error;
      } finally {
        promised -= fromCredit;
      }
    },
  };
}

async function authorizedOpening(
  { chain, wallet }: OpeningDeps,
  jobId: Hex,
  job: Job,
  deposit: bigint,
  credit: bigint,
): Promise<Call> {
  const owned = await chain.getUsdc(wallet.address);
  if (owned < deposit) {
    const [needs, has] = [formatUsdc(deposit), formatUsdc(owned)];
    throw new InfernetError(
      "insufficient-funds",
      `the job's deposit is ${needs} USDC, the wallet has ${has}`,
      {
        hint: `Send USDC to ${wallet.address} on chain ${chain.chainId}, ask for fewer tokens, or lower the highest charge.`,
        data: { needed: deposit.toString(), wallet: owned.toString(), credit: credit.toString() },
      },
    );
  }
  // Whoever brings it, it opens this job and nothing else, so it may live as long as the job could.
  const terms = { validAfter: 0, validBefore: job.deadline };
  const digest = await chain.authorizationDigest({
    from: wallet.address,
    amount: deposit,
    nonce: jobId,
    ...terms,
  });
  return chain.calls.openWithAuthorization(job, deposit, { ...terms, signature: wallet.signDigest(digest) });
}

/** What the latest block shows of an open job's opening; undefined while it shows none. */
export async function readOpening(
  chain: Chain,
  jobId: Hex,
): Promise<{ deposit: bigint; openedAt: number; block: number } | undefined> {
  const { status, deposit } = await chain.getJobState(jobId);
  const opened = status === "open" ? await chain.getOpened(jobId) : undefined;
  return opened && { deposit, openedAt: opened.timestamp, block: opened.block };
}
