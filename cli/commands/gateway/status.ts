// Owns `infernet gateway status`: what a running gateway has spent, what is locked, and how its nodes do.
import type { GatewayStatus } from "../../../requester/gateway/status.ts";
import type { CommandSpec } from "../../command.ts";
import type { Context } from "../../context.ts";
import { GATEWAY_PLACE_OPTIONS, type GatewayPlaceFlags } from "../../gateway-flags.ts";
import { formatTable, printable, type Style } from "../../output.ts";

export const gatewayStatusCommand: CommandSpec<GatewayPlaceFlags, GatewayStatus> = {
  name: "status",
  summary: "Show what a running gateway has spent, what is locked, and how its nodes do",
  options: GATEWAY_PLACE_OPTIONS,
  examples: ["gateway status", "gateway status --json"],
  run: (context, options) => askStatus(context, options),
  render(status, style) {
    const { requests, spending, lockedUsdc, returnsAt } = status;
    const back = returnsAt === null ? "" : `, back at the latest ${returnsAt}`;
    const lines = [
      [style.dim("account"), status.account],
      [style.dim("since"), status.startedAt],
      [
        style.dim("requests"),
        `${requests.served} served, ${requests.failed} failed, ${requests.running} running`,
      ],
      [
        style.dim("today"),
        `${spending.signedTodayUsdc} USDC signed, ${spending.dayLeftUsdc} left of the budget`,
      ],
      [style.dim("locked"), `${lockedUsdc} USDC${back}`],
    ];
    return [formatTable(lines), ...sessionsTable(status, style), ...routesTable(status, style)].join("\n\n");
  },
};

async function askStatus(context: Context, flags: GatewayPlaceFlags): Promise<GatewayStatus> {
  const [{ readGatewaySettings }, { fetchStatus }] = await Promise.all([
    import("../../gateway-settings.ts"),
    import("../../gateway-client.ts"),
  ]);
  const { home } = await context.config();
  return fetchStatus(readGatewaySettings({ home, env: context.terminal.env, flags }), context.signal);
}

function sessionsTable({ sessions }: GatewayStatus, style: Style): string[] {
  if (sessions.length === 0) return [];
  const rows = sessions.map((session) => [
    session.jobId,
    session.state,
    printable(session.model),
    String(session.requests),
    session.chargedUsdc,
    session.signedUsdc,
    session.depositUsdc,
    session.deadline,
  ]);
  const heads = ["SESSION", "STATE", "MODEL", "REQUESTS", "CHARGED", "SIGNED", "DEPOSIT", "DEADLINE"];
  return [formatTable([heads.map(style.dim), ...rows])];
}

function routesTable({ routes }: GatewayStatus, style: Style): string[] {
  if (routes.length === 0) return [];
  const rows = routes.map((route) => [
    route.node,
    printable(route.model),
    String(route.requests),
    route.firstTokenMs === null ? "-" : `${Math.round(route.firstTokenMs)} ms`,
    route.tokensPerSecond === null ? "-" : route.tokensPerSecond.toFixed(1),
    `${Math.round(route.errorRate * 100)}%`,
    printable(stateOf(route)),
  ]);
  const heads = ["NODE", "MODEL", "REQUESTS", "FIRST TOKEN", "TOKENS/S", "ERRORS", "STATE"];
  return [formatTable([heads.map(style.dim), ...rows])];
}

function stateOf({ dropped, coolUntil, coolReason }: GatewayStatus["routes"][number]): string {
  if (dropped !== null) return `dropped: ${dropped}`;
  return coolUntil === null ? "in use" : `cools down until ${coolUntil}: ${coolReason}`;
}
