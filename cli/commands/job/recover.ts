// Owns `infernet job recover`: brings jobs that an earlier run left behind to their end, those of a lost ledger too.
import type { CommandSpec } from "../../command.ts";
import { type DescribedJob, describeJob } from "../../job-form.ts";
import { openRequester } from "../../requester-session.ts";

type Result = { found: DescribedJob[]; tended: DescribedJob[] };

export const recoverCommand: CommandSpec<object, Result> = {
  name: "recover",
  summary: "End jobs that were left behind: closed by their nodes, or refunded",
  examples: ["job recover", "job recover --json"],
  async run(context) {
    const requester = await openRequester(context);
    const found = await requester.recover();
    const tended = await requester.tend();
    return { found: found.map(describeJob), tended: tended.map(describeJob) };
  },
  render({ found, tended }) {
    const lines = tended.map(({ jobId, phase }) => `${jobId} ${phase}`);
    return [`${found.length} found on the chain, ${tended.length} looked after`, ...lines].join("\n");
  },
};
