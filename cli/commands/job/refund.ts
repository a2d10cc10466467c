// Owns `infernet job refund`: takes back what nobody claimed of a job whose deadline is past.
import type { Hex } from "../../../protocol/bytes.ts";
import type { CommandSpec } from "../../command.ts";
import { type DescribedJob, describeJob, renderJob } from "../../job-form.ts";
import { openRequester } from "../../requester-session.ts";
import { JOB_ID_ARGUMENT } from "./status.ts";

type Result = { refunded: boolean; tx: Hex | null; gasUsed: number | null; job: DescribedJob };

export const refundCommand: CommandSpec<{ id: Hex }, Result> = {
  name: "refund",
  summary: "Take back what nobody claimed of a job, from its deadline on",
  arguments: [JOB_ID_ARGUMENT],
  examples: [`job refund 0x${"5e".repeat(32)}`],
  async run(context, { id }) {
    const requester = await openRequester(context);
    const outcome = await requester.refund(id);
    const job = describeJob(await requester.status(id));
    if (outcome === "nothing-to-do") return { refunded: false, tx: null, gasUsed: null, job };
    return { refunded: true, tx: outcome.hash, gasUsed: Number(outcome.gasUsed), job };
  },
  render({ refunded, job }, style) {
    const said = refunded ? "Refunded: it is credit again." : "Nothing to do: the job is closed.";
    return `${said}\n${renderJob(job, style)}`;
  },
};
