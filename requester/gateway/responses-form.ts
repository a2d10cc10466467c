// Owns the Responses API at the gateway: one chat request that is bought, its answer told in that API's words.
import type { Clock } from "../../runtime/clock.ts";
import type { ClientRequest } from "./client-request.ts";
import { readClientRequest } from "./client-request.ts";
import { ResponseBuilder } from "./response-builder.ts";
import { chatRequestOf, readResponsesRequest } from "./responses-request.ts";

/** Reads a request of `/v1/responses`. Throws `bad-request` that names the member. */
export function readResponses(bytes: Uint8Array, clock: Clock): ClientRequest {
  const request = readResponsesRequest(bytes);
  const chat = Buffer.from(JSON.stringify(chatRequestOf(request)));
  const order = readClientRequest("/v1/chat/completions", chat);
  const builder = new ResponseBuilder(request, clock.nowSeconds());
  if (request.stream) {
    const stream = {
      take: (payload: string) => builder.take(payload),
      finish: () => builder.finish(clock.nowSeconds()),
      fail: (error: Parameters<ResponseBuilder["fail"]>[0]) => builder.fail(error),
    };
    return { ...order, form: { stream } };
  }
  const whole = {
    take: (payload: string) => void builder.take(payload),
    finish() {
      builder.finish(clock.nowSeconds());
      return builder.object();
    },
  };
  return { ...order, form: { whole } };
}
