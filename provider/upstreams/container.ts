// Owns the life of the container that Ollama runs in: found or made, started, waited for, and left as it is to be left.
import { once } from "node:events";
import { createServer } from "node:net";
import { InfernetError } from "../../protocol/errors.ts";
import type { Container, Docker, PullProgress } from "../../runtime/docker.ts";
import {
  CONTAINER_NAME,
  findGpu,
  type Gpu,
  isOurs,
  planContainer,
  publishedAt,
  usualImage,
} from "./container-plan.ts";

export type ContainerSettings = {
  /** Its name; the volume of its models is called the same. */
  name?: string | undefined;
  /** Ollama's own unless told otherwise. */
  image?: string | undefined;
  gpu?: Gpu | "auto" | undefined;
};

export type ContainerStep =
  | { event: "engine"; host: string }
  | ({ event: "imagePull"; image: string } & PullProgress)
  | { event: "container"; name: string; state: "running" | "created" | "started"; gpu: Gpu | null }
  | { event: "warning"; message: string };

export type OllamaContainer = {
  name: string;
  /** Where its Ollama answers, on the loopback interface. */
  url: string;
  /** Whether it ran before it was asked for: then it is to be left running. */
  ranBefore: boolean;
  stop(): Promise<void>;
};

type Job = {
  docker: Docker;
  settings: ContainerSettings;
  env: NodeJS.ProcessEnv;
  signal: AbortSignal;
  onStep(step: ContainerStep): void;
};

const USUAL_PORT = 11_434;
const STOP_GRACE_SECONDS = 10;
/** A registry that is there answers at once; layers come in pieces. */
const PULL_SILENCE_MS = 30_000;
const READY_MS = 60_000;
const LOOK_EVERY_MS = 100;

/**
 * Brings the container up: one that runs is used, one that is stopped is started, else one is made, its image fetched
 * where it is not here. `docker-failed` says what cannot be had and what to do; nothing that was not there is left then
 * but the image and the volume.
 */
export async function startContainer(job: Job): Promise<OllamaContainer> {
  const { docker, settings, onStep } = job;
  const name = settings.name ?? CONTAINER_NAME;
  onStep({ event: "engine", host: docker.host });
  const existing = await docker.findContainer(name);
  const ranBefore = existing?.State.Running === true;
  if (existing) warnOfOtherImage(job, name, existing);
  if (ranBefore) onStep({ event: "container", name, state: "running", gpu: null });
  else if (existing) await restart(job, name, existing);
  else await create(job, name);
  const stop = () => docker.stopContainer(name, STOP_GRACE_SECONDS);
  try {
    const url = await answeringUrl(job, name);
    return { name, url, ranBefore, stop };
  } catch (error) {
    if (!existing) await docker.removeContainer(name);
    else if (!ranBefore) await stop();
    throw error;
  }
}

function warnOfOtherImage({ settings: { image }, onStep }: Job, name: string, { Config }: Container): void {
  if (image === undefined || image === Config.Image) return;
  const message = `the container ${name} is of the image ${Config.Image}, not ${image}; to change it: docker rm -f ${name}`;
  onStep({ event: "warning", message });
}

/** One that was stopped. Its port may have been taken meanwhile: one of ours is then made anew, its models stay. */
async function restart(job: Job, name: string, existing: Container): Promise<void> {
  const { docker, onStep } = job;
  job.signal.throwIfAborted();
  try {
    await docker.startContainer(existing.Id);
    onStep({ event: "container", name, state: "started", gpu: null });
  } catch (error) {
    if (!isOurs(existing)) throw error;
    await docker.removeContainer(existing.Id);
    await create({ ...job, settings: { image: existing.Config.Image, ...job.settings } }, name);
  }
}

