// Owns `tsx tools/docker/prepare.ts`: gets the real Ollama and the engine that tests use, before the tests that use them.
import { openEngine } from "./engine.ts";
import { fetchOllama } from "./ollama.ts";
import { NotHere } from "./packages.ts";

const report = (line: string) => console.log(line);

for (const [what, get] of [
  ["a real Ollama", () => fetchOllama({ report })],
  ["a Docker engine", tryEngine],
] as const) {
  try {
    console.log(`${what}: ${await get()}`);
  } catch (error) {
    // Not a failure: the tests that need it say the same and are counted as pending.
    if (!(error instanceof NotHere)) throw error;
    console.log(`\n!! ${what} cannot be had here, so its tests will be skipped:\n!! ${error.message}\n`);
  }
}

async function tryEngine(): Promise<string> {
  const engine = await openEngine({ report });
  await engine.stop();
  return engine.isOwn ? "dockerd starts here" : engine.host;
}
