// Owns `infernet job status`: one job, after a look at the chain.
import { Argument } from "commander";
import type { Hex } from "../../../protocol/bytes.ts";
import type { CommandSpec } from "../../command.ts";
import { type DescribedJob, describeJob, renderJob } from "../../job-form.ts";
import { openRequesterToLook } from "../../requester-session.ts";
import { parseJobId } from "../../values.ts";

export const JOB_ID_ARGUMENT = new Argument("<id>", "the job's id").argParser(parseJobId);

export const statusCommand: CommandSpec<{ id: Hex }, DescribedJob> = {
  name: "status",
  summary: "Show one job, after a look at the chain",
  arguments: [JOB_ID_ARGUMENT],
  examples: [`job status 0x${"5e".repeat(32)}`],
  async run(context, { id }) {
    const requester = await openRequesterToLook(context);
    return describeJob(await requester.status(id));
  },
  render: renderJob,
};
