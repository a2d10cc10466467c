// Owns `infernet job result`: what a job delivered, and its answer again where the node still keeps it.
import type { Hex } from "../../../protocol/bytes.ts";
import { formatUsdc } from "../../../protocol/price.ts";
import type { JobResult } from "../../../requester/result.ts";
import { createAnswerWriter } from "../../answer.ts";
import type { CommandSpec } from "../../command.ts";
import { describeFields } from "../../event-form.ts";
import { openRequester } from "../../requester-session.ts";
import { JOB_ID_ARGUMENT } from "./status.ts";

export const resultCommand: CommandSpec<{ id: Hex }, undefined> = {
  name: "result",
  summary: "Print a job's answer again, at no new charge: nodes keep it for an hour",
  arguments: [JOB_ID_ARGUMENT],
  examples: [`job result 0x${"5e".repeat(32)}`],
  async run(context, { id }) {
    const { output } = context;
    const requester = await openRequester(context);
    const { jobId, delivery, answer, problem } = await requester.result(id);
    // Without a delivery there is nothing to tell but why.
    if (problem && !delivery) throw problem;
    const { text = null, finishReason = null } = answer ?? {};
    if (output.json) {
      const missing = problem && { code: problem.code, message: problem.message };
      output.result(
        { jobId, text, finishReason, delivery: delivery && describeFields(delivery), missing },
        () => "",
      );
      return undefined;
    }
    const writer = createAnswerWriter(context);
    writer.write(text ?? "");
    await writer.end();
    output.hint(renderDelivery({ jobId, delivery, answer, problem }));
    return undefined;
  },
  render: () => "",
};

function renderDelivery({ jobId, delivery, problem }: JobResult): string {
  const { promptTokens, completionTokens, estimated, jobCharge } = delivery!;
  const counts = `${promptTokens} + ${completionTokens} tokens${estimated ? " (estimated)" : ""}`;
  const why = problem ? `the answer is not to be had any more: ${problem.message}\n` : "";
  return `${why}${counts} for ${formatUsdc(jobCharge)} USDC\njob ${jobId}`;
}
