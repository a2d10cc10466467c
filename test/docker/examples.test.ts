// The examples of --help that want a container, as they stand there: on an engine of the test's own, where the names are free.
import { expect } from "chai";
import { DOCKER_EXAMPLES } from "../support/docker-examples.ts";
import { type DockerGround, standOnDocker } from "../support/docker-ground.ts";
import { fillVolume, inspectContainer } from "../support/docker-ollama.ts";
import { JSON_FORMS } from "../support/json-forms.ts";
import { type Market, openMarket } from "../support/market.ts";
import { ROLES_TEMPLATE } from "../support/ollama-model.ts";
import { tinyModelFile } from "../support/tiny-model.ts";
import type { WatchedProcess } from "../support/watched-process.ts";

const NAME = "infernet-ollama";

describe("the examples of --docker", function () {
  this.timeout(60_000);
  let ground: DockerGround;
  let market: Market;
  let worker: WatchedProcess | undefined;

  before(async function () {
    this.timeout(600_000);
    ground = await standOnDocker(this);
    if (!ground.engine.isOwn) {
      console.log("\n!! SKIPPED: this engine is somebody's own, and the examples use Ollama's usual names\n");
      return this.skip();
    }
    await ground.engine.docker(["tag", ground.ollamaImage, "ollama/ollama:latest"]);
    await fillVolume(ground, NAME, [{ name: "llama3.2", file: tinyModelFile(), template: ROLES_TEMPLATE }]);
    market = await openMarket({ sellerEnv: { DOCKER_HOST: ground.engine.host } });
  });
  after(async () => {
    await market?.close();
    if (!market) return;
    await ground.engine.docker(["rm", "--force", NAME]);
    await ground.engine.docker(["volume", "rm", "--force", NAME]);
  });

  const isRunning = async () => (await inspectContainer(ground, NAME))?.State.Running === true;

  for (const example of DOCKER_EXAMPLES) {
    it(`infernet ${example}`, async () => {
      const running = market.watch("seller", example.split(" "));
      if (example.startsWith("worker --docker")) {
        worker = running;
        await worker.until(({ stdout }) => stdout.includes("your node is live"));
        expect(await isRunning()).to.equal(true);
        return;
      }
      const { exitCode, stdout, stderr } = await running.ended;
      expect(exitCode, stderr).to.equal(0);
      expect(await isRunning()).to.equal(false);
      if (example.endsWith("--json")) JSON_FORMS["worker stop"]!.parse(JSON.parse(stdout));
      if (example.startsWith("worker stop")) expect((await worker!.ended).exitCode).to.equal(0);
    });
  }
});
