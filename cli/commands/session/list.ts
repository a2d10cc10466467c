// Owns `infernet session list`: open sessions, what they lock, and when that comes back.
import type { CommandSpec } from "../../command.ts";
import { openRequesterToLook } from "../../requester-session.ts";
import {
  type DescribedSession,
  describeLocked,
  describeSession,
  renderSessions,
} from "../../session-form.ts";

type Result = { sessions: DescribedSession[]; lockedUsdc: string; returnsAt: string | null };

export const listSessionsCommand: CommandSpec<object, Result> = {
  name: "list",
  summary: "List the sessions that the chain has not closed, and the money in them",
  examples: ["session list", "session list --json"],
  async run(context) {
    const requester = await openRequesterToLook(context);
    const reports = requester.sessions.list();
    return { sessions: reports.map(describeSession), ...describeLocked(reports) };
  },
  render({ sessions, lockedUsdc, returnsAt }, style) {
    if (sessions.length === 0) return "No open session.";
    return `${renderSessions(sessions, style)}\n${lockedUsdc} USDC locked, all that is left of it back by ${returnsAt}`;
  },
};
