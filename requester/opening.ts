// Owns how a job comes to stand in the Escrow: its terms first into the ledger, then one transaction, its own or its node's.
import type { Call } from "../chain/calls.ts";
import type { Chain } from "../chain/chain.ts";
import type { Sender } from "../chain/sender.ts";
import type { Address, Hex } from "../protocol/bytes.ts";
import { InfernetError } from "../protocol/errors.ts";
import { type Job, jobHashOf, jobIdOf } from "../protocol/job.ts";
import type { ModelPath } from "../protocol/wire.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Signer } from "../runtime/signers/secp256k1.ts";
import { jobSalt, type ReceiptDesk, sessionSigner } from "./budget.ts";
import type { Choice } from "./choose.ts";
import {
  chooseSource,
  isSignatureRefused,
  type MoneySource,
  openingCall,
  readFreeMoney,
  signConsent,
} from "./consent.ts";
import { paysOwnGas } from "./gas.ts";
import type { RequesterLedger } from "./ledger.ts";
import type { LedgerJob } from "./ledger-rows.ts";
import { openByNode } from "./relayed-opening.ts";
import { readOpening } from "./settlement.ts";
import { deadlineFor } from "./sizing.ts";

export type OpeningDeps = {
  chain: Chain;
  ledger: RequesterLedger;
  desk: ReceiptDesk;
  sender: Sender;
  wallet: Signer;
  /** Whose money it is: the wallet's own address, or a smart wallet that the wallet's key speaks for. */
  account: Address;
  seed: Hex;
  clock: Clock;
  /** How long to ask a node that does not answer, in milliseconds. */
  patienceMs: number;
};

/** What a job is to pay for. */
export type JobPlan = {
  /** `SESSION_REQUEST_HASH`, and no path, for a session. */
  requestHash: Hex;
  path: ModelPath | null;
  deposit: bigint;
  /** The most that receipts may promise. */
  maxCharge: bigint;
  /** The wished time to its deadline. */
  lifeSeconds?: number | undefined;
};

export type JobOpener = {
  /** Writes a new job's terms before anything of it is signed. */
  plan(
    choice: Pick<Choice, "node" | "endpoint" | "signedOffer" | "model">,
    plan: JobPlan,
  ): Promise<LedgerJob>;
  /**
   * Opens a planned job, by its node's transaction if `isRelayed`, and returns it with the deposit that the chain shows;
   * what a run before handed to the node is handed to it again. Throws `insufficient-funds`, `transaction-failed`, and
   * what `openByNode` throws.
   */
  open(planned: LedgerJob, how: { isRelayed: boolean; signal: AbortSignal }): Promise<LedgerJob>;
};

