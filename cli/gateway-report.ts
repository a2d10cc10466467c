// Owns what a gateway tells who started it: where it is, what it sells, each request and session, and what stays locked.
import { formatUsdc } from "../protocol/price.ts";
import type { Gateway, GatewayEvent } from "../requester/gateway/server.ts";
import type { Buyer, SoldModel } from "../requester/routing/buyer.ts";
import type { SessionEvent, SessionReport } from "../requester/sessions/session-request.ts";
import type { Requester } from "../requester/start.ts";
import type { Context } from "./context.ts";
import { describeFields } from "./event-form.ts";
import { formatTable, printable, type Style } from "./output.ts";
import { formatPrice } from "./values.ts";

type Scene = { gateway: Gateway; buyer: Buyer; requester: Requester; hasToken: boolean };

/** Tells where the gateway is and what it sells, and from then on what happens. */
export async function announceGateway(
  context: Context,
  { gateway, buyer, requester, hasToken }: Scene,
): Promise<void> {
  const { output, terminal } = context;
  const baseUrl = `${gateway.url}/v1`;
  const models = await buyer.models().catch(() => []);
  if (output.json) {
    const sold = models.map(({ best, ...model }) => ({ ...model, best: describeBest(best) }));
    output.line({ event: "listening", url: gateway.url, baseUrl, hasToken, models: sold });
  } else output.result({}, (style) => renderStart({ baseUrl, hasToken, models }, style));
  await warnOfEmptyPurse(context, requester);
  gateway.subscribe((event) => {
    const { type, ...fields } = event;
    if (output.json) output.line({ event: type, ...describeFields(fields) });
    else if (terminal.isRead) output.hint(renderEvent(event));
  });
  requester.sessions.subscribe(({ type, session }) => {
    const event = `session${type[0]!.toUpperCase()}${type.slice(1)}`;
    if (output.json) output.line({ event, ...describeFields({ session: withoutEvidence(session) }) });
    else if (terminal.isRead) output.hint(renderSession({ type, session }));
  });
}

function describeBest({ node, inputPrice, outputPrice }: SoldModel["best"]): Record<string, unknown> {
  return { node, inputPriceUsdc: formatPrice(inputPrice), outputPriceUsdc: formatPrice(outputPrice) };
}

function renderStart(
  { baseUrl, hasToken, models }: { baseUrl: string; hasToken: boolean; models: readonly SoldModel[] },
  style: Style,
): string {
  const rows = models.map(({ name, best, nodes, features }) => [
    printable(name),
    formatPrice(best.inputPrice),
    formatPrice(best.outputPrice),
    String(nodes.length),
    printable(features.join(" ")),
  ]);
  const heads = ["MODEL", "IN", "OUT", "NODES", "DOES"].map(style.dim);
  const sold =
    rows.length === 0
      ? "No node sells anything now; what comes on sale is served at once."
      : `${formatTable([heads, ...rows])}\n${style.dim("Prices: USDC per million tokens.")}`;
  return [
    `${style.green("●")} the gateway listens at ${style.bold(baseUrl)}`,
    sold,
    "Point any OpenAI client at it:",
    `  export OPENAI_BASE_URL=${baseUrl}\n  export OPENAI_API_KEY=${hasToken ? "<the gateway's token>" : "none"}`,
    `  curl ${baseUrl}/chat/completions -H 'content-type: application/json' \\\n    -d '{"model":"auto:cheap","messages":[{"role":"user","content":"Hello"}]}'`,
  ].join("\n\n");
}

async function warnOfEmptyPurse({ output, chain }: Context, { account }: Requester): Promise<void> {
  const view = await chain();
  const [usdc, credit] = await Promise.all([view.getUsdc(account), view.getCredit(account)]);
  if (usdc + credit > 0n) return;
  output.progress(
    { event: "fundsMissing", address: account },
    `${account} has no USDC yet: requests end with 402 until it has. See: infernet wallet fund`,
  );
}

function renderEvent(event: GatewayEvent): string {
  const model = printable(event.model);
  const charge = `${formatUsdc(event.charge)} USDC`;
  if (event.type === "failed") {
    const cost = event.charge === 0n ? "nothing charged" : charge;
    return `${model} failed: ${event.code}, ${cost}: ${printable(event.message)}`;
  }
  const { promptTokens, completionTokens, node } = event;
  return `${model} ${promptTokens} + ${completionTokens} tokens, ${charge}, from ${node}`;
}

function renderSession({ type, session }: SessionEvent): string {
  const { jobId, node, deposit, charged } = session;
  const money =
    type === "closed" ? `${formatUsdc(charged)} USDC paid` : `${formatUsdc(deposit)} USDC deposited`;
  return `session ${jobId.slice(0, 10)} with ${node} ${type}: ${money}`;
}

/** At the end: what stays locked, and when it comes back whatever the nodes do. */
export function tellLocked(
  { output }: Context,
  closed: readonly SessionReport[],
  left: readonly SessionReport[],
): void {
  const locked = left.filter((session) => session.locked > 0n);
  const sum = locked.reduce((total, session) => total + session.locked, 0n);
  const lastReturn = Math.max(0, ...locked.map(({ returnsAt }) => returnsAt ?? 0));
  const returnsAt = lastReturn === 0 ? null : new Date(lastReturn * 1000).toISOString();
  if (output.json) {
    const sessions = locked.map((session) => describeFields(withoutEvidence(session)));
    output.line({
      event: "stopped",
      closed: closed.length,
      lockedUsdc: formatUsdc(sum),
      returnsAt,
      sessions,
    });
    return;
  }
  if (closed.length > 0) output.hint(`asked nodes to close ${closed.length} sessions`);
  if (returnsAt !== null) {
    output.hint(
      `${formatUsdc(sum)} USDC stay locked until their nodes settle; what is left comes back at ${returnsAt} at the latest`,
    );
  }
}

function withoutEvidence({ evidence: _evidence, ...session }: SessionReport): Record<string, unknown> {
  return session;
}
