// The ground itself: a real engine runs a real Ollama, which makes a model from a GGUF file and answers with its counts.
import { expect } from "chai";
import { type DockerGround, standOnDocker } from "../support/docker-ground.ts";
import { type HandMade, runOllama } from "../support/docker-ollama.ts";
import { callOllama, createOllamaModel, ROLES_TEMPLATE } from "../support/ollama-model.ts";
import { tinyModelFile } from "../support/tiny-model.ts";

describe("the test ground: a real Ollama in a real container", function () {
  this.timeout(60_000);
  let ground: DockerGround;
  let ollama: HandMade | undefined;

  before(async function () {
    this.timeout(600_000);
    ground = await standOnDocker(this);
  });
  after(() => ollama?.remove());

  it("serves a model made from a file, with counts", async () => {
    ollama = await runOllama(ground, "infernet-test-ground");
    await createOllamaModel(ollama.url, { name: "tiny", file: tinyModelFile(), template: ROLES_TEMPLATE });
    const options = { num_predict: 5, seed: 1, temperature: 0 };
    const question = { model: "tiny", prompt: "hello", stream: false, options };
    const answer = JSON.parse(await callOllama(ollama.url, "/api/generate", JSON.stringify(question)));
    expect(answer).to.include({ done: true, eval_count: 5 });
    expect(answer.prompt_eval_count).to.be.greaterThan(0);
  });
});
