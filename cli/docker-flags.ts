// Owns how `register` and `worker` run Ollama in a container: the flags, what is told meanwhile, and how it is left.
import { Option } from "commander";
import type { ContainerStep, OllamaContainer } from "../provider/upstreams/container.ts";
import { CONTAINER_NAME } from "../provider/upstreams/container-plan.ts";
import type { Context } from "./context.ts";
import { type DownloadTeller, tellDownload } from "./progress-bar.ts";

export type DockerFlags = {
  docker?: boolean;
  image?: string;
  container?: string;
  gpu?: "auto" | "nvidia" | "amd" | "none";
  keepContainer?: boolean;
  /** Asked at the end: whether it is to be kept although no flag said so. */
  isKept?: () => boolean;
  /** Models that it is to have. */
  needed?: readonly string[];
};

const impliesDocker = (option: Option) => option.implies({ docker: true });

export const DOCKER_OPTIONS: readonly Option[] = [
  new Option("--docker", "run Ollama in a container that is started here, or runs already"),
  impliesDocker(new Option("--image <name>", "its image (default: ollama/ollama, for AMD its :rocm)")),
  impliesDocker(
    new Option("--container <name>", "its name, also of the volume for models (default: infernet-ollama)"),
  ),
  impliesDocker(
    new Option("--gpu <kind>", "what it is given (default: auto)").choices(["auto", "nvidia", "amd", "none"]),
  ),
  impliesDocker(new Option("--keep-container", "leave it running at the end, also if it was started here")),
];

/** The name of the flags' container. */
export function containerNameOf({ container }: DockerFlags): string {
  return container ?? CONTAINER_NAME;
}

/** One container a command, however often it is asked for. */
const started = new WeakMap<Context, Promise<OllamaContainer>>();

/**
 * Brings up the container, and these models in it. At the command's end it is stopped if it was started here, unless it
 * is to be kept. `docker-unavailable`, `docker-failed`, and what a failed pull throws.
 */
export async function startOllamaContainer(context: Context, flags: DockerFlags): Promise<{ url: string }> {
  const { signal } = context;
  const teller = createTeller(context);
  const starting = started.get(context) ?? bringUp(context, flags, teller);
  started.set(context, starting);
  const { url } = await starting;
  await fetchModels(url, flags.needed ?? [], teller, signal).finally(teller.end);
  return { url };
}

async function fetchModels(
  url: string,
  models: readonly string[],
  teller: Teller,
  signal: AbortSignal,
): Promise<void> {
  if (models.length === 0) return;
  const { openOllama } = await import("../provider/upstreams/ollama.ts");
  const ollama = openOllama({ url });
  try {
    const held = new Set((await ollama.listModels()).map(({ name }) => name));
    for (const model of models.filter((name) => !held.has(name))) {
      const told = { event: "modelPull", model };
      await ollama.pull!(
        model,
        (progress) => teller.download({ ...told, ...progress }, `model ${model}`),
        signal,
      );
    }
  } finally {
    await ollama.close();
  }
}

async function bringUp(context: Context, flags: DockerFlags, teller: Teller): Promise<OllamaContainer> {
  const [{ findDocker }, { startContainer }] = await Promise.all([
    import("../runtime/docker.ts"),
    import("../provider/upstreams/container.ts"),
  ]);
  const { terminal, signal } = context;
  const docker = await findDocker(terminal.env);
  context.atEnd(() => docker.close());
  const { container: name, image, gpu } = flags;
  const starting = startContainer({
    ...{ docker, signal, env: terminal.env },
    settings: { name, image, gpu },
    onStep: teller.step,
  });
  // Also where the command is ended while this is still under way.
  context.atEnd(async () => {
    const container = await starting.catch(() => undefined);
    teller.end();
    if (container) await leave(context, container, flags);
  });
  return starting;
}

/** Stops a container as `worker stop --stop-container` wants it. False when there is none that runs. */
export async function stopContainer(context: Context, name: string): Promise<boolean> {
  const { findDocker } = await import("../runtime/docker.ts");
  const docker = await findDocker(context.terminal.env);
  try {
    const container = await docker.findContainer(name);
    if (!container?.State.Running) return false;
    await docker.stopContainer(container.Id, STOP_GRACE_SECONDS);
    return true;
  } finally {
    await docker.close();
  }
}

const STOP_GRACE_SECONDS = 10;

/** Told to people alone: to programs an error is the last line, and this comes after it. */
async function leave({ output }: Context, container: OllamaContainer, flags: DockerFlags): Promise<void> {
  const { name, ranBefore } = container;
  if (ranBefore || flags.keepContainer || flags.isKept?.()) {
    const why = ranBefore ? "it ran before" : "as asked";
    return output.hint(`the container ${name} is left running: ${why}`);
  }
  await container.stop();
  output.hint(`the container ${name} is stopped; its models are kept`);
}

type Teller = ReturnType<typeof createTeller>;

function createTeller({ output, terminal }: Context) {
  let current: { what: string; teller: DownloadTeller } | undefined;
  const end = () => {
    current?.teller.end();
    current = undefined;
  };
  function download(told: Parameters<DownloadTeller["tell"]>[0], what: string): void {
    if (current?.what !== what) {
      end();
      output.progress({ ...told, receivedBytes: 0, totalBytes: 0 }, `fetching the ${what}`);
      current = { what, teller: tellDownload(output, terminal, what) };
    }
    current.teller.tell(told);
  }
  function step(told: ContainerStep): void {
    if (told.event === "imagePull") download(told, `image ${told.image}`);
    else {
      end();
      output.progress(told, describeStep(told));
    }
  }
  return { step, download, end };
}

function describeStep(step: Exclude<ContainerStep, { event: "imagePull" }>): string {
  switch (step.event) {
    case "engine":
      return `Docker at ${step.host}`;
    case "warning":
      return `warning: ${step.message}`;
    case "container":
      if (step.state === "running") return `the container ${step.name} runs already`;
      return `the container ${step.name} is ${step.state}${step.gpu && step.gpu !== "none" ? `, with the ${step.gpu} GPU` : ""}`;
  }
}
