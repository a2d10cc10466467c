// Owns how commands ask the gateway that runs on this machine.
import { InfernetError } from "../protocol/errors.ts";
import { parseJsonWith } from "../protocol/schema.ts";
import { type GatewayStatus, gatewayStatusSchema } from "../requester/gateway/status.ts";
import type { GatewaySettings } from "./gateway-settings.ts";

const TIMEOUT_MS = 10_000;

/** Its status. Throws `gateway-unreachable`, `unauthorized`. */
export async function fetchStatus(
  { host, port, token }: Pick<GatewaySettings, "host" | "port" | "token">,
  signal: AbortSignal,
): Promise<GatewayStatus> {
  const url = `http://${host.includes(":") ? `[${host}]` : host}:${port}`;
  const headers: Record<string, string> = token === undefined ? {} : { authorization: `Bearer ${token}` };
  const limit = AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT_MS)]);
  let status: number;
  let text: string;
  try {
    const answer = await fetch(`${url}/infernet/status`, { headers, signal: limit, redirect: "error" });
    status = answer.status;
    text = await answer.text();
  } catch (cause) {
    if (signal.aborted) throw signal.reason;
    throw new InfernetError("gateway-unreachable", `no gateway answers at ${url}`, {
      hint: "Start one: infernet gateway. Another place: --host and --port.",
      cause,
    });
  }
  if (status === 401) {
    throw new InfernetError("unauthorized", `the gateway at ${url} wants its token`, {
      hint: "Give --token-file or INFERNET_GATEWAY_TOKEN, as the gateway has it.",
    });
  }
  if (status === 200) {
    return parseJsonWith(gatewayStatusSchema, text, "gateway-unreachable", `the status that ${url} tells`);
  }
  throw new InfernetError(
    "gateway-unreachable",
    `what listens at ${url} is no gateway: it answers ${status}`,
  );
}
