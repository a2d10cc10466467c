// Owns `infernet node earnings`: what the node charged and got, by day and by model.
import type { Address } from "../../../protocol/bytes.ts";
import { formatMillionths, formatUsdc } from "../../../protocol/price.ts";
import type { EarnedDay, Served } from "../../../provider/earnings.ts";
import type { CommandSpec } from "../../command.ts";
import { readOwnEarnings } from "../../earnings.ts";
import { formatTable, printable } from "../../output.ts";
import { ownNodeAddress } from "../../own-node.ts";

type DescribedServed = Omit<Served, "cost"> & { costUsdc: string };
type DescribedDay = { day: string } & DescribedServed & { settledUsdc: string; paidOutUsdc: string };
type Result = {
  node: Address;
  chargedUsdc: string;
  unsettledUsdc: string;
  settledUsdc: string;
  earnedOnChainUsdc: string;
  paidOutUsdc: string;
  jobs: { open: number; settling: number; closed: number };
  days: DescribedDay[];
  models: ({ model: string } & DescribedServed)[];
};

export const earningsCommand: CommandSpec<object, Result> = {
  name: "earnings",
  summary: "Show what the node charged, settled and was paid, by day and by model",
  examples: ["node earnings", "node earnings --json"],
  async run(context) {
    const node = await ownNodeAddress(context);
    const chain = await context.chain();
    const earnings = await readOwnEarnings(context);
    const listed = (await chain.getNode(node))?.payee;
    const payees = new Set([...(earnings?.payees ?? []), ...(listed ? [listed] : [])]);
    const earned = await Promise.all([...payees].map((payee) => chain.getEarned(payee)));
    return {
      node,
      chargedUsdc: formatUsdc(earnings?.charged ?? 0n),
      unsettledUsdc: formatUsdc(earnings?.unsettled ?? 0n),
      settledUsdc: formatUsdc(earnings?.settled ?? 0n),
      earnedOnChainUsdc: formatUsdc(earned.reduce((sum, amount) => sum + amount, 0n)),
      paidOutUsdc: formatUsdc(earnings?.paidOut ?? 0n),
      jobs: earnings?.jobs ?? { open: 0, settling: 0, closed: 0 },
      days: (earnings?.days ?? []).map(describeDay),
      models: (earnings?.models ?? []).map((served) => ({ model: served.model, ...describeServed(served) })),
    };
  },
  render(result, style) {
    const { jobs, days, models } = result;
    const sums = formatTable([
      [style.dim("charged"), `${result.chargedUsdc} USDC`, "for all requests that ended"],
      [style.dim("unsettled"), `${result.unsettledUsdc} USDC`, "receipts cover it; the worker settles it"],
      [style.dim("settled"), `${result.settledUsdc} USDC`, "claimed on the chain, for good"],
      [style.dim("earned"), `${result.earnedOnChainUsdc} USDC`, "in the Escrow: infernet node payout"],
      [style.dim("paid out"), `${result.paidOutUsdc} USDC`, "by the worker"],
      [style.dim("jobs"), `${jobs.open} open, ${jobs.settling} settling, ${jobs.closed} closed`, ""],
    ]);
    if (days.length === 0) return sums;
    const heads = (...names: string[]) => names.map(style.dim);
    const byDay = [
      heads("DAY", "REQUESTS", "TOKENS IN", "OUT", "COST", "SETTLED", "PAID OUT"),
      ...days.map((day) => [day.day, ...countsOf(day), day.settledUsdc, day.paidOutUsdc]),
    ];
    const byModel = [
      heads("MODEL", "REQUESTS", "TOKENS IN", "OUT", "COST"),
      ...models.map((served) => [printable(served.model), ...countsOf(served)]),
    ];
    return [sums, formatTable(byDay), formatTable(byModel)].join("\n\n");
  },
};

function describeServed({ requests, promptTokens, completionTokens, cost }: Served): DescribedServed {
  return { requests, promptTokens, completionTokens, costUsdc: formatMillionths(cost) };
}

function describeDay(earned: EarnedDay): DescribedDay {
  const { day, settled, paidOut } = earned;
  const amounts = { settledUsdc: formatUsdc(settled), paidOutUsdc: formatUsdc(paidOut) };
  return { day, ...describeServed(earned), ...amounts };
}

function countsOf({ requests, promptTokens, completionTokens, costUsdc }: DescribedServed): string[] {
  return [String(requests), String(promptTokens), String(completionTokens), costUsdc];
}
