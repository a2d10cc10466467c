// Owns `infernet session open`: one job ahead of the requests that it is to pay for.
import { Option } from "commander";
import type { Address } from "../../../protocol/bytes.ts";
import type { CommandSpec } from "../../command.ts";
import { type FundingFlags, WAIT_FUNDS_OPTION, whenFunded } from "../../funding.ts";
import { ACCOUNT_OPTION, GAS_OPTION, type GasFlags } from "../../gas-flags.ts";
import { openNewRequester } from "../../requester-session.ts";
import { type DescribedSession, describeSession } from "../../session-form.ts";
import { parseAddress, parseAmount, parseDuration } from "../../values.ts";

type Options = FundingFlags &
  Pick<GasFlags, "gas" | "account"> & {
    model: string;
    node?: Address;
    deposit?: bigint;
    deadline?: number;
  };

export const openSessionCommand: CommandSpec<Options, DescribedSession> = {
  name: "open",
  summary: "Open a session: one deposit that pays for any number of requests",
  options: [
    new Option("--model <name>", "the model that it is for (see: infernet models)").makeOptionMandatory(),
    new Option("--node <address>", "with this node only; else the cheapest").argParser(parseAddress),
    new Option(
      "--deposit <amount>",
      "USDC to lock; what is not used comes back (default: requester.sessionUsdc)",
    ).argParser(parseAmount),
    new Option(
      "--deadline <duration>",
      "life of the session, like 2h: what is unclaimed then comes back",
    ).argParser(parseDuration),
    GAS_OPTION,
    ACCOUNT_OPTION,
    WAIT_FUNDS_OPTION,
  ],
  examples: ["session open --model llama3.2:1b", "session open --model llama3.2:1b --deposit 0.10 --json"],
  async run(context, { model, node, deposit, deadline, gas, account, waitFunds }) {
    const { requester, wallet } = await openNewRequester(context, account);
    context.endItself();
    const report = await whenFunded(context, { owner: account ?? wallet, waitFunds }, () =>
      requester.sessions.open({ model, node, gas, depositUsdc: deposit, deadlineSeconds: deadline }),
    );
    return describeSession(report);
  },
  render: ({ jobId, node, depositUsdc, returnsAt }) =>
    `session ${jobId} with node ${node} is open: ${depositUsdc} USDC, the rest back by ${returnsAt} at the latest`,
};
