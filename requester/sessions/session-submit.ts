// Owns asking without a choice: a node whose session is open and free comes first, else the cheapest.
import type { Address } from "../../protocol/bytes.ts";
import { InfernetError } from "../../protocol/errors.ts";
import { decodeOffer } from "../../protocol/offer.ts";
import type { ReceiptDesk } from "../budget.ts";
import { type Choice, type ChooseDeps, chooseNode } from "../choose.ts";
import { paysOwnGas } from "../gas.ts";
import type { RequesterLedger } from "../ledger.ts";
import { readModelRequest } from "../model-request.ts";
import type { SubmitInput } from "../submission.ts";
import type { WorkList } from "../work-list.ts";
import type { SessionBill, SessionRequest } from "./session-request.ts";

export type SessionSubmit = Pick<
  SubmitInput,
  "path" | "body" | "node" | "maxCharge" | "gas" | "signal" | "onEvent"
>;

type SubmitDeps = ChooseDeps & {
  ledger: RequesterLedger;
  desk: ReceiptDesk;
  work: WorkList;
  wallet: { address: Address };
};

/** Chooses a node for one request and has `ask` pay for it. Throws what `chooseNode` and `ask` throw. */
export async function submitToSession(
  deps: SubmitDeps,
  { path, body, node, maxCharge, gas = "auto", signal, onEvent }: SessionSubmit,
  ask: (request: SessionRequest) => Promise<SessionBill>,
): Promise<SessionBill> {
  const request = readModelRequest(path, body);
  const most = deps.desk.affordable(maxCharge);
  const isRelayed = !(await paysOwnGas(deps.chain, deps.wallet.address, gas));
  const choose = (one: Address | undefined) =>
    chooseNode(deps, { request, node: one, maxCharge: most, isRelayed });
  let choice: Choice | undefined;
  for (const open of nodesWithSessions(deps, request.model, node)) {
    choice = await choose(open).catch((error: unknown) => {
      // It may be away by now; another one is asked.
      if (!(error instanceof InfernetError)) throw error;
      return undefined;
    });
    if (choice) break;
  }
  choice ??= await choose(node);
  const { endpoint, estimatedCost, latencyMs, signedOffer } = choice;
  onEvent?.({
    type: "chosen",
    ...{ node: choice.node, endpoint, offer: signedOffer.offer, estimatedCost, latencyMs },
  });
  return await ask({ request, choice, maxCharge, gas, signal, onEvent: (event) => onEvent?.(event) });
}

/** Nodes with an open session that sells the model and that no other process has in hand. */
function nodesWithSessions(
  { ledger, work }: SubmitDeps,
  model: string,
  node: Address | undefined,
): Address[] {
  const open = ledger.unfinishedSessions().filter((job) => {
    if (job.phase !== "open" && job.phase !== "streaming") return false;
    if (job.evidence !== null || (node !== undefined && job.job.node !== node)) return false;
    const { offer } = decodeOffer(job.terms!.offerBytes);
    return work.isFree(job) && offer.models.some(({ name }) => name === model);
  });
  return [...new Set(open.map(({ job }) => job.node))];
}
