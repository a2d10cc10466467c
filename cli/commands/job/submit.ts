// Owns `infernet job submit`: pays for one answer and streams it.
import { Option } from "commander";
import type { Address } from "../../../protocol/bytes.ts";
import { utf8 } from "../../../protocol/bytes.ts";
import { formatUsdc } from "../../../protocol/price.ts";
import type { Requester } from "../../../requester/start.ts";
import type { Bill, SubmitEvent } from "../../../requester/submission.ts";
import { createAnswerWriter } from "../../answer.ts";
import type { CommandSpec } from "../../command.ts";
import type { Context } from "../../context.ts";
import { describeFields } from "../../event-form.ts";
import { type FundingFlags, WAIT_FUNDS_OPTION, whenFunded } from "../../funding.ts";
import { ACCOUNT_OPTION, GAS_OPTION, type GasFlags } from "../../gas-flags.ts";
import { type PromptFlags, readPrompt } from "../../prompt-input.ts";
import { openNewRequester } from "../../requester-session.ts";
import { decimalBetween, integerBetween, parseAddress, parseAmount, parseDuration } from "../../values.ts";

type Options = PromptFlags &
  FundingFlags &
  Pick<GasFlags, "gas" | "account"> & {
    model: string;
    system?: string;
    maxTokens?: number;
    temperature?: number;
    seed?: number;
    node?: Address;
    maxUsdc?: bigint;
    deadline?: number;
    wait?: number | true;
  };

/** How long `--wait` waits for the settlement when it names no time. */
const DEFAULT_WAIT_SECONDS = 120;
const MAX_SEED = 2_147_483_647;

export const submitCommand: CommandSpec<Options, undefined> = {
  name: "submit",
  summary: "Pay a node for one answer, and stream it to stdout",
  options: [
    new Option("--model <name>", "the model that answers (see: infernet models)").makeOptionMandatory(),
    new Option("--prompt <text>", "the prompt; else --file, else standard input"),
    new Option("--file <path>", "a file that holds the prompt (- is standard input)"),
    new Option("--system <text>", "instructions that precede the prompt"),
    new Option("--max-tokens <count>", "most tokens of the answer").argParser(integerBetween(1, 1_000_000)),
    new Option("--temperature <number>", "0 for the likeliest words, up to 2").argParser(
      decimalBetween(0, 2),
    ),
    new Option(
      "--seed <number>",
      "the same seed gives the same answer, where the model supports it",
    ).argParser(integerBetween(0, MAX_SEED)),
    new Option("--node <address>", "only this node").argParser(parseAddress),
    GAS_OPTION,
    ACCOUNT_OPTION,
    new Option("--max-usdc <amount>", "the most that the answer may cost").argParser(parseAmount),
    new Option(
      "--deadline <duration>",
      "life of the job, like 1h: what is unclaimed then comes back",
    ).argParser(parseDuration),
    new Option("--wait [duration]", "wait for the settlement on the chain, like 2m").argParser(parseDuration),
    WAIT_FUNDS_OPTION,
  ],
  examples: [
    'job submit --model llama3.2:1b --prompt "Why is the sky blue?" --max-usdc 0.01',
    "job submit --model llama3.2:1b --file notes.txt --max-tokens 200 --json",
    'job submit --model llama3.2:1b --prompt "Hello" --wait-funds 30m',
  ],
  async run(context, options) {
    const body = requestBodyOf(options, await readPrompt(context, options));
    const { requester, wallet } = await openNewRequester(context, options.account);
    const owner = options.account ?? wallet;
    const bill = await whenFunded(context, { ...options, owner }, () =>
      streamAnswer(context, requester, { ...options, body }),
    );
    if (context.output.json) context.output.result(describeFields(bill), () => "");
    else context.output.hint(renderBill(bill));
    return undefined;
  },
  render: () => "",
};

/** The OpenAI request, byte for byte what is hashed and paid for. */
export function requestBodyOf(options: Omit<Options, "wait">, prompt: string): Uint8Array {
  const { model, system, maxTokens, temperature, seed } = options;
  return utf8(
    JSON.stringify({
      model,
      messages: [
        ...(system === undefined ? [] : [{ role: "system", content: system }]),
        { role: "user", content: prompt },
      ],
      ...(maxTokens === undefined ? {} : { max_tokens: maxTokens }),
      ...(temperature === undefined ? {} : { temperature }),
      ...(seed === undefined ? {} : { seed }),
      stream: true,
      stream_options: { include_usage: true },
    }),
  );
}

async function streamAnswer(
  context: Context,
  requester: Requester,
  { body, ...options }: Options & { body: Uint8Array },
): Promise<Bill> {
  const answer = createAnswerWriter(context);
  // From here on money may be out: an interruption is for the requester, which closes the job first.
  context.endItself();
  try {
    const bill = await requester.submit({
      path: "/v1/chat/completions",
      body,
      node: options.node,
      gas: options.gas,
      maxCharge: options.maxUsdc,
      deadlineSeconds: options.deadline,
      settlementTimeoutMs: waitMs(options.wait),
      signal: context.signal,
      onEvent: (event) => report(context, event, answer.write),
    });
    await answer.end();
    return bill;
  } catch (error) {
    await answer.endEarly();
    throw error;
  }
}

function waitMs(wait: number | true | undefined): number {
  if (wait === undefined) return 0;
  return (wait === true ? DEFAULT_WAIT_SECONDS : wait) * 1000;
}

/** Tells one event as it happens. Words of the answer are never among what --json tells on stderr. */
function report({ output }: Context, event: SubmitEvent, write: (text: string) => void): void {
  switch (event.type) {
    case "text":
      write(event.text);
      output.progress({ event: "text", bytes: utf8(event.text).length }, "");
      return;
    case "payload":
      return;
    case "chosen": {
      const { node, endpoint, estimatedCost, latencyMs } = event;
      const estimate = formatUsdc(estimatedCost);
      output.progress(
        { event: "chosen", node, endpoint, estimatedCostUsdc: estimate, latencyMs: Math.round(latencyMs) },
        `node ${node} at ${endpoint}, at most about ${estimate} USDC`,
      );
      return;
    }
    case "delivered": {
      // Progress may be kept as a log, where no signature belongs: `job status` shows the signed whole.
      const { signature: _signature, ...delivery } = event.delivery;
      output.progress({ event: "delivered", ...describeFields({ delivery }) }, "");
      return;
    }
    default: {
      const { type, ...fields } = event;
      output.progress({ event: type, ...describeFields(fields) }, renderStep(event));
    }
  }
}

function renderStep(event: SubmitEvent): string {
  switch (event.type) {
    case "opened":
      return `opened job ${event.jobId} with ${formatUsdc(event.deposit)} USDC: ${event.tx}`;
    case "resumed":
      return `resumed job ${event.jobId}, which already pays for this`;
    default:
      return "";
  }
}

function renderBill(bill: Bill): string {
  const { promptTokens, completionTokens, charge, deposit, settled, jobId } = bill;
  const counts = `${promptTokens} + ${completionTokens} tokens${bill.estimated ? " (estimated)" : ""}`;
  const rest = settled
    ? `settled; ${formatUsdc(settled.returned)} USDC came back as credit`
    : `${formatUsdc(deposit - charge)} USDC of the deposit come back when the node settles`;
  return `${counts} for ${formatUsdc(charge)} USDC; ${rest}\njob ${jobId}`;
}
