// Owns what every test with real containers stands on: one engine for all of them, and an image of a real Ollama.

import { type Engine, openEngine } from "../../tools/docker/engine.ts";
import { buildOllamaImage } from "../../tools/docker/images.ts";
import { fetchOllama } from "../../tools/docker/ollama.ts";
import { NotHere } from "../../tools/docker/packages.ts";

export type DockerGround = {
  engine: Engine;
  /** The image of a real Ollama, built here: it is in no registry. */
  ollamaImage: string;
};

const OLLAMA_IMAGE = "infernet-test/ollama:0.17.4";

let opening: Promise<DockerGround> | undefined;
let opened: DockerGround | undefined;

/**
 * The ground, opened once for all test files. Where it cannot be had the calling suite is skipped, and the reason is
 * written where nobody can miss it. For a `before` with time enough to build an Ollama.
 */
export async function standOnDocker(suite: Mocha.Context): Promise<DockerGround> {
  try {
    opening ??= open();
    return await opening;
  } catch (error) {
    if (!(error instanceof NotHere)) throw error;
    console.log(`\n!! SKIPPED, no real containers here: ${error.message}\n`);
    return suite.skip();
  }
}

async function open(): Promise<DockerGround> {
  const report = (line: string) => console.log(`  ${line}`);
  const program = await fetchOllama({ report });
  const engine = await openEngine({ report });
  opened = { engine, ollamaImage: OLLAMA_IMAGE };
  await buildOllamaImage(engine, program, OLLAMA_IMAGE);
  return opened;
}

// For the whole run, after the last suite.
after(async () => {
  if (opened === undefined) return;
  if (!opened.engine.isOwn) await opened.engine.docker(["image", "rm", "--force", OLLAMA_IMAGE]);
  await opened.engine.stop();
});
