// Owns containers that tests run an Ollama in by hand, and volumes that are filled before anybody sells what is in them.
import { freePort } from "../../tools/demo/processes.ts";
import type { DockerGround } from "./docker-ground.ts";
import { createOllamaModel, type OllamaModel } from "./ollama-model.ts";

export type HandMade = { name: string; url: string; remove(): Promise<void> };

/** Starts a container as a person would; `volume` keeps its models, when one is named. */
export async function runOllama(
  { engine, ollamaImage }: DockerGround,
  name: string,
  volume?: string,
): Promise<HandMade> {
  const port = await freePort();
  const keep = volume ? ["--volume", `${volume}:/root/.ollama`] : [];
  const place = ["--publish", `127.0.0.1:${port}:11434`];
  await engine.docker(["run", "--detach", "--name", name, ...place, ...keep, ollamaImage]);
  const url = `http://127.0.0.1:${port}`;
  await answering(url);
  return {
    name,
    url,
    remove: async () => void (await engine.docker(["rm", "--force", "--volumes", name])),
  };
}

/** Makes models in a volume. */
export async function fillVolume(
  ground: DockerGround,
  volume: string,
  models: readonly OllamaModel[],
): Promise<void> {
  const made = await runOllama(ground, `${volume}-filling`, volume);
  try {
    for (const model of models) await createOllamaModel(made.url, model);
  } finally {
    await made.remove();
  }
}

/** What the engine tells of a container; undefined when there is none. */
export async function inspectContainer({ engine }: DockerGround, name: string) {
  const listed = await engine.docker(["ps", "--all", "--quiet", "--filter", `name=^/?${name}$`]);
  if (listed === "") return undefined;
  // biome-ignore lint/suspicious/noExplicitAny: each test knows the members that it asks for.
  return JSON.parse(await engine.docker(["inspect", name]))[0] as Record<string, any>;
}

/** A published port takes connections before anything listens behind it, and nobody tells when it does. */
export async function answering(url: string): Promise<void> {
  for (;;) {
    const answer = await fetch(`${url}/api/version`).catch(() => undefined);
    if (answer?.ok) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
