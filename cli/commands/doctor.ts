// Owns `infernet doctor`: looks at everything that a command needs, and says of each fault what to do.
import { Option } from "commander";
import packageJson from "../../package.json" with { type: "json" };
import { InfernetError } from "../../protocol/errors.ts";
import type { CommandSpec } from "../command.ts";
import type { Context } from "../context.ts";
import type { Finding } from "../doctor/finding.ts";
import { printable, type Style } from "../output.ts";
import { UPSTREAM_OPTIONS, type UpstreamFlags } from "../upstream-flags.ts";

type Options = UpstreamFlags & { checkUpdates?: boolean };

export const doctorCommand: CommandSpec<Options, undefined> = {
  name: "doctor",
  summary: "Look for what is wrong: machine, keys, chain, funds, node, upstream",
  options: [
    new Option("--check-updates", "ask npm, and nobody else, whether there is a newer release"),
    ...UPSTREAM_OPTIONS,
  ],
  examples: ["doctor", "doctor --upstream ollama --json"],
  async run(context, options) {
    const findings = await examine(context, options);
    const failed = findings.filter(({ status }) => status === "fail");
    context.output.result({ healthy: failed.length === 0, findings }, (style) =>
      findings.map((finding) => renderFinding(finding, style)).join("\n"),
    );
    const [first] = failed;
    if (!first) return undefined;
    throw new InfernetError(first.code!, `${failed.length} of ${findings.length} checks failed`, {
      hint: `Begin with "${first.check}": ${first.hint || first.message}`,
    });
  },
  render: () => "",
};

async function examine(context: Context, options: Options): Promise<Finding[]> {
  // A wrong setting ends it here: nothing else can be looked for without them.
  const { home } = await context.config();
  const [machine, { checkKeys }, { checkChain, checkFunds }] = await Promise.all([
    import("../doctor/machine.ts"),
    import("../doctor/keys.ts"),
    import("../doctor/chain.ts"),
  ]);
  const findings = await machine.checkMachine(home);
  const keys = await checkKeys(context);
  const { chain, findings: ofChain } = await checkChain(context);
  findings.push(...keys.findings, ...ofChain);
  if (chain) findings.push(...(await checkFunds(chain, keys.addresses)));
  const { node } = keys.addresses;
  if (chain && node) {
    const { checkNode } = await import("../doctor/node.ts");
    const isRunning = machine.isWorkerRunning(home);
    findings.push(...(await checkNode({ context, chain, node, home, flags: options, isRunning })));
  }
  if (options.checkUpdates) {
    const { checkRelease } = await import("../doctor/release.ts");
    findings.push(await checkRelease(packageJson.version, context.terminal.env));
  }
  return findings;
}

function renderFinding({ check, status, message, hint }: Finding, style: Style): string {
  const mark = status === "ok" ? style.green("ok  ") : style.bold(status);
  const line = `${mark}  ${check}: ${printable(message)}`;
  return status === "ok" ? line : `${line}\n      ${printable(hint)}`;
}
