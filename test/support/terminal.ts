// Owns a real terminal for tests: a program behind a pseudo-terminal, and somebody who reads and types.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { stripVTControlCharacters } from "node:util";

export type TerminalSession = {
  /** Waits until a text is shown, after what was waited for before. Fails with all that was shown when the program ends first. */
  sees(text: string): Promise<void>;
  /** Types; `\r` is the enter key, `\x03` Ctrl-C. */
  type(keys: string): void;
  /** Waits for the program's end. */
  end(): Promise<{ exitCode: number | null; shown: string }>;
  /** Closes the terminal's window, so to speak. */
  close(): void;
};

export type TerminalOptions = { env?: NodeJS.ProcessEnv; cwd?: string };

/** Python's own pseudo-terminal, which needs no native package; a size, for a terminal without one wraps nothing. */
const RUN_IN_TERMINAL = `
import os, pty, sys
sized = ["sh", "-c", 'stty rows 60 columns 120; exec "$@"', "sh"]
sys.exit(os.waitstatus_to_exitcode(pty.spawn(sized + sys.argv[1:])))`;

/** Starts a program in a terminal of its own. */
export function startInTerminal(
  command: readonly string[],
  { env = process.env, cwd }: TerminalOptions = {},
): TerminalSession {
  const child = spawn("python3", ["-c", RUN_IN_TERMINAL, ...command], {
    env: { TERM: "xterm", LANG: "C.UTF-8", ...env },
    cwd,
    stdio: ["pipe", "pipe", "inherit"],
  });
  const ended = once(child, "close");
  let shown = "";
  let read = 0;
  const watchers = new Set<() => void>();
  child.stdin.on("error", () => {}); // Keys typed after the program's end.
  child.stdout.setEncoding("utf8").on("data", (part: string) => {
    shown += part;
    for (const look of watchers) look();
  });
  return {
    sees: (text) =>
      new Promise((resolve, reject) => {
        const look = () => {
          const plain = stripVTControlCharacters(shown);
          const at = plain.indexOf(text, read);
          if (at < 0) return;
          read = at + text.length;
          watchers.delete(look);
          resolve();
        };
        watchers.add(look);
        look();
        ended.then(() => reject(new Error(`the program ended without showing "${text}":\n${shown}`)), reject);
      }),
    type: (keys) => void child.stdin.write(keys),
    async end() {
      const [exitCode] = (await ended) as [number | null];
      return { exitCode, shown: stripVTControlCharacters(shown) };
    },
    close: () => void child.kill("SIGTERM"),
  };
}
