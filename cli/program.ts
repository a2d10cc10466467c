// Owns the whole command line: which commands there are, how one is launched, and what an ending means as exit code.
import { Command, CommanderError } from "commander";
import packageJson from "../package.json" with { type: "json" };
import { InfernetError } from "../protocol/errors.ts";
import { addCommand, formatExamples, type Launch } from "./command.ts";
import { backupCommand } from "./commands/backup.ts";
import { completionCommand } from "./commands/completion.ts";
import { setConfigCommand, unsetConfigCommand } from "./commands/config/change.ts";
import { getConfigCommand, listConfigCommand, pathConfigCommand } from "./commands/config/show.ts";
import { doctorCommand } from "./commands/doctor.ts";
import { gatewayCommand } from "./commands/gateway/start.ts";
import { gatewayStatusCommand } from "./commands/gateway/status.ts";
import { closeCommand } from "./commands/job/close.ts";
import { listCommand } from "./commands/job/list.ts";
import { recoverCommand } from "./commands/job/recover.ts";
import { refundCommand } from "./commands/job/refund.ts";
import { resultCommand } from "./commands/job/result.ts";
import { statusCommand } from "./commands/job/status.ts";
import { submitCommand } from "./commands/job/submit.ts";
import { waitCommand } from "./commands/job/wait.ts";
import { modelsCommand } from "./commands/models.ts";
import { createNodeCommand } from "./commands/node/create.ts";
import { earningsCommand } from "./commands/node/earnings.ts";
import { payoutCommand } from "./commands/node/payout.ts";
import { retireCommand } from "./commands/node/retire.ts";
import { showCommand } from "./commands/node/show.ts";
import { updateCommand } from "./commands/node/update.ts";
import { nodesCommand } from "./commands/nodes.ts";
import { registerCommand } from "./commands/register.ts";
import { restoreCommand } from "./commands/restore.ts";
import { closeSessionCommand } from "./commands/session/close.ts";
import { listSessionsCommand } from "./commands/session/list.ts";
import { openSessionCommand } from "./commands/session/open.ts";
import { spendingCommand } from "./commands/spending.ts";
import { addressCommand } from "./commands/wallet/address.ts";
import { balanceCommand } from "./commands/wallet/balance.ts";
import { createCommand } from "./commands/wallet/create.ts";
import { depositCommand } from "./commands/wallet/deposit.ts";
import { exportCommand } from "./commands/wallet/export.ts";
import { fundCommand } from "./commands/wallet/fund.ts";
import { importCommand } from "./commands/wallet/import.ts";
import { withdrawCommand } from "./commands/wallet/withdraw.ts";
import { stopCommand } from "./commands/worker/stop.ts";
import { workerCommand } from "./commands/worker.ts";
import { createContext } from "./context.ts";
import { addGlobalFlags, configFlagsOf, speechFlagsOf } from "./global-flags.ts";
import { createOutput } from "./output.ts";
import { type Ending, type Terminal, watchForEnding } from "./terminal.ts";

const EXAMPLES = [
  "models --search llama",
  'job submit --model llama3.2:1b --prompt "Why is the sky blue?" --max-usdc 0.01',
  "register && infernet worker",
];

/** Runs one command line and returns its exit code. Writes to the terminal's streams only. */
export async function runProgram(argv: readonly string[], terminal: Terminal): Promise<number> {
  const ending = watchForEnding(terminal);
  let exitCode = 0;
  const launch: Launch = async (globals, act) => {
    exitCode = await launchCommand(terminal, ending, globals, act);
  };
  const program = buildProgram(terminal, launch);
  try {
    await program.parseAsync(argv.length === 0 ? ["--help"] : argv, { from: "user" });
    return exitCode;
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return 0;
    const speech = { json: argv.includes("--json"), quiet: false };
    return createOutput({ ...terminal, ...speech }).fail(usageErrorOf(error, argv, program));
  }
}

