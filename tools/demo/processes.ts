// Owns the trip's child processes: started in a known order, ended in the reverse one, on Ctrl-C and on failure too.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:net";
import { createInterface } from "node:readline";

type Options = { cwd?: string; env?: NodeJS.ProcessEnv; graceMs?: number };
type Running = { name: string; child: ChildProcess; graceMs: number };

const TAIL_LINES = 12;

/** A free port of the loopback interface. */
export async function freePort(): Promise<number> {
  const server = createServer();
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, "close");
  return port;
}

/** Everything that the trip has started and must end. */
export class Processes {
  readonly #running: Running[] = [];
  readonly #baseEnv: NodeJS.ProcessEnv;
  #isOver = false;

  constructor(env: NodeJS.ProcessEnv) {
    this.#baseEnv = env;
  }

  #spawn(
    name: string,
    command: readonly string[],
    options: Options,
    stdio: "pipe" | "inherit",
  ): ChildProcess {
    if (this.#isOver) throw new Error(`${name} is not started any more: everything was ended`);
    const [program, ...args] = command;
    const child = spawn(program!, args, {
      cwd: options.cwd,
      env: { ...this.#baseEnv, ...options.env },
      stdio: ["ignore", "pipe", stdio],
      // A group of its own: Ctrl-C reaches this trip alone, which then ends its children in order.
      detached: true,
    });
    const running = { name, child, graceMs: options.graceMs ?? 3000 };
    this.#running.push(running);
    child.once("close", () => this.#running.splice(this.#running.indexOf(running), 1));
    return child;
  }

  /** Runs a command to its end and returns its stdout; a non-zero exit throws with the last lines of its stderr. */
  async run(
    name: string,
    command: readonly string[],
    options: Options & { onText?: (text: string) => void; onErrorLine?: (line: string) => void } = {},
  ) {
    const child = this.#spawn(name, command, options, "pipe");
    let output = "";
    const errors: string[] = [];
    child.stdout!.setEncoding("utf8").on("data", (text: string) => {
      output += text;
      options.onText?.(text);
    });
    createInterface({ input: child.stderr! }).on("line", (line) => {
      options.onErrorLine?.(line);
      if (errors.push(line) > TAIL_LINES) errors.shift();
    });
    const [code] = (await once(child, "close")) as [number | null];
    if (code !== 0)
      throw new Error(`${name} ended with ${code}:\n${errors.join("\n")}\n${output.slice(-2000)}`.trim());
    return output;
  }

  /** Starts a server and resolves with the first result that `ready` finds in a line of its stdout. */
  async start<T>(
    name: string,
    command: readonly string[],
    ready: (line: string) => T | undefined,
    options: Options & { onLine?: (line: string) => void } = {},
  ): Promise<T> {
    const child = this.#spawn(name, command, options, "pipe");
    const errors: string[] = [];
    createInterface({ input: child.stderr! }).on("line", (line) => {
      if (errors.push(line) > TAIL_LINES) errors.shift();
    });
    return new Promise<T>((resolve, reject) => {
      createInterface({ input: child.stdout! }).on("line", (line) => {
        const result = ready(line);
        if (result !== undefined) resolve(result);
        options.onLine?.(line);
      });
      child.once("close", (code) => reject(new Error(`${name} ended with ${code}:\n${errors.join("\n")}`)));
      child.once("error", reject);
    });
  }

  /** Ends one of the running processes gently and waits for it; nothing to do when it has ended. */
  async stop(name: string): Promise<void> {
    const running = this.#running.find((candidate) => candidate.name === name);
    if (running) await endChild(running);
  }

  /** Ends everything, the last started first; from now on nothing is started any more. */
  async stopAll(): Promise<void> {
    this.#isOver = true;
    for (const running of [...this.#running].reverse()) await endChild(running);
  }
}

async function endChild({ child, graceMs }: Running): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const closed = once(child, "close");
  child.kill("SIGTERM");
  const limit = setTimeout(() => process.kill(-child.pid!, "SIGKILL"), graceMs);
  await closed;
  clearTimeout(limit);
}
