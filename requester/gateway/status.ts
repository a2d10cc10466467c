// Owns what `/infernet/status` tells: spending, sessions, money that is locked and when it comes back, and the routes.
import { z } from "zod";
import type { Address } from "../../protocol/bytes.ts";
import { formatUsdc } from "../../protocol/price.ts";
import type { RouteRow } from "../routing/buyer.ts";
import type { SessionReport } from "../sessions/session-request.ts";

export type StatusParts = {
  account: Address;
  /** What receipts promised today, and may still promise. */
  day: { signed: bigint; left: bigint };
  sessions: readonly SessionReport[];
  routes: readonly RouteRow[];
};

const usdc = z.string().regex(/^\d+\.\d{6}$/);
const text = z.string();
const count = z.int().nonnegative();
const time = z.iso.datetime();

const sessionSchema = z.strictObject({
  ...{ jobId: text, state: z.enum(["opening", "open", "closing", "closed"]), node: text, model: text },
  ...{ depositUsdc: usdc, signedUsdc: usdc, chargedUsdc: usdc, requests: count, active: count },
  ...{ openedAt: time.nullable(), deadline: time, lockedUsdc: usdc, returnsAt: time.nullable() },
});
const routeSchema = z.strictObject({
  ...{ node: text, model: text, requests: count, errorRate: z.number() },
  ...{ firstTokenMs: z.number().nullable(), tokensPerSecond: z.number().nullable() },
  lastErrors: z.array(z.strictObject({ at: time, code: text, message: text })),
  ...{ coolUntil: time.nullable(), coolReason: text.nullable(), dropped: text.nullable() },
});

/** Amounts are decimal texts of USDC. */
export const gatewayStatusSchema = z.strictObject({
  account: text,
  startedAt: time,
  requests: z.strictObject({ running: count, served: count, failed: count }),
  spending: z.strictObject({ signedTodayUsdc: usdc, dayLeftUsdc: usdc }),
  lockedUsdc: usdc,
  /** When all of it is back at the latest, whatever the nodes do. */
  returnsAt: time.nullable(),
  sessions: z.array(sessionSchema),
  routes: z.array(routeSchema),
});
export type GatewayStatus = z.infer<typeof gatewayStatusSchema>;

export type RequestCounts = { running: number; served: number; failed: number; startedAt: number };

export function describeStatus(parts: StatusParts, { startedAt, ...requests }: RequestCounts): GatewayStatus {
  const { account, day, sessions, routes } = parts;
  const returns = sessions.map(({ returnsAt }) => returnsAt).filter((at) => at !== null);
  return {
    account,
    startedAt: formatTime(startedAt),
    requests,
    spending: { signedTodayUsdc: formatUsdc(day.signed), dayLeftUsdc: formatUsdc(day.left) },
    lockedUsdc: formatUsdc(sessions.reduce((sum, { locked }) => sum + locked, 0n)),
    returnsAt: returns.length === 0 ? null : formatTime(Math.max(...returns)),
    sessions: sessions.map(describeSession),
    routes: routes.map(describeRoute),
  };
}

function describeSession(session: SessionReport): GatewayStatus["sessions"][number] {
  const { jobId, state, node, model, requests, active, openedAt, returnsAt } = session;
  return {
    ...{ jobId, state, node, model },
    ...{ depositUsdc: formatUsdc(session.deposit), signedUsdc: formatUsdc(session.signed) },
    ...{ chargedUsdc: formatUsdc(session.charged), requests, active },
    openedAt: openedAt === null ? null : formatTime(openedAt),
    ...{ deadline: formatTime(session.deadline), lockedUsdc: formatUsdc(session.locked) },
    returnsAt: returnsAt === null ? null : formatTime(returnsAt),
  };
}

function describeRoute({ lastErrors, coolUntil, ...row }: RouteRow): GatewayStatus["routes"][number] {
  return {
    ...row,
    lastErrors: lastErrors.map(({ at, ...error }) => ({ at: formatTime(at), ...error })),
    coolUntil: coolUntil === null ? null : formatTime(coolUntil),
  };
}

function formatTime(seconds: number): string {
  return new Date(seconds * 1000).toISOString();
}