function buildProgram(terminal: Terminal, launch: Launch): Command {
  const program: Command = new Command("infernet")
    .description(
      "Sell LLM inference from your own computer for USDC, and buy it with no account and no API key.",
    )
    .version(packageJson.version, "--version", "print the version")
    .helpOption("-h, --help", "show this help")
    .helpCommand(false)
    // Global are those of the program alone: a command below another does not take that one's.
    .configureHelp({
      showGlobalOptions: true,
      visibleGlobalOptions: ({ parent }) => (parent ? [...program.options] : []),
    })
    .configureOutput({
      writeOut: (text) => void terminal.stdout.write(text),
      // A usage error is told once, by `usageErrorOf`, in the form that --json asks for.
      writeErr: () => {},
    })
    .exitOverride()
    .addHelpText("after", formatExamples(EXAMPLES));
  addGlobalFlags(program);

  addCommand(program, registerCommand, launch);
  const worker = addCommand(program, workerCommand, launch);
  // No flag of `stop` may be called like one of `worker`, which would take it.
  addCommand(worker, stopCommand, launch);
  addCommand(program, nodesCommand, launch);
  addCommand(program, modelsCommand, launch);
  addCommand(program, spendingCommand, launch);
  addCommand(program, doctorCommand, launch);
  addCommand(program, backupCommand, launch);
  addCommand(program, restoreCommand, launch);

  const job = program.command("job").description("Jobs: pay for an answer, and see where the money went");
  addCommand(job, submitCommand, launch);
  addCommand(job, statusCommand, launch);
  addCommand(job, listCommand, launch);
  addCommand(job, resultCommand, launch);
  addCommand(job, waitCommand, launch);
  addCommand(job, closeCommand, launch);
  addCommand(job, refundCommand, launch);
  addCommand(job, recoverCommand, launch);

  const gateway = addCommand(program, gatewayCommand, launch);
  addCommand(gateway, gatewayStatusCommand, launch);

  const session = program
    .command("session")
    .description("Sessions: one deposit that pays for any number of requests");
  addCommand(session, openSessionCommand, launch);
  addCommand(session, listSessionsCommand, launch);
  addCommand(session, closeSessionCommand, launch);

  const wallet = program.command("wallet").description("The key that pays: address, balances, deposits");
  addCommand(wallet, createCommand, launch);
  addCommand(wallet, importCommand, launch);
  addCommand(wallet, exportCommand, launch);
  addCommand(wallet, addressCommand, launch);
  addCommand(wallet, balanceCommand, launch);
  addCommand(wallet, fundCommand, launch);
  addCommand(wallet, depositCommand, launch);
  addCommand(wallet, withdrawCommand, launch);

  const node = program.command("node").description("The node that sells: its entry in the Registry");
  addCommand(node, createNodeCommand, launch);
  addCommand(node, showCommand, launch);
  addCommand(node, updateCommand, launch);
  addCommand(node, retireCommand, launch);
  addCommand(node, earningsCommand, launch);
  addCommand(node, payoutCommand, launch);

  const config = program.command("config").description("Settings: what is set, and where it comes from");
  addCommand(config, listConfigCommand, launch);
  addCommand(config, getConfigCommand, launch);
  addCommand(config, setConfigCommand, launch);
  addCommand(config, unsetConfigCommand, launch);
  addCommand(config, pathConfigCommand, launch);

  addCommand(
    program,
    completionCommand(() => program),
    launch,
  );
  return program;
}

async function launchCommand(
  terminal: Terminal,
  ending: Ending,
  globals: Record<string, unknown>,
  act: Parameters<Launch>[1],
): Promise<number> {
  const output = createOutput({ ...terminal, ...speechFlagsOf(globals) });
  const { signal } = ending;
  const context = createContext({ output, terminal, signal, flags: configFlagsOf(globals) });
  try {
    await Promise.race([act(context), rejectionOf(signal, () => context.endsItself)]);
    return 0;
  } catch (error) {
    if (ending.isQuiet()) return 0;
    // What an aborted call throws is the ending's doing, not a bug.
    const isOwnError = error instanceof InfernetError || !signal.aborted;
    const exitCode = output.fail(isOwnError ? error : signal.reason);
    return signal.aborted ? (signal.reason as InfernetError).exitCode : exitCode;
  } finally {
    await context.close();
    await output.flush();
  }
}

/** Rejects when the signal aborts, unless the command has said that it ends by itself then. */
function rejectionOf(signal: AbortSignal, endsItself: () => boolean): Promise<never> {
  return new Promise((_resolve, reject) => {
    const onAbort = () => {
      if (!endsItself()) reject(signal.reason);
    };
    signal.addEventListener("abort", onAbort, { once: true });
  });
}

/** A wrong command line as an error of ours; anything else as it is. */
function usageErrorOf(error: unknown, argv: readonly string[], program: Command): unknown {
  if (!(error instanceof CommanderError)) return error;
  const group = program.commands.find(
    (command) => command.name() === argv.find((word) => !word.startsWith("-")),
  );
  const place = group ? `infernet ${group.name()}` : "infernet";
  const names = (group ?? program).commands.map((command) => command.name());
  const message =
    error.code === "commander.help"
      ? `${place} needs a command: ${names.join(", ")}`
      : error.message.replace(/^error: /, "").replaceAll("\n", " ");
  return new InfernetError("bad-request", message, { hint: `See ${place} --help.` });
}
