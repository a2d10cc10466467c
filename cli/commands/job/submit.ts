// Owns `infernet job submit`: pays for one answer and streams it.
import { Option } from "commander";
import type { Address } from "../../../protocol/bytes.ts";
import { utf8 } from "../../../protocol/bytes.ts";
import { InfernetError } from "../../../protocol/errors.ts";
import { formatUsdc } from "../../../protocol/price.ts";
import type { SessionBill } from "../../../requester/sessions/session-request.ts";
import type { SessionSubmit } from "../../../requester/sessions/session-submit.ts";
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
    session?: true;
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
    new Option("--session", "pay out of an open session, or open one; it stays open for the next request"),
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
    'job submit --session --model llama3.2:1b --prompt "Hello again"',
  ],
  async run(context, options) {
    if (options.session) refuseSingleFlags(options);
    const body = requestBodyOf(options, await readPrompt(context, options));
    const { requester, wallet } = await openNewRequester(context, options.account);
    const owner = options.account ?? wallet;
    const bill = await whenFunded(context, { ...options, owner }, () =>
      streamAnswer(context, requester, { ...options, body }),
    );
    if (context.output.json) context.output.result(describeFields(bill), () => "");
    else context.output.hint("settled" in bill ? renderBill(bill) : renderSessionBill(bill));
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
): Promise<Bill | DescribedSessionBill> {
  const answer = createAnswerWriter(context);
  // From here on money may be out: an interruption is for the requester, which closes the job first.
  context.endItself();
  const input = {
    path: "/v1/chat/completions" as const,
    ...{ body, node: options.node, gas: options.gas, maxCharge: options.maxUsdc, signal: context.signal },
    onEvent: (event: SubmitEvent) => report(context, event, answer.write),
  };
  try {
    const bill = options.session
      ? await askSession(context, requester, input)
      : await requester.submit({
          ...input,
          deadlineSeconds: options.deadline,
          settlementTimeoutMs: waitMs(options.wait),
        });
    await answer.end();
    return bill;
  } catch (error) {
    await answer.endEarly();
    throw error;
  }
}

/** A session's bill, its exact cost in millionths of a base unit under the name that results give it. */
type DescribedSessionBill = Omit<SessionBill, "costMillionths" | "payload"> & { cost: bigint };

async function askSession(
  { output }: Context,
  requester: Requester,
  input: SessionSubmit,
): Promise<DescribedSessionBill> {
  const unsubscribe = requester.sessions.subscribe(({ type, session: { jobId, node, deposit } }) => {
    const told = describeFields({ jobId, node, deposit });
    output.progress(
      { event: `session-${type}`, ...told },
      type === "opened" ? `opened session ${jobId}` : "",
    );
  });
  try {
    const { costMillionths: cost, payload: _payload, ...bill } = await requester.sessions.submit(input);
    return { ...bill, cost };
  } finally {
    unsubscribe();
  }
}

/** Throws `bad-request` for what only the job of a single request has. */
function refuseSingleFlags({ deadline, wait }: Options): void {
  const flag = deadline !== undefined ? "--deadline" : wait !== undefined ? "--wait" : undefined;
  if (flag === undefined) return;
  throw new InfernetError("bad-request", `${flag} does not go with --session`, {
    hint: "A session goes on after the answer: see infernet session open --deadline, and infernet session close.",
  });
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

function renderSessionBill(bill: DescribedSessionBill): string {
  const { promptTokens, completionTokens, estimated, charge, jobId } = bill;
  const counts = `${promptTokens} + ${completionTokens} tokens${estimated ? " (estimated)" : ""}`;
  return `${counts} for ${formatUsdc(charge)} USDC\nsession ${jobId} stays open: infernet session close ends it`;
}

function renderBill(bill: Bill): string {
  const { promptTokens, completionTokens, charge, deposit, settled, jobId } = bill;
  const counts = `${promptTokens} + ${completionTokens} tokens${bill.estimated ? " (estimated)" : ""}`;
  const rest = settled
    ? `settled; ${formatUsdc(settled.returned)} USDC came back as credit`
    : `${formatUsdc(deposit - charge)} USDC of the deposit come back when the node settles`;
  return `${counts} for ${formatUsdc(charge)} USDC; ${rest}\njob ${jobId}`;
}