async function create(job: Job, name: string): Promise<void> {
  const { settings, env, onStep } = job;
  const wanted = settings.gpu ?? "auto";
  const gpu = wanted === "auto" ? findGpu(env) : wanted;
  const image = settings.image ?? usualImage(gpu);
  await fetchImage(job, image);
  try {
    await createAndStart(job, { name, image, gpu });
    onStep({ event: "container", name, state: "created", gpu });
  } catch (error) {
    if (gpu === "none" || wanted !== "auto" || job.signal.aborted) throw error;
    const why = (error as Error).message;
    const remedy =
      gpu === "nvidia" ? "install the NVIDIA Container Toolkit" : "see that this user may use /dev/kfd";
    onStep({ event: "warning", message: `the GPU cannot be used, so the CPU is: ${why}; ${remedy}` });
    await createAndStart(job, { name, image, gpu: "none" });
    onStep({ event: "container", name, state: "created", gpu: "none" });
  }
}

async function createAndStart(
  { docker, signal }: Job,
  { name, image, gpu }: { name: string; image: string; gpu: Gpu },
): Promise<void> {
  const port = await choosePort();
  signal.throwIfAborted();
  const id = await docker.createContainer(name, planContainer({ image, gpu, port, volume: name }));
  try {
    signal.throwIfAborted();
    await docker.startContainer(id);
  } catch (error) {
    await docker.removeContainer(id);
    throw error;
  }
}

async function fetchImage({ docker, signal, onStep }: Job, image: string): Promise<void> {
  if (await docker.hasImage(image)) return;
  const onProgress = (progress: PullProgress) => onStep({ event: "imagePull", image, ...progress });
  try {
    await docker.pullImage(image, { onProgress, signal, silenceMs: PULL_SILENCE_MS });
  } catch (cause) {
    signal.throwIfAborted();
    throw new InfernetError(
      "docker-failed",
      `the image ${image} cannot be had: ${(cause as Error).message}`,
      {
        hint:
          `Check the network and the name. Without a network: docker save -o ollama.tar ${image} on a machine that has ` +
          "it, docker load -i ollama.tar here; or name an image that is here with --image.",
        cause,
      },
    );
  }
}

/** Ollama's usual port, so that other commands find it, too; a free one where that is taken. */
async function choosePort(): Promise<number> {
  for (const wanted of [USUAL_PORT, 0]) {
    const server = createServer();
    try {
      const listening = once(server, "listening");
      server.listen(wanted, "127.0.0.1");
      await listening;
      const { port } = server.address() as { port: number };
      server.close();
      await once(server, "close");
      return port;
    } catch {
      // Somebody else is there.
    }
  }
  throw new InfernetError("port-in-use", "this machine has no free port");
}

/** Resolves when Ollama answers. `docker-failed` with its last words if it ends, or does not answer in a minute. */
async function answeringUrl({ docker, signal, onStep }: Job, name: string): Promise<string> {
  const deadline = Date.now() + READY_MS;
  let warned = false;
  for (;;) {
    signal.throwIfAborted();
    const container = await docker.findContainer(name);
    if (!container?.State.Running) throw await explainEnd(docker, name, container);
    const published = publishedAt(container);
    if (!published) throw notPublished(name);
    if (!published.isPrivate && !warned) {
      warned = true;
      const message = `the container ${name} shows its Ollama to the network: anybody there may use and delete its models`;
      onStep({ event: "warning", message });
    }
    const answer = await fetch(`${published.url}/api/version`, { signal }).catch(() => undefined);
    await answer?.body?.cancel();
    if (answer?.ok) return published.url;
    if (Date.now() > deadline) {
      throw new InfernetError("docker-failed", `no Ollama answers in the container ${name} after a minute`, {
        hint: `Look at what it says: docker logs ${name}. Is its image one of Ollama's?`,
      });
    }
    // Neither the engine nor Ollama tells when it listens.
    await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS));
  }
}

function notPublished(name: string): InfernetError {
  return new InfernetError("docker-failed", `the container ${name} publishes no port 11434`, {
    hint: "Make it with --publish 127.0.0.1:11434:11434, or give --container another name.",
  });
}

async function explainEnd(docker: Docker, name: string, container?: Container): Promise<InfernetError> {
  const lines = container ? await docker.lastLines(container.Id, 3).catch(() => []) : [];
  const how = container ? `it ended with ${container.State.ExitCode}` : "it was removed";
  const said = lines.length > 0 ? `: ${lines.join(" ")}` : "";
  return new InfernetError("docker-failed", `Ollama does not run in the container ${name}: ${how}${said}`, {
    hint: `Look at what it says: docker logs ${name}.`,
  });
}
