// Owns `infernet job wait`: until the chain has closed a job.
import { Option } from "commander";
import type { Hex } from "../../../protocol/bytes.ts";
import type { CommandSpec } from "../../command.ts";
import { type DescribedJob, describeJob, renderJob } from "../../job-form.ts";
import { openRequesterToLook } from "../../requester-session.ts";
import { parseDuration } from "../../values.ts";
import { JOB_ID_ARGUMENT } from "./status.ts";

const DEFAULT_TIMEOUT_SECONDS = 600;

export const waitCommand: CommandSpec<{ id: Hex; timeout: number }, DescribedJob> = {
  name: "wait",
  summary: "Wait until the chain has closed a job",
  arguments: [JOB_ID_ARGUMENT],
  options: [
    new Option("--timeout <duration>", "give up after so long, like 2m")
      .argParser(parseDuration)
      .default(DEFAULT_TIMEOUT_SECONDS, "10m"),
  ],
  examples: [`job wait 0x${"5e".repeat(32)} --timeout 2m`],
  async run(context, { id, timeout }) {
    const requester = await openRequesterToLook(context);
    return describeJob(await requester.wait(id, { timeoutMs: timeout * 1000, signal: context.signal }));
  },
  render: renderJob,
};
