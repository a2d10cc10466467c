// Owns the flags that every command takes, and which setting each one is.
import { type Command, Option } from "commander";
import type { Config } from "../runtime/config.ts";
import { integerBetween, parseAddress } from "./values.ts";

/** Flags that say how a command speaks rather than what it works on. */
export type SpeechFlags = { json: boolean; quiet: boolean };

const LOG_LEVELS = ["debug", "info", "warn", "error", "silent"] as const;

export function addGlobalFlags(program: Command): void {
  program
    .option("--json", "results and errors as JSON, for programs")
    .option("--quiet", "no progress on stderr, errors only")
    .option("--rpc-url <url>", "JSON-RPC of the chain (default: a local chain, http://127.0.0.1:8545)")
    .addOption(
      new Option("--chain-id <id>", "refuse any other chain").argParser(
        integerBetween(1, Number.MAX_SAFE_INTEGER),
      ),
    )
    .option("--home <folder>", "folder of keys, settings and ledgers (default: $INFERNET_HOME)")
    .addOption(new Option("--registry <address>", "Registry contract").argParser(parseAddress))
    .addOption(new Option("--escrow <address>", "Escrow contract").argParser(parseAddress))
    .addOption(new Option("--usdc <address>", "USDC token").argParser(parseAddress))
    .option("--deployment <folder>", "folder with an ignition deployment's deployed_addresses.json")
    .option("--allow-private", "nodes in private networks, too: on a real chain they are left out")
    .addOption(new Option("--log-level <level>", "least level of log lines on stderr").choices(LOG_LEVELS));
}

export function speechFlagsOf(options: Record<string, unknown>): SpeechFlags {
  return { json: options.json === true, quiet: options.quiet === true };
}

/** The settings that the given global flags override. */
export function configFlagsOf(options: Record<string, unknown>): Partial<Config> {
  const { rpcUrl, chainId, home, registry, escrow, usdc, deployment, allowPrivate, logLevel } = options;
  const contracts = { registry, escrow, usdc, deploymentFolder: deployment };
  const flags = { rpcUrl, chainId, home, ...contracts, allowPrivate, logLevel };
  return Object.fromEntries(Object.entries(flags).filter(([, value]) => value !== undefined));
}
