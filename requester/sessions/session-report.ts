// Owns how a session looks to people and programs: the ledger's facts without secrets.
import { roundCharge } from "../../protocol/price.ts";
import type { RequesterLedger } from "../ledger.ts";
import type { JobPhase, LedgerJob } from "../ledger-rows.ts";
import type { SessionReport, SessionState } from "./session-request.ts";

const STATES: Record<JobPhase, SessionState> = {
  planned: "opening",
  opening: "opening",
  open: "open",
  streaming: "open",
  ended: "closing",
  closed: "closed",
  refunded: "closed",
  dropped: "closed",
};

/** A session as the ledger knows it. */
export function reportSession(ledger: RequesterLedger, job: LedgerJob): SessionReport {
  const { jobId, phase, terms, deposit, signed, openingFee, settled, claimed, openedAt, usedAt } = job;
  const { requests, running } = ledger.requests.countOf(jobId);
  const state = STATES[phase];
  const isLocked = state === "open" || state === "closing";
  return {
    ...{ jobId, state, node: job.job.node, model: terms!.model, deposit, signed },
    charged: claimed ?? openingFee + roundCharge(settled),
    ...{ requests, active: running, openedAt, usedAt, deadline: job.job.deadline },
    locked: isLocked ? deposit : 0n,
    returnsAt: isLocked ? job.job.deadline : null,
    evidence: job.evidence,
  };
}
