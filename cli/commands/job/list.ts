// Owns `infernet job list`: the wallet's jobs as the ledger knows them.
import type { CommandSpec } from "../../command.ts";
import { type DescribedJob, describeJob } from "../../job-form.ts";
import { formatTable, printable } from "../../output.ts";
import { openRequesterToLook } from "../../requester-session.ts";

export const listCommand: CommandSpec<object, { jobs: DescribedJob[] }> = {
  name: "list",
  summary: "List the wallet's jobs, newest first",
  examples: ["job list", "job list --json"],
  async run(context) {
    const requester = await openRequesterToLook(context);
    return { jobs: requester.listJobs().map(describeJob) };
  },
  render({ jobs }, style) {
    if (jobs.length === 0) return "No job yet.";
    const rows = jobs.map((job) => [
      job.jobId,
      String(job.kind ?? ""),
      String(job.phase),
      printable(String(job.model ?? "")),
      String(job.depositUsdc),
      String(job.chargeUsdc ?? ""),
    ]);
    return formatTable([["JOB", "KIND", "PHASE", "MODEL", "DEPOSIT", "CHARGE"].map(style.dim), ...rows]);
  },
};
