// One command, from nothing to a live node: the image comes with progress, a person is led through the rest, and what
// cannot be had is said at once.
import { expect } from "chai";
import { freePort } from "../../tools/demo/processes.ts";
import { type CommandLine, createCommandLine } from "../support/command-line.ts";
import { type DockerGround, standOnDocker } from "../support/docker-ground.ts";
import { fillVolume, inspectContainer } from "../support/docker-ollama.ts";
import { type LocalChain, startLocalChain } from "../support/local-chain.ts";
import { type LocalRegistry, startLocalRegistry } from "../support/local-registry.ts";
import { ROLES_TEMPLATE } from "../support/ollama-model.ts";
import { tinyModelFile } from "../support/tiny-model.ts";
import { jsonLines, watchProcess } from "../support/watched-process.ts";

const NAME = "infernet-test-newcomer";
const PAYEE = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8";

describe("from nothing to a live node with --docker", function () {
  this.timeout(60_000);
  let ground: DockerGround;
  let chain: LocalChain;
  let newcomer: CommandLine;
  let registry: LocalRegistry | undefined;
  let env: Record<string, string>;

  before(async function () {
    this.timeout(600_000);
    ground = await standOnDocker(this);
    env = { DOCKER_HOST: ground.engine.host };
    await fillVolume(ground, NAME, [{ name: "tiny", file: tinyModelFile(), template: ROLES_TEMPLATE }]);
    chain = await startLocalChain();
    newcomer = await createCommandLine(chain);
    const { address } = JSON.parse((await newcomer.run(["node", "create", "--json"])).stdout);
    await chain.fundNative(address, 10n ** 18n);
  });
  afterEach(async () => {
    await registry?.close();
    registry = undefined;
    if (ground) await ground.engine.docker(["rm", "--force", NAME]);
  });
  after(async () => {
    await newcomer?.remove();
    await chain?.stop();
    if (ground) await ground.engine.docker(["volume", "rm", "--force", NAME]);
  });

  const docker = (image: string) => ["--docker", "--container", NAME, "--image", image];
  const place = async () => ["--payee", PAYEE, "--endpoint", `https://127.0.0.1:${await freePort()}`];
  const errorOf = (stderr: string) => jsonLines(stderr).at(-1)!.error as Record<string, string>;

  it("names the command that an unregistered node needs, where nobody can be asked", async () => {
    const ended = await newcomer.run(["worker", "--docker", "--model", "llama3.2"], { env });
    expect(ended.exitCode).to.equal(7);
    expect(ended.stderr).to.contain("infernet register --docker --model llama3.2=0.05:0.20");
    expect(await inspectContainer(ground, "infernet-ollama")).to.equal(undefined);
  });

  it("ends a download that a person interrupts, and leaves nothing", async () => {
    registry = await startLocalRegistry(ground.engine, { stalls: true });
    const args = [
      "register",
      ...docker(registry.nameOf("stalled")),
      ...(await place()),
      "--model",
      "tiny=1:1",
    ];
    const running = watchProcess(newcomer.start(args, { env }));
    await registry.layerAsked;
    running.child.kill("SIGINT");
    expect((await running.ended).exitCode).to.equal(130);
    expect(await inspectContainer(ground, NAME)).to.equal(undefined);
  });

  it("says which model cannot be had, and stops what it started", async () => {
    const started = Date.now();
    const args = [
      "register",
      ...docker(ground.ollamaImage),
      ...(await place()),
      "--model",
      "no-such-model=1:1",
    ];
    const { exitCode, stderr } = await newcomer.run([...args, "--json"], { env });
    expect(exitCode).to.equal(6);
    expect(errorOf(stderr)).to.include({ code: "upstream-failed" });
    expect(errorOf(stderr).message).to.contain('cannot pull "no-such-model": ');
    expect(Date.now() - started).to.be.lessThan(30_000);
    expect((await inspectContainer(ground, NAME))?.State.Running).to.equal(false);
  });

  it("fetches the image, telling how far it is, and leads a person from there to a live node", async () => {
    registry = await startLocalRegistry(ground.engine);
    const image = registry.nameOf("fetched");
    const args = ["worker", ...docker(image), "--model", "tiny", "--log"];
    const session = newcomer.startInTerminal(args, { env });
    try {
      await session.sees("a few questions");
      await session.sees("reach this node?");
      session.type(`https://127.0.0.1:${await freePort()}\r`);
      await session.sees("Which account earns?");
      session.type(`${PAYEE}\r`);
      await session.sees(`fetching the image ${image}`);
      await session.sees("100% of ");
      await session.sees("tokens of prompt");
      session.type("\r");
      await session.sees("tokens of completion");
      session.type("\r");
      await session.sees("your node is live");
      session.type("\x03");
      const { exitCode, shown } = await session.end();
      expect(exitCode).to.equal(0);
      expect(shown).to.contain(`the container ${NAME} is stopped`);
    } finally {
      session.close();
    }
    expect((await inspectContainer(ground, NAME))?.Config.Image).to.equal(image);
    await ground.engine.docker(["rm", "--force", NAME]);
    await ground.engine.docker(["image", "rm", image]);
  });

  it("tells a download as events to programs", async () => {
    registry = await startLocalRegistry(ground.engine);
    const image = registry.nameOf("told");
    const args = ["register", ...docker(image), ...(await place()), "--model", "tiny=0.10:0.30", "--json"];
    const { exitCode, stderr } = await newcomer.run(args, { env });
    expect(exitCode, stderr).to.equal(0);
    const told = jsonLines(stderr).filter(({ event }) => event === "imagePull");
    expect(told.at(-1)).to.include({ image });
    expect(told.at(-1)!.receivedBytes).to.equal(told.at(-1)!.totalBytes).and.be.greaterThan(10_000_000);
    await ground.engine.docker(["rm", "--force", NAME]);
    await ground.engine.docker(["image", "rm", image]);
  });

  it("says when no engine answers, and what to do", async () => {
    const args = ["register", ...docker("any"), ...(await place()), "--model", "tiny=1:1", "--json"];
    const nowhere = { DOCKER_HOST: `unix://${newcomer.home}/no.sock` };
    const { exitCode, stderr } = await newcomer.run(args, { env: nowhere });
    expect(exitCode).to.equal(8);
    expect(errorOf(stderr)).to.include({ code: "docker-unavailable" });
    expect(errorOf(stderr).hint).to.match(/Start (it|Docker)/);
  });
});
