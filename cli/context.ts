// Owns what every command is given: output, questions, settings, and the chain, each loaded when first asked for.
import type { Writable } from "node:stream";
import type { Chain, ChainOptions } from "../chain/chain.ts";
import type { Config } from "../runtime/config.ts";
import type { Log, LogLevel } from "../runtime/logger.ts";
import type { Output } from "./output.ts";
import { createPrompter, type Prompter } from "./prompting.ts";
import type { Terminal } from "./terminal.ts";

export type Context = {
  readonly output: Output;
  readonly prompter: Prompter;
  readonly terminal: Terminal;
  /** The global flags that were given, as settings. */
  readonly flags: Partial<Config>;
  /** Aborts with `interrupted` when a person or a closed pipe ends the command. */
  readonly signal: AbortSignal;
  config(): Promise<Config>;
  /** The log on stderr or `destination`, of `level` (with --quiet of errors) unless a setting says another. */
  log(level: LogLevel, destination?: Writable): Promise<Log>;
  /** The chain of the settings, with the contracts on it. Throws `chain-unreachable`, `wrong-chain`, `no-deployment`. */
  chain(): Promise<Chain>;
  /** Has something closed when the command ends, last first. */
  atEnd(close: () => unknown): void;
  /** From now on an abort of `signal` does not end the command: it ends by itself, when it has put things in order. */
  endItself(): void;
};

/** The chain of Hardhat and its like, which nobody's money is on. */
export const LOCAL_CHAIN_ID = 31_337;
/** A local chain's contracts are found where ignition puts them; those of a real chain only where a setting says. */
const LOCAL_DEPLOYMENTS = "ignition/deployments";

export type ContextParts = Pick<Context, "output" | "terminal" | "signal" | "flags">;

/** A context and its end; `endsItself` tells whether the command has said so. */
type LaunchedContext = Context & { readonly endsItself: boolean; close(): Promise<void> };

export function createContext(parts: ContextParts): LaunchedContext {
  const { flags, terminal } = parts;
  const closers: (() => unknown)[] = [];
  let endsItself = false;
  const config = once(async () => {
    const { loadConfig } = await import("../runtime/config.ts");
    return loadConfig(flags, terminal.env);
  });
  return {
    output: parts.output,
    terminal,
    flags,
    signal: parts.signal,
    prompter: createPrompter(terminal),
    config,
    async log(level, destination = terminal.stderr) {
      const [{ createLogger }, { loadConfig }] = await Promise.all([
        import("../runtime/logger.ts"),
        import("../runtime/config.ts"),
      ]);
      const { logLevel } = loadConfig(flags, terminal.env, {
        logLevel: parts.output.quiet ? "error" : level,
      });
      return createLogger({ level: logLevel, destination });
    },
    chain: once(async () => {
      const { openChain } = await import("../chain/chain.ts");
      const chain = await openChain(chainOptionsOf(await config()));
      closers.push(() => chain.close());
      return chain;
    }),
    atEnd: (close) => void closers.push(close),
    endItself() {
      endsItself = true;
    },
    get endsItself() {
      return endsItself;
    },
    async close() {
      for (const close of closers.splice(0).reverse()) await close();
    },
  };
}

function chainOptionsOf(config: Config): ChainOptions {
  const { rpcUrl, chainId, registry, escrow, usdc } = config;
  const named = Object.entries({ registry, escrow, usdc }).filter(([, address]) => address !== undefined);
  const folder = config.deploymentFolder ?? (chainId === LOCAL_CHAIN_ID ? LOCAL_DEPLOYMENTS : undefined);
  return {
    rpcUrl,
    chainId,
    sources: { override: Object.fromEntries(named), ...(folder ? { ignitionFolder: folder } : {}) },
  };
}

/** The same promise at every call. */
function once<T>(make: () => Promise<T>): () => Promise<T> {
  let made: Promise<T> | undefined;
  return () => {
    made ??= make();
    return made;
  };
}
