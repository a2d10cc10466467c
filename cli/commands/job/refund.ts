// Owns `infernet job refund`: takes back what nobody claimed of a job whose deadline is past.
import type { Address, Hex } from "../../../protocol/bytes.ts";
import type { CommandSpec } from "../../command.ts";
import { GAS_OPTION, type GasFlags, NODE_OPTION } from "../../gas-flags.ts";
import { type DescribedJob, describeJob, renderJob } from "../../job-form.ts";
import { openRequester } from "../../requester-session.ts";
import { JOB_ID_ARGUMENT } from "./status.ts";

type Options = Omit<GasFlags, "account"> & { id: Hex };
/** `node` is who sent it, null for the wallet itself. */
type Result = {
  refunded: boolean;
  tx: Hex | null;
  gasUsed: number | null;
  node: Address | null;
  job: DescribedJob;
};

export const refundCommand: CommandSpec<Options, Result> = {
  name: "refund",
  summary: "Take back what nobody claimed of a job, from its deadline on",
  arguments: [JOB_ID_ARGUMENT],
  options: [GAS_OPTION, NODE_OPTION],
  examples: [`job refund 0x${"5e".repeat(32)}`],
  async run(context, { id, gas, node: only }) {
    const requester = await openRequester(context);
    const outcome = await requester.refund(id, { gas, node: only });
    const job = describeJob(await requester.status(id));
    if (outcome === "nothing-to-do") return { refunded: false, tx: null, gasUsed: null, node: null, job };
    const { tx, gasUsed, node } = outcome;
    return { refunded: true, tx, gasUsed: gasUsed === null ? null : Number(gasUsed), node, job };
  },
  render({ refunded, job }, style) {
    const said = refunded ? "Refunded: it is credit again." : "Nothing to do: the job is closed.";
    return `${said}\n${renderJob(job, style)}`;
  },
};
