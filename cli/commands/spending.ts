// Owns `infernet spending`: what requests have cost, with filters, sums, and a table for other programs.
import { Option } from "commander";
import type { Address, Hex } from "../../protocol/bytes.ts";
import { formatMillionths, formatUsdc } from "../../protocol/price.ts";
import type { SpendingSum, SpentRequest } from "../../requester/spending.ts";
import type { CommandSpec } from "../command.ts";
import { formatCsv } from "../csv.ts";
import { formatTable, printable, type Style } from "../output.ts";
import { openRequesterToLook } from "../requester-session.ts";
import { parseAddress, parseJobId, parseMoment } from "../values.ts";

type Options = {
  since?: number;
  until?: number;
  node?: Address;
  model?: string;
  job?: Hex;
  csv?: boolean;
};

/** Costs are exact: decimal texts of USDC with twelve places. */
type DescribedSum = {
  requests: number;
  promptTokens: number;
  completionTokens: number;
  costUsdc: string;
  pendingUsdc: string;
};
type DescribedRequest = Omit<SpentRequest, "cost" | "pending" | "createdAt"> &
  Pick<DescribedSum, "costUsdc" | "pendingUsdc"> & { createdAt: string };
type Result = {
  total: DescribedSum;
  openingFeesUsdc: string;
  days: (DescribedSum & { day: string })[];
  nodes: (DescribedSum & { node: string })[];
  models: (DescribedSum & { model: string })[];
  requests: DescribedRequest[];
};

const COLUMNS = [
  ...(["createdAt", "requestId", "jobId", "node", "model", "state", "promptTokens"] as const),
  ...(["completionTokens", "estimated", "costUsdc", "pendingUsdc"] as const),
];

export const spendingCommand: CommandSpec<Options, Result | undefined> = {
  name: "spending",
  summary: "Show what requests have cost, by day, node and model",
  options: [
    new Option("--since <day>", "from this UTC day or time on, like 2026-11-30").argParser(parseMoment),
    new Option("--until <day>", "before this UTC day or time").argParser(parseMoment),
    new Option("--node <address>", "of this node only").argParser(parseAddress),
    new Option("--model <name>", "of this model only"),
    new Option("--job <id>", "of this job or session only").argParser(parseJobId),
    new Option("--csv", "every request as a line of comma-separated values"),
  ],
  examples: ["spending", "spending --since 2026-11-30 --model llama3.2:1b --json", "spending --csv"],
  async run(context, { csv = false, ...filter }) {
    const requester = await openRequesterToLook(context);
    const { requests, total, days, nodes, models, openingFees } = requester.spending(filter);
    const described = requests.map(describeRequest);
    if (csv && !context.output.json) {
      await context.output.write(formatCsv(COLUMNS, described));
      return undefined;
    }
    return {
      total: describeSum(total),
      openingFeesUsdc: formatUsdc(openingFees),
      days: [...days].map(([day, sum]) => ({ day, ...describeSum(sum) })),
      nodes: [...nodes].map(([node, sum]) => ({ node, ...describeSum(sum) })),
      models: [...models].map(([model, sum]) => ({ model, ...describeSum(sum) })),
      requests: described,
    };
  },
  render({ total, openingFeesUsdc, days, nodes, models }, style) {
    if (total.requests === 0) return "Nothing was spent.";
    const rows = [
      ...days.map((sum) => rowOf(sum.day, sum)),
      ...nodes.map((sum) => rowOf(sum.node, sum)),
      ...models.map((sum) => rowOf(printable(sum.model), sum)),
      rowOf("total", total),
    ];
    return `${formatTable([headsOf(style), ...rows])}\nOpening fees: ${openingFeesUsdc} USDC.`;
  },
};

function headsOf(style: Style): string[] {
  return ["", "REQUESTS", "PROMPT", "COMPLETION", "COST", "PENDING"].map(style.dim);
}

function rowOf(name: string, sum: DescribedSum): string[] {
  const { requests, promptTokens, completionTokens, costUsdc, pendingUsdc } = sum;
  return [name, String(requests), String(promptTokens), String(completionTokens), costUsdc, pendingUsdc];
}

function describeSum({ cost, pending, ...counts }: SpendingSum): DescribedSum {
  return { ...counts, costUsdc: formatMillionths(cost), pendingUsdc: formatMillionths(pending) };
}

function describeRequest({ cost, pending, createdAt, ...request }: SpentRequest): DescribedRequest {
  return {
    ...request,
    createdAt: new Date(createdAt * 1000).toISOString(),
    costUsdc: formatMillionths(cost),
    pendingUsdc: formatMillionths(pending),
  };
}
