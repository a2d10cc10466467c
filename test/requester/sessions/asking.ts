// Owns how the tests of sessions ask: a request, a choice of one node, and what came of it.
import type { Address, Hex } from "../../../protocol/bytes.ts";
import { type Choice, chooseNode } from "../../../requester/choose.ts";
import { readModelRequest } from "../../../requester/model-request.ts";
import type { SessionBill, SessionRequest } from "../../../requester/sessions/session-request.ts";
import { systemClock } from "../../../runtime/clock.ts";
import { type BodyFields, type Buyer, chatBody, type World } from "../world.ts";

export type Asking = Partial<Omit<SessionRequest, "request" | "choice">> & {
  body?: Uint8Array;
  fields?: BodyFields;
};

/** The offer of one node as it is now, chosen for a request of these bytes. */
export async function chooseOne(world: World, node: Address, body: Uint8Array): Promise<Choice> {
  const request = readModelRequest("/v1/chat/completions", body);
  return await chooseNode(
    { chain: world.chain, clock: systemClock },
    { request, node, maxCharge: 1n << 60n },
  );
}

/** Asks a session with a node, whose offer is read anew each time. */
export async function ask(
  world: World,
  { requester }: Pick<Buyer, "requester">,
  node: Address,
  { body, fields, ...rest }: Asking = {},
): Promise<SessionBill> {
  const bytes = body ?? chatBody({ max_tokens: 64, ...fields });
  const request = readModelRequest("/v1/chat/completions", bytes);
  return await requester.sessions.ask({ request, choice: await chooseOne(world, node, bytes), ...rest });
}

/** What the payee of a closed session has earned by it. */
export async function claimedOf({ chain }: World, jobId: Hex): Promise<bigint> {
  const { status, claimed } = await chain.getJobState(jobId);
  if (status !== "closed") throw new Error(`the session ${jobId} is ${status}`);
  return claimed;
}
