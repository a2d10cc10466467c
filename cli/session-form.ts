// Owns how a session reads in results.
import { formatUsdc } from "../protocol/price.ts";
import type { SessionReport } from "../requester/sessions/session-request.ts";
import { describeFields } from "./event-form.ts";
import { formatTable, printable, type Style } from "./output.ts";

/** A session as JSON shows it: amounts as texts of USDC, times as ISO 8601. */
export type DescribedSession = Record<string, unknown> & { jobId: string };

export function describeSession(report: SessionReport): DescribedSession {
  const { openedAt, usedAt, deadline, returnsAt, evidence, ...rest } = report;
  return {
    ...(describeFields(rest) as DescribedSession),
    openedAt: toIsoTime(openedAt),
    usedAt: toIsoTime(usedAt),
    deadline: toIsoTime(deadline),
    returnsAt: toIsoTime(returnsAt),
    evidence: evidence === null ? null : JSON.parse(evidence),
  };
}

/** What stands in the Escrow for sessions, and when the last of it is back, whatever their nodes do. */
export function describeLocked(reports: readonly SessionReport[]): {
  lockedUsdc: string;
  returnsAt: string | null;
} {
  const locked = reports.reduce((sum, report) => sum + report.locked, 0n);
  const times = reports.flatMap(({ returnsAt }) => returnsAt ?? []);
  return {
    lockedUsdc: formatUsdc(locked),
    returnsAt: times.length === 0 ? null : toIsoTime(Math.max(...times)),
  };
}

/** Sessions for people. */
export function renderSessions(sessions: readonly DescribedSession[], style: Style): string {
  const rows = sessions.map((session) => [
    session.jobId,
    String(session.state),
    printable(String(session.model)),
    String(session.requests),
    String(session.chargedUsdc),
    String(session.depositUsdc),
    String(session.returnsAt ?? ""),
  ]);
  const titles = ["SESSION", "STATE", "MODEL", "REQUESTS", "CHARGED", "DEPOSIT", "BACK BY"];
  return formatTable([titles.map(style.dim), ...rows]);
}

function toIsoTime(seconds: number | null): string | null {
  return seconds === null ? null : new Date(seconds * 1000).toISOString();
}
