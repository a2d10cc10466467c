// Owns which jobs this node serves: follows the chain, records what opens and closes, and confirms what is funded.
import type { Block, Chain, NodeListing } from "../chain/chain.ts";
import { type EventBatch, followEvents, type OpenedEvent } from "../chain/events.ts";
import { RpcError } from "../chain/rpc.ts";
import type { Address, Hex } from "../protocol/bytes.ts";
import { InfernetError } from "../protocol/errors.ts";
import { checkBeforeMargin, checkFunded, checkTerms, marginSeconds } from "../protocol/funding.ts";
import type { JobTerms } from "../protocol/job.ts";
import type { Offer } from "../protocol/offer.ts";
import type { Clock } from "../runtime/clock.ts";
import { findTaggedBlock } from "./block-depth.ts";
import type { ConfirmationRule } from "./config.ts";
import { type EventHub, errorEvent } from "./events.ts";
import type { JobLedger } from "./job-ledger.ts";
import type { LedgerJob } from "./ledger-rows.ts";
import type { Opening, OpeningLedger } from "./opening-ledger.ts";

const ZERO_ADDRESS: Address = `0x${"00".repeat(20)}`;
/** What a requester is told to wait before it asks again. */
const RETRY_SECONDS = { latest: 2, safe: 12, finalized: 60 };

export type IntakeDependencies = {
  chain: Chain;
  ledger: JobLedger;
  openings: OpeningLedger;
  node: Address;
  rule: ConfirmationRule;
  pollMs: number;
  clock: Clock;
  events: EventHub;
  /** Called after each reading of the chain is durable. */
  onHead(head: Block): void;
  /** Called after each look at the chain. */
  onLook?(): void;
  /** Called when the node's entry in the Registry has changed. */
  onNodeChanged?(): void;
};

export type Intake = {
  /**
   * The job, once it pays this node under these terms and this offer. Throws `job-not-found`, `request-mismatch`,
   * `job-unconfirmed` (with `retryAfterSeconds`), `job-not-funded`, `job-closed` or `job-expired`.
   */
  ensureFunded(jobId: Hex, terms: JobTerms, offer: Offer): Promise<LedgerJob>;
  /** The job, if its opening stands on the chain now; reads up to its head when it is unknown. */
  findOpened(jobId: Hex): Promise<LedgerJob | undefined>;
  /** The newest block that was read. */
  head(): Block | undefined;
  /** Reads the chain up to its head of now. */
  poke(): Promise<void>;
  /** Why the chain cannot be followed; null while it is. */
  trouble(): string | null;
  stop(): Promise<void>;
};

/** Looks in a row that may fail before the chain counts as out of reach. */
const TOLERATED_FAILURES = 1;

/** Starts to follow the chain from the ledger's cursor. */
export function startIntake(deps: IntakeDependencies): Intake {
  const { chain, ledger, openings, node, events } = deps;
  const abort = new AbortController();
  let head: Block | undefined;
  let failures = 0;
  let trouble: string | null = null;

  const follower = followEvents(chain, {
    from: openings.cursors()[0] ?? null,
    recentCursors: () => openings.cursors(),
    node,
    pollMs: deps.pollMs,
    signal: abort.signal,
    async onBatch(batch) {
      await recordBatch(deps, batch);
      head = batch.head;
      deps.onHead(batch.head);
      if (batch.events.some(({ kind }) => kind === "nodeChanged")) deps.onNodeChanged?.();
    },
    onCaughtUp() {
      failures = 0;
      trouble = null;
      deps.onLook?.();
    },
    onError(error) {
      failures += 1;
      const event = errorEvent(error, null);
      if (failures > TOLERATED_FAILURES) trouble = event.message;
      events.emit(event);
      deps.onLook?.();
    },
  });

  async function findOpened(jobId: Hex): Promise<LedgerJob | undefined> {
    const known = ledger.findJob(jobId);
    if (known && !known.undone) return known;
    await follower.poke();
    return ledger.findJob(jobId);
  }

  async function findSeen(jobId: Hex): Promise<LedgerJob> {
    const job = await findOpened(jobId);
    if (!job) {
      throw new InfernetError("job-not-found", "no such job on the chain yet", {
        hint: "If its opening was just sent, try again when it is mined.",
        data: { retryAfterSeconds: RETRY_SECONDS.latest },
      });
    }
    if (job.undone) throw unconfirmed("a reorganisation of the chain undid the job's opening", "latest");
    return job;
  }

  return {
    async ensureFunded(jobId, terms, offer) {
      const job = await findSeen(jobId);
      checkTerms(job.job, terms);
      if (job.state === "closed" || job.state === "settling")
        throw new InfernetError("job-closed", "the job is over");
      if (job.state === "refused")
        throw new InfernetError("job-not-funded", "the job does not pay this node; its deposit goes back");
      if (job.state === "seen") await confirm(deps, job, offer);
      head ??= await chain.getBlock("latest");
      checkBeforeMargin(job, head.timestamp);
      checkTimeToServe(job, offer, head.timestamp);
      return ledger.findJob(jobId)!;
    },
    findOpened,
    head: () => head,
    poke: () => follower.poke(),
    trouble: () => trouble,
    async stop() {
      abort.abort();
      await follower.done;
    },
  };
}

