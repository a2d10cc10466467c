// Owns a terminal that can be looked at: a program behind a pseudo-terminal, and the screen that its output makes.
import { createRequire } from "node:module";
import { spawn } from "@lydell/node-pty";

// Node finds no names in this package when it is imported as a module.
const { Terminal }: typeof import("@xterm/headless") = createRequire(import.meta.url)("@xterm/headless");

export type ScreenSize = { columns: number; rows: number };

export type ScreenSession = {
  /** The lines that are on the screen now. */
  lines(): string[];
  /** Resolves with the first answer of `look`, which is asked again whenever something is drawn; rejects at the program's end. */
  until<Found>(look: (lines: string[]) => Found | undefined | false): Promise<Found>;
  /** Resolves when this text is on the screen. */
  shows(text: string): Promise<void>;
  /** What the program wrote so far, as it wrote it. */
  written(): string;
  /** Whether the screen is a view's own, which vanishes with it. */
  isAlternate(): boolean;
  type(keys: string): void;
  resize(size: ScreenSize): void;
  /** Closes the terminal's window, so to speak. */
  close(): void;
  ended: Promise<{ exitCode: number }>;
  /** Ends the program at once if it still runs. */
  kill(): Promise<void>;
};

export type ScreenOptions = { env?: NodeJS.ProcessEnv; cwd: string; size?: ScreenSize };

/** Starts a program on a screen of its own. */
export function startOnScreen(command: readonly string[], options: ScreenOptions): ScreenSession {
  const { env = process.env, cwd, size = { columns: 100, rows: 30 } } = options;
  const [program, ...args] = command;
  const cells = ({ columns, rows }: ScreenSize) => ({ cols: columns, rows });
  const screen = new Terminal({ ...cells(size), allowProposedApi: true, scrollback: 200 });
  const pty = spawn(program!, args, {
    ...{ ...cells(size), cwd, name: env.TERM ?? "xterm-256color" },
    env: { LANG: "C.UTF-8", ...env } as Record<string, string>,
  });
  let written = "";
  let isRunning = true;
  const lookers = new Set<() => void>();
  pty.onData((data) => {
    written += data;
    screen.write(data, () => {
      for (const look of lookers) look();
    });
  });
  const ended = new Promise<{ exitCode: number }>((resolve) =>
    pty.onExit(({ exitCode }) => {
      isRunning = false;
      // What was written last is on the screen by then.
      screen.write("", () => resolve({ exitCode }));
    }),
  );
  const lines = () => {
    const { active } = screen.buffer;
    return Array.from(
      { length: active.length },
      (_, row) => active.getLine(row)?.translateToString(true) ?? "",
    );
  };
  const until: ScreenSession["until"] = (look) =>
    new Promise((resolve, reject) => {
      const lookOnce = () => {
        const found = look(lines());
        if (found === undefined || found === false) return;
        lookers.delete(lookOnce);
        resolve(found);
      };
      lookers.add(lookOnce);
      lookOnce();
      void ended.then(({ exitCode }) =>
        reject(
          new Error(
            `the program ended with ${exitCode} before it was shown; at last:\n${lines().join("\n").trim()}`,
          ),
        ),
      );
    });
  return {
    ...{ lines, until, ended },
    shows: async (text) => void (await until((shown) => shown.some((line) => line.includes(text)))),
    written: () => written,
    isAlternate: () => screen.buffer.active.type === "alternate",
    type: (keys) => pty.write(keys),
    resize(to) {
      screen.resize(to.columns, to.rows);
      pty.resize(to.columns, to.rows);
    },
    close: () => pty.kill("SIGHUP"),
    async kill() {
      if (isRunning) pty.kill("SIGKILL");
      await ended;
      screen.dispose();
    },
  };
}
