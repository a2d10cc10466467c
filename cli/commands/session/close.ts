// Owns `infernet session close`: sessions settled by their nodes now, so that the rest of their deposits returns.
import { Argument } from "commander";
import type { Hex } from "../../../protocol/bytes.ts";
import type { CommandSpec } from "../../command.ts";
import { openRequester } from "../../requester-session.ts";
import { type DescribedSession, describeSession, renderSessions } from "../../session-form.ts";
import { parseJobId } from "../../values.ts";

export const closeSessionCommand: CommandSpec<{ id?: Hex }, { sessions: DescribedSession[] }> = {
  name: "close",
  summary: "Have sessions closed by their nodes: one, or all that no other process uses",
  arguments: [new Argument("[id]", "the session's job id; all of them unless told").argParser(parseJobId)],
  examples: [`session close 0x${"5e".repeat(32)}`, "session close", "session close --json"],
  async run(context, { id }) {
    const requester = await openRequester(context);
    const closed = await requester.sessions.close(id);
    return { sessions: closed.map(describeSession) };
  },
  render: ({ sessions }, style) =>
    sessions.length === 0 ? "No open session." : renderSessions(sessions, style),
};