async function recordBatch(deps: IntakeDependencies, batch: EventBatch): Promise<void> {
  const opened = batch.events.filter((event) => event.kind === "opened" && event.job.node === deps.node);
  const openings = await Promise.all(opened.map((event) => readOpening(deps.chain, event as OpenedEvent)));
  const closings = batch.events.flatMap((event) =>
    event.kind === "settled" || event.kind === "refunded" ? [{ jobId: event.jobId, block: event.block }] : [],
  );
  const { undone, cursor } = batch;
  for (const jobId of deps.openings.record({ undone, openings, closings, cursor })) {
    const message = "a reorganisation of the chain undid the opening of a job that was served";
    deps.events.emit({ type: "error", code: "job-unconfirmed", message, jobId });
  }
}

async function readOpening(chain: Chain, event: OpenedEvent): Promise<Opening> {
  const listing = await readListing(chain, event);
  return { event, registeredPayee: listing?.payee ?? ZERO_ADDRESS };
}

/**
 * The node's entry at the opening block. A server that keeps no old states is asked for the entry of now instead: a job
 * that pays today's payee robs nobody, and without this a node that was down for long could not start again.
 */
async function readListing(chain: Chain, { job, block }: OpenedEvent): Promise<NodeListing | undefined> {
  try {
    return await chain.getNode(job.node, block);
  } catch (error) {
    if (error instanceof RpcError) return await chain.getNode(job.node);
    throw error;
  }
}

/** Throws `job-expired` when the longest request, begun now, could end too late to be settled before the deadline. */
function checkTimeToServe({ job, openedAt }: LedgerJob, offer: Offer, now: number): void {
  const settleBy = job.deadline - Math.ceil(marginSeconds(openedAt, job.deadline) / 2);
  if (now + offer.longestRequestSeconds <= settleBy) return;
  throw new InfernetError("job-expired", "the job is too near its deadline for a request of full length", {
    hint: "Open a new job; what this one did not use comes back.",
  });
}

/** Confirms a seen job at the depth that its requester's exposure asks for, or refuses it. */
async function confirm(deps: IntakeDependencies, job: LedgerJob, offer: Offer): Promise<void> {
  const { chain, openings, ledger, clock, events } = deps;
  const { jobId } = job;
  const block = await confirmedBlock(deps, job);
  const [state, latest] = await Promise.all([
    chain.getJobState(jobId, block.number),
    chain.getBlock("latest"),
  ]);
  if (state.status === "none")
    throw unconfirmed("the job is not on the chain at the confirmed block", "latest");
  try {
    checkFunded(job, state, offer, latest.timestamp);
  } catch (error) {
    if (!(error instanceof InfernetError)) throw error;
    if (error.code === "job-expired") ledger.finishJob(jobId);
    if (error.code === "job-not-funded" && openings.refuse(jobId, clock.nowSeconds())) {
      events.emit({ type: "refused", jobId, code: error.code, reason: error.message });
      events.emit({ type: "jobOver", jobId });
    }
    throw error;
  }
  if (openings.confirm(jobId, block.number))
    events.emit({ type: "jobFunded", jobId, requester: job.job.requester, deposit: job.deposit });
}

/** The block that the job's state is re-read at: the deeper, the more a reorg could take of this requester's deposits. */
async function confirmedBlock({ chain, openings, rule }: IntakeDependencies, job: LedgerJob): Promise<Block> {
  const final = await findTaggedBlock(chain, "finalized");
  const exposure = openings.depositsOpenedAfter(job.job.requester, final?.number ?? -1);
  const depth = exposure <= rule.latestUpTo ? "latest" : exposure <= rule.safeUpTo ? "safe" : "finalized";
  const needed = job.openedBlock + (depth === "latest" ? rule.blocks : 0);
  const block = depth === "finalized" ? final : await findTaggedBlock(chain, depth);
  if (block && block.number >= needed) return block;
  throw unconfirmed(`the job's opening is not yet in a ${depth} block that is deep enough`, depth);
}

function unconfirmed(message: string, depth: keyof typeof RETRY_SECONDS): InfernetError {
  const retryAfterSeconds = RETRY_SECONDS[depth];
  return new InfernetError("job-unconfirmed", message, {
    hint: `Ask again in ${retryAfterSeconds} s.`,
    data: { retryAfterSeconds },
  });
}
