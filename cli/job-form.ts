// Owns how a job reads in results.
import type { Hex } from "../protocol/bytes.ts";
import { formatUsdc } from "../protocol/price.ts";
import type { JobReport } from "../requester/job-report.ts";
import { describeFields } from "./event-form.ts";
import { formatTable, printable, type Style } from "./output.ts";

/** A job as JSON shows it: amounts as texts of USDC, times as ISO 8601. */
export type DescribedJob = Record<string, unknown> & { jobId: Hex };

export function describeJob(report: JobReport): DescribedJob {
  const { deadline, createdAt, charge, returned, evidence, ...rest } = report;
  return {
    ...(describeFields(rest) as DescribedJob),
    chargeUsdc: charge === null ? null : formatUsdc(charge),
    returnedUsdc: returned === null ? null : formatUsdc(returned),
    deadline: toIsoTime(deadline),
    createdAt: toIsoTime(createdAt),
    evidence: evidence === null ? null : JSON.parse(evidence),
  };
}

/** One job, everything about it, for people. */
export function renderJob(job: DescribedJob, style: Style): string {
  const rows = Object.entries(job)
    .filter(([, value]) => value !== null && typeof value !== "object")
    .map(([name, value]) => [style.dim(name), printable(String(value))]);
  return formatTable(rows);
}

function toIsoTime(seconds: number): string {
  return new Date(seconds * 1000).toISOString();
}