/** Opens jobs from the account's credit where it suffices, else straight from its USDC: no approval is needed. */
export function createJobOpener(deps: OpeningDeps): JobOpener {
  const { chain, ledger, sender, wallet, account, seed, clock } = deps;
  /** Money that openings on their way by our own transactions will use up. */
  const inHand: Record<MoneySource, bigint> = { credit: 0n, authorization: 0n };

  async function send(jobId: Hex, call: Call): Promise<LedgerJob> {
    const { gasUsed, block } = await sender.send(call, (transaction) =>
      ledger.noteOpening(jobId, transaction),
    );
    const [{ status, deposit }, { timestamp }] = await Promise.all([
      chain.getJobState(jobId),
      chain.getBlock(block),
    ]);
    if (status !== "open") throw notSeen(jobId);
    ledger.noteOpened(jobId, { deposit, openedAt: timestamp, gasUsed });
    return ledger.findJob(jobId)!;
  }

  async function openBySelf(planned: LedgerJob): Promise<LedgerJob> {
    const { jobId, job, deposit } = planned;
    const free = await readFreeMoney(chain, ledger, account);
    const left = {
      credit: free.credit - inHand.credit,
      authorization: free.authorization - inHand.authorization,
    };
    const source = chooseSource(left, deposit, account, chain.chainId);
    inHand[source] += deposit;
    try {
      if (source === "credit" && account === wallet.address)
        return await send(jobId, chain.calls.open(job, deposit));
      // Whoever brings it, it opens this job and nothing else, so it may live as long as the job could.
      const consent = await signConsent(chain, wallet, planned, { source, validBefore: job.deadline });
      return await send(jobId, openingCall(chain, job, deposit, consent));
    } catch (error) {
      if (!isSignatureRefused(error)) throw error;
      if (account !== wallet.address) throw refusedByCode(account, error);
      // Code that speaks for the wallet does not take its key's signatures, but its transactions need none.
      await sender.send(chain.calls.approveUsdc(deposit));
      await sender.send(chain.calls.deposit(deposit));
      return await send(jobId, chain.calls.open(job, deposit));
    } finally {
      inHand[source] -= deposit;
    }
  }

  async function openRelayed(planned: LedgerJob, signal: AbortSignal): Promise<LedgerJob> {
    const { jobId } = planned;
    try {
      await openByNode(deps, planned, signal);
      const opened = await readOpening(chain, jobId);
      if (!opened) throw notSeen(jobId);
      ledger.noteOpened(jobId, { ...opened, gasUsed: null });
      return ledger.findJob(jobId)!;
    } catch (error) {
      if (!isSignatureRefused(error) || ledger.findJob(jobId)?.phase !== "planned") throw error;
      if (account !== wallet.address || !(await paysOwnGas(chain, wallet.address, "auto")))
        throw refusedByCode(account, error);
      return await openBySelf(planned);
    }
  }

  return {
    async plan({ node, endpoint, signedOffer, model }, plan) {
      const { requestHash, path, deposit, maxCharge, lifeSeconds } = plan;
      const { offer, offerHash, bytes } = signedOffer;
      const block = await chain.getBlock("latest");
      const now = Math.max(block.timestamp, clock.nowSeconds());
      return ledger.transact(() => {
        const saltIndex = ledger.nextSaltIndex(clock.nowSeconds());
        const job: Job = {
          requester: account,
          signer: sessionSigner(seed, saltIndex).address,
          node,
          payee: offer.payee,
          jobHash: jobHashOf({ salt: jobSalt(seed, saltIndex), offerHash, requestHash }),
          deadline: deadlineFor(offer, now, lifeSeconds),
        };
        const jobId = jobIdOf(chain.domain, job);
        const terms = { saltIndex, offerBytes: bytes, endpoint, path, model: model.name, requestHash };
        const createdAt = clock.nowSeconds();
        ledger.planJob({ jobId, job, terms, deposit, maxCharge, createdAt, worker: process.pid });
        return ledger.findJob(jobId)!;
      });
    },

    async open(planned, { isRelayed, signal }) {
      try {
        const isHandedOver = planned.consent !== null;
        return await (isRelayed || isHandedOver ? openRelayed(planned, signal) : openBySelf(planned));
      } catch (error) {
        // Nothing left for a job that is still only planned; any other may stand in the Escrow by now, or come to.
        if (ledger.findJob(planned.jobId)?.phase === "planned") ledger.dropJob(planned.jobId);
        throw error;
      }
    },
  };
}

function notSeen(jobId: Hex): InfernetError {
  return new InfernetError("job-unconfirmed", `the job ${jobId} does not stand in the latest block`, {
    hint: "The chain may have reorganised: see `infernet job list`; the deposit comes back in any case.",
  });
}

function refusedByCode(account: Address, cause: unknown): InfernetError {
  return new InfernetError(
    "insufficient-funds",
    `the code of ${account} does not take this wallet's signatures`,
    {
      hint: `Ways on: name the smart wallet that this key owns with --account; or send the chain's own coin to the wallet and use --gas own; or move the USDC to an account without code.`,
      cause,
    },
  );
}
