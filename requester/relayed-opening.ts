// Owns an opening that the job's node broadcasts: what is kept before it leaves, asking, and what a lost answer means.
import { setTimeout as delay } from "node:timers/promises";
import type { Chain } from "../chain/chain.ts";
import { estimateGas } from "../chain/fees.ts";
import type { Hex } from "../protocol/bytes.ts";
import { InfernetError } from "../protocol/errors.ts";
import { decodeOffer } from "../protocol/offer.ts";
import { formatReceipt } from "../protocol/receipt.ts";
import { type OpeningConsent, RELAY_SECONDS, type RelayedOpening } from "../protocol/relay.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Signer } from "../runtime/signers/secp256k1.ts";
import { jobSalt, type ReceiptDesk } from "./budget.ts";
import { chooseSource, freeOf, openingCall, readFreeMoney, readOwned, signConsent } from "./consent.ts";
import type { RequesterLedger } from "./ledger.ts";
import type { LedgerJob } from "./ledger-rows.ts";
import type { NodeClient } from "./node-client.ts";
import { clientOf } from "./settlement.ts";

export type RelayedOpeningDeps = {
  chain: Chain;
  ledger: RequesterLedger;
  desk: ReceiptDesk;
  wallet: Signer;
  seed: Hex;
  clock: Clock;
  /** How long to ask a node that does not answer, in milliseconds. */
  patienceMs: number;
};

const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 2_000;
/** How long the chain, as seen from here, may lag behind what the node says it has mined. */
const SEEN_WITHIN_MS = 30_000;
/** Refusals that pass by themselves; the same signed opening is asked for again, never another. */
const PASSING = ["node-unreachable", "chain-unreachable", "job-unconfirmed", "node-busy"];

/**
 * Has the node of a planned job open it, and resolves when the chain shows it. What is signed and
 * the first receipt are kept before they leave. Throws the simulation's `transaction-failed` and `insufficient-funds`
 * while nothing has left; later the node's refusal, `job-unconfirmed` when it is unknown what became of it, or
 * `interrupted`: the money then stays promised until the consent expires.
 */
export async function openByNode(
  deps: RelayedOpeningDeps,
  planned: LedgerJob,
  signal: AbortSignal,
): Promise<void> {
  const job = planned.consent === null ? await prepare(deps, planned) : planned;
  const client = clientOf(job, deps.seed);
  try {
    await ask(deps, client, job, signal);
    await awaitSeen(deps.chain, job, signal);
  } finally {
    await client.close();
  }
}

/** Whether a kept consent may still be brought to the node. */
export function canStillBeRelayed({ phase, consent }: LedgerJob, now: number): boolean {
  return phase === "opening" && consent !== null && consent.validBefore > now + RELAY_SECONDS / 10;
}

async function prepare(deps: RelayedOpeningDeps, planned: LedgerJob): Promise<LedgerJob> {
  const { chain, ledger, desk, wallet, clock } = deps;
  const { jobId, job, deposit } = planned;
  const { openingFee } = decodeOffer(planned.terms!.offerBytes).offer;
  const { timestamp } = await chain.getBlock("latest");
  const validBefore = Math.min(Math.max(timestamp, clock.nowSeconds()) + RELAY_SECONDS, job.deadline);
  const money = await readFreeMoney(chain, ledger, job.requester);
  const source = chooseSource(money, deposit, job.requester, chain.chainId);
  const consent = await signConsent(chain, wallet, planned, { source, validBefore });
  // What the chain would refuse never leaves, and costs nobody anything.
  await estimateGas(chain.rpc, job.node, openingCall(chain, job, deposit, consent));
  const owned = await readOwned(chain, job.requester);
  ledger.transact(() => {
    // Another opening may have promised the same money meanwhile.
    const free = freeOf(owned, ledger.promised(job.requester, timestamp));
    if (chooseSource(free, deposit, job.requester, chain.chainId) !== source)
      throw new InfernetError("node-busy", "another job took the money that this one was to be opened with", {
        hint: "Try again.",
      });
    desk.signOpening(jobId, { consent, openingFee });
  });
  return ledger.findJob(jobId)!;
}

async function ask(
  { chain, desk, seed, patienceMs }: RelayedOpeningDeps,
  client: NodeClient,
  { jobId, job, deposit, terms, consent }: LedgerJob,
  signal: AbortSignal,
): Promise<void> {
  const { saltIndex, requestHash, offerBytes } = terms!;
  const opening: RelayedOpening = {
    job,
    amount: deposit,
    terms: { salt: jobSalt(seed, saltIndex), offerHash: decodeOffer(offerBytes).offerHash, requestHash },
    receipt: formatReceipt(desk.openingReceipt(jobId)),
    by: consent as OpeningConsent,
  };
  const endsAt = performance.now() + patienceMs;
  for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS)) {
    try {
      await client.openJob(opening, signal);
      return;
    } catch (error) {
      if (!(error instanceof InfernetError) && !signal.aborted) throw error;
      // Whatever the node says, the chain knows better.
      if (await isOpened(chain, jobId)) return;
      if (signal.aborted) throw interrupted(consent!, error);
      const { code } = error as InfernetError;
      if (!PASSING.includes(code)) throw refused(error as InfernetError, consent!);
      if (performance.now() + pauseMs > endsAt) throw unknown(error as InfernetError, consent!);
      await delay(pauseMs, undefined, { signal }).catch(() => {});
    }
  }
}

async function isOpened(chain: Chain, jobId: Hex): Promise<boolean> {
  try {
    return (await chain.getJobState(jobId)).status !== "none";
  } catch (error) {
    if (error instanceof InfernetError) return false;
    throw error;
  }
}

async function awaitSeen(chain: Chain, { jobId, consent }: LedgerJob, signal: AbortSignal): Promise<void> {
  const endsAt = performance.now() + SEEN_WITHIN_MS;
  for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS)) {
    if ((await chain.getJobState(jobId)).status !== "none") return;
    if (signal.aborted) throw interrupted(consent!, signal.reason);
    if (performance.now() + pauseMs > endsAt) {
      throw new InfernetError(
        "job-unconfirmed",
        "the node says that it opened the job, the chain does not show it",
        {
          hint: promiseHint(consent!),
        },
      );
    }
    await delay(pauseMs, undefined, { signal }).catch(() => {});
  }
}

function refused(error: InfernetError, consent: OpeningConsent): InfernetError {
  const { code, message, data } = error;
  return new InfernetError(code, `the node does not open the job: ${message}`, {
    hint: `Send some of the chain's own coin to the wallet and use --gas own, or choose another --node. ${promiseHint(consent)}`,
    cause: error,
    data,
  });
}

function unknown(error: InfernetError, consent: OpeningConsent): InfernetError {
  return new InfernetError("job-unconfirmed", "it is not known whether the node opened the job", {
    hint: `Send the same request again: it goes on with the same job. ${promiseHint(consent)}`,
    cause: error,
  });
}

function interrupted(consent: OpeningConsent, cause: unknown): InfernetError {
  return new InfernetError("interrupted", "the request was interrupted while its node opened the job", {
    hint: promiseHint(consent),
    cause,
  });
}

function promiseHint({ validBefore }: OpeningConsent): string {
  return `The node may still open it until ${new Date(validBefore * 1000).toISOString()}: so long the deposit is not free.`;
}
