// Owns the routes by which requesters without gas reach the chain: relayed openings, and moves of their own money.
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import type { z } from "zod";
import { InfernetError } from "../../protocol/errors.ts";
import { RELAY_PATH, relayedMoveSchema, relayedOpeningSchema } from "../../protocol/relay.ts";
import { parseJsonWith } from "../../protocol/schema.ts";
import { JOBS_PATH } from "../../protocol/wire.ts";
import type { Relay } from "../relay.ts";

/** Two signatures of the largest size, with all that stands beside them. */
const MAX_BODY_BYTES = 32 * 1024;

export function addRelayRoutes(app: FastifyInstance, relay: Pick<Relay, "openJob" | "move">): void {
  const add = <Body>(path: string, schema: z.ZodType<Body>, act: (body: Body) => Promise<object>) =>
    app.post(path, { bodyLimit: MAX_BODY_BYTES }, async (request: FastifyRequest, reply: FastifyReply) => {
      try {
        const text = (request.body as Buffer).toString("utf8");
        const answer = await act(parseJsonWith(schema, text, "bad-request", "the request"));
        return await reply.type("application/json").send(JSON.stringify(answer));
      } catch (error) {
        const { retryAfterSeconds } = error instanceof InfernetError ? error.data : {};
        if (retryAfterSeconds !== undefined) reply.header("retry-after", String(retryAfterSeconds));
        throw error;
      }
    });
  add(JOBS_PATH, relayedOpeningSchema, (opening) => relay.openJob(opening));
  add(RELAY_PATH, relayedMoveSchema, (move) => relay.move(move));
}
