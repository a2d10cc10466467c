// The ground itself: a real engine runs a real Ollama, which makes a model from a GGUF file and answers with its counts.
import { expect } from "chai";
import { freePort } from "../../tools/demo/processes.ts";
import { type DockerGround, standOnDocker } from "../support/docker-ground.ts";
import { callOllama, createOllamaModel, ROLES_TEMPLATE } from "../support/ollama-model.ts";
import { tinyModelFile } from "../support/tiny-model.ts";

describe("the test ground: a real Ollama in a real container", function () {
  this.timeout(60_000);
  let ground: DockerGround;
  let container: string | undefined;

  before(async function () {
    this.timeout(600_000);
    ground = await standOnDocker(this);
  });
  after(async () => {
    if (container) await ground.engine.docker(["rm", "--force", "--volumes", container]);
  });

  it("serves a model made from a file, with counts", async () => {
    const port = await freePort();
    const { engine, ollamaImage } = ground;
    container = await engine.docker(["run", "--detach", "--publish", `127.0.0.1:${port}:11434`, ollamaImage]);
    const url = `http://127.0.0.1:${port}`;
    await answering(url);
    await createOllamaModel(url, { name: "tiny", file: tinyModelFile(), template: ROLES_TEMPLATE });
    const options = { num_predict: 5, seed: 1, temperature: 0 };
    const question = { model: "tiny", prompt: "hello", stream: false, options };
    const answer = JSON.parse(await callOllama(url, "/api/generate", JSON.stringify(question)));
    expect(answer).to.include({ done: true, eval_count: 5 });
    expect(answer.prompt_eval_count).to.be.greaterThan(0);
  });

  /** A published port takes connections before anything listens behind it. */
  async function answering(url: string): Promise<void> {
    for (;;) {
      const answer = await fetch(`${url}/api/version`).catch(() => undefined);
      if (answer?.ok) return;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
});
