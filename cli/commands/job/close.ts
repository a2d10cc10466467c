// Owns `infernet job close`: asks a job's node to settle it now, so that the rest of the deposit returns early.
import type { Hex } from "../../../protocol/bytes.ts";
import type { CommandSpec } from "../../command.ts";
import { describeFields } from "../../event-form.ts";
import { openRequester } from "../../requester-session.ts";
import { JOB_ID_ARGUMENT } from "./status.ts";

type Result = Record<string, unknown>;

export const closeCommand: CommandSpec<{ id: Hex }, Result> = {
  name: "close",
  summary: "Ask a job's node to settle it now, before its deadline",
  arguments: [JOB_ID_ARGUMENT],
  examples: [`job close 0x${"5e".repeat(32)}`],
  async run(context, { id }) {
    const requester = await openRequester(context);
    const { requests: _requests, ...document } = await requester.close(id);
    return describeFields({ ...document, deadline: new Date(document.deadline * 1000).toISOString() });
  },
  render: ({ status, chargeUsdc }) => `The node says: ${status}, charge ${chargeUsdc} USDC.`,
};
