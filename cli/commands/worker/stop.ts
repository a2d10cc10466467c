// Owns `infernet worker stop`: ends the worker that runs from this home, and says what becomes of its container.
import { Option } from "commander";
import { InfernetError } from "../../../protocol/errors.ts";
import type { CommandSpec } from "../../command.ts";
import type { Context } from "../../context.ts";
import { parseDuration } from "../../values.ts";

type Options = { stopContainer?: boolean; leaveContainer?: boolean; timeout: number };
type Result = { stopped: boolean; pid: number | null; container: string | null; containerStopped: boolean };

const LOOK_EVERY_MS = 100;

export const stopCommand: CommandSpec<Options, Result> = {
  name: "stop",
  summary: "End the worker of this home: running streams may end, jobs are settled",
  options: [
    new Option("--stop-container", "stop its Ollama container, too, whoever started it").conflicts(
      "leaveContainer",
    ),
    new Option("--leave-container", "leave its Ollama container running"),
    new Option("--timeout <duration>", "how long to wait for its end")
      .argParser(parseDuration)
      .default(parseDuration("2m"), "2m"),
  ],
  examples: ["worker stop", "worker stop --leave-container", "worker stop --stop-container --json"],
  async run(context, options) {
    const [processes, { home }] = await Promise.all([import("../../worker-process.ts"), context.config()]);
    const worker = processes.findWorker(home);
    if (worker) {
      if (options.leaveContainer) processes.askToKeepContainer(home, worker);
      process.kill(worker.pid, "SIGTERM");
      await ended(context, () => processes.findWorker(home) === undefined, options.timeout * 1000);
    }
    const container = worker ? worker.container : (processes.findLeftContainer(home) ?? null);
    const containerStopped = options.stopContainer === true && (await stop(context, container));
    return { stopped: worker !== undefined, pid: worker?.pid ?? null, container, containerStopped };
  },
  render({ stopped, pid, container, containerStopped }) {
    const ofWorker = stopped ? `The worker (process ${pid}) has ended.` : "No worker runs from this home.";
    return containerStopped ? `${ofWorker} The container ${container} is stopped.` : ofWorker;
  },
};

async function stop(context: Context, container: string | null): Promise<boolean> {
  const { CONTAINER_NAME } = await import("../../../provider/upstreams/container-plan.ts");
  const { stopContainer } = await import("../../docker-flags.ts");
  return stopContainer(context, container ?? CONTAINER_NAME);
}

/** Resolves when the worker has let go of its ledger: the system tells nobody but its parent that it has ended. */
async function ended({ signal }: Context, isOver: () => boolean, timeoutMs: number): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  while (!isOver()) {
    signal.throwIfAborted();
    if (Date.now() > deadline) {
      throw new InfernetError("store-locked", "the worker has been told to end, and still runs", {
        hint: "Streams may still be running: wait with a longer --timeout.",
      });
    }
    await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS));
  }
}
