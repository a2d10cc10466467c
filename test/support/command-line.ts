// Owns running the built command line as its users do: a process of its own, with a home folder of its own.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import type { LocalChain } from "./local-chain.ts";
import { type ScreenSession, type ScreenSize, startOnScreen } from "./screen.ts";
import { startInTerminal, type TerminalSession } from "./terminal.ts";

const BUNDLE = resolve(import.meta.dirname, "../../dist/infernet.js");

/** The passphrase of every key file of such a user. */
export const PASSPHRASE = "correct horse";

export type Ended = { exitCode: number | null; stdout: string; stderr: string };
/** `stdin` null leaves standard input open for the caller to write; otherwise it holds this text, or nothing. */
export type RunOptions = { env?: Record<string, string>; stdin?: string | null; cwd?: string };

export type CommandLine = {
  home: string;
  /** Runs a command to its end. There is no terminal. */
  run(args: readonly string[], options?: RunOptions): Promise<Ended>;
  /** Starts a command that the caller ends. */
  start(args: readonly string[], options?: RunOptions): ChildProcess;
  /** Starts a command in a terminal, where a person is. */
  startInTerminal(args: readonly string[], options?: Pick<RunOptions, "env">): TerminalSession;
  /** Starts a command on a screen that can be looked at. */
  startOnScreen(
    args: readonly string[],
    options?: Pick<RunOptions, "env"> & { size?: ScreenSize },
  ): ScreenSession;
  /** Ends what still runs, and takes the home folder away. */
  remove(): Promise<void>;
};

/**
 * A user: a home folder, a passphrase, and, when a chain is given, the settings that find it. `command` is how this user
 * starts infernet: the built bundle, unless told otherwise.
 */
export async function createCommandLine(
  chain?: LocalChain,
  command: readonly string[] = [process.execPath, BUNDLE],
): Promise<CommandLine> {
  for (const path of command) if (!existsSync(path)) throw new Error(`${path} is missing: npm run build`);
  const home = await mkdtemp(join(tmpdir(), "infernet-home-"));
  const settings: Record<string, string> = { INFERNET_HOME: home, INFERNET_PASSPHRASE: PASSPHRASE };
  if (chain) {
    settings.INFERNET_RPC_URL = chain.rpcUrl;
    settings.INFERNET_REGISTRY = chain.deployment.registry;
    settings.INFERNET_ESCROW = chain.deployment.escrow;
  }
  const started: ChildProcess[] = [];
  const screens: ScreenSession[] = [];
  const start = (args: readonly string[], { env = {}, stdin, cwd = home }: RunOptions = {}) => {
    const [program, ...words] = [...command, ...args];
    const child = spawn(program!, words, {
      cwd,
      env: { PATH: process.env.PATH, ...settings, ...env },
      stdio: ["pipe", "pipe", "pipe"],
    });
    started.push(child);
    child.stdin.on("error", () => {}); // A command that needs no input may end before it is written.
    if (stdin !== null) child.stdin.end(stdin ?? "");
    return child;
  };
  return {
    home,
    start,
    startInTerminal: (args, { env = {} } = {}) =>
      startInTerminal([...command, ...args], {
        cwd: home,
        env: { PATH: process.env.PATH, ...settings, ...env },
      }),
    startOnScreen(args, { env = {}, size } = {}) {
      const screen = startOnScreen([...command, ...args], {
        cwd: home,
        env: { PATH: process.env.PATH, ...settings, ...env },
        ...(size ? { size } : {}),
      });
      screens.push(screen);
      return screen;
    },
    async run(args, options) {
      const child = start(args, options);
      const [stdout, stderr] = [collect(child.stdout!), collect(child.stderr!)];
      const [exitCode] = (await once(child, "close")) as [number | null];
      return { exitCode, stdout: stdout(), stderr: stderr() };
    },
    async remove() {
      for (const child of started) child.kill("SIGKILL");
      await Promise.all(screens.map((screen) => screen.kill()));
      await rm(home, { recursive: true, force: true });
    },
  };
}

function collect(stream: NodeJS.ReadableStream): () => string {
  let text = "";
  stream.setEncoding("utf8").on("data", (part: string) => {
    text += part;
  });
  return () => text;
}
