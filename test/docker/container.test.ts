// A seller's container, from nothing to a live node and back: what it looks like, who reaches it, and how it is left.
import { once } from "node:events";
import { createServer } from "node:net";
import { networkInterfaces } from "node:os";
import { expect } from "chai";
import { Agent, request } from "undici";
import { type DockerGround, standOnDocker } from "../support/docker-ground.ts";
import { fillVolume, inspectContainer, runOllama } from "../support/docker-ollama.ts";
import { type Market, openMarket, type Worker } from "../support/market.ts";
import { ROLES_TEMPLATE } from "../support/ollama-model.ts";
import { tinyModelFile } from "../support/tiny-model.ts";
import { jsonLines } from "../support/watched-process.ts";

const NAME = "infernet-test-seller";

describe("worker --docker", function () {
  this.timeout(60_000);
  let ground: DockerGround;
  let market: Market;

  before(async function () {
    this.timeout(600_000);
    ground = await standOnDocker(this);
    const model = { name: "tiny", file: tinyModelFile(), template: ROLES_TEMPLATE };
    await fillVolume(ground, NAME, [{ ...model, parameters: { num_ctx: 512, num_thread: 1 } }]);
    market = await openMarket({
      upstream: ["--docker", "--image", ground.ollamaImage, "--container", NAME],
      sellerEnv: { DOCKER_HOST: ground.engine.host },
    });
  });
  after(async () => {
    await market?.close();
    if (!ground) return;
    await ground.engine.docker(["rm", "--force", NAME]);
    await ground.engine.docker(["volume", "rm", "--force", NAME]);
  });

  const inspect = (name = NAME) => inspectContainer(ground, name);
  const isRunning = async (name = NAME) => (await inspect(name))?.State.Running === true;
  const seller = (...args: string[]) => market.watch("seller", args).ended;
  const endWith = async (worker: Worker, signal: NodeJS.Signals) => {
    worker.child.kill(signal);
    expect((await worker.ended).exitCode).to.equal(0);
  };
  const portOf = async () => (await inspect())!.HostConfig.PortBindings["11434/tcp"][0].HostPort as string;

  it("has registered with what the container has, and stopped it again", async () => {
    expect(await isRunning()).to.equal(false);
    const { models } = JSON.parse((await seller("node", "show", "--json")).stdout);
    expect(models[0].name).to.equal("tiny");
    expect(models[0].digest).to.match(/^0x(?!0{64})/);
  });

  it("goes live with a container that is marked, watched, brought back, and shown to this machine alone", async () => {
    const worker = await market.startWorker();
    const { Config, HostConfig, NetworkSettings, Mounts } = (await inspect())!;
    expect(Config.Labels).to.include({ "infernet.role": "ollama" });
    expect(Config.Healthcheck.Test).to.deep.equal(["CMD", "ollama", "list"]);
    expect(HostConfig.RestartPolicy.Name).to.equal("unless-stopped");
    expect(HostConfig).to.deep.include({ CapDrop: ["ALL"], Privileged: false });
    expect(Mounts[0]).to.include({ Type: "volume", Name: NAME, Destination: "/root/.ollama" });
    const ports = Object.values(NetworkSettings.Ports).flat();
    expect(ports).to.deep.equal([{ HostIp: "127.0.0.1", HostPort: await portOf() }]);
    for (const address of otherAddresses()) {
      const knock = fetch(`http://${address}:${await portOf()}/api/version`);
      await knock.then(
        () => expect.fail(`Ollama answers at ${address}`),
        (error: { cause?: { code?: string } }) => expect(error.cause?.code).to.equal("ECONNREFUSED"),
      );
    }
    await ground.engine.docker(["exec", NAME, "ollama", "list"]);
    await endWith(worker, "SIGINT");
    expect(await isRunning()).to.equal(false);
  });

  it("forwards chat, generate and embed, and nothing else that Ollama can do", async () => {
    const worker = await market.startWorker();
    const since = String(Math.floor(Date.now() / 1000));
    expect((await market.submit("hello", "--max-tokens", "8", "--json").ended).exitCode).to.equal(0);
    const dispatcher = new Agent({ connect: { rejectUnauthorized: false } });
    const body = JSON.stringify({ model: "tiny" });
    const powers = ["pull", "push", "create", "copy", "delete", "generate", "tags", "blobs/sha256:00"];
    for (const path of powers.map((power) => `/api/${power}`)) {
      for (const method of ["POST", "GET", "DELETE"] as const) {
        const sent = method === "GET" ? {} : { body, headers: { "content-type": "application/json" } };
        const answer = await request(market.endpoint + path, { method, dispatcher, ...sent });
        await answer.body.dump();
        expect(answer.statusCode, `${method} ${path}`).to.equal(404);
      }
    }
    await dispatcher.destroy();
    await endWith(worker, "SIGTERM");
    const log = await ground.engine.docker(["logs", "--since", since, NAME]);
    const asked = [...log.matchAll(/(GET|POST|DELETE|HEAD|PUT)\s+"(\S+)"/g)].map(([, , path]) => path!);
    expect(asked).to.include("/api/chat");
    const known = [
      "/api/chat",
      "/api/generate",
      "/api/embed",
      "/api/tags",
      "/api/show",
      "/api/version",
      "/api/ps",
      "/",
    ];
    expect(asked.filter((path) => !known.includes(path))).to.deep.equal([]);
  });

  it("leaves a container running that ran before, and one that is to be kept", async () => {
    await endWith(await market.startWorker("--keep-container"), "SIGTERM");
    expect(await isRunning()).to.equal(true);
    const worker = await market.startWorker();
    expect(worker.said.stderr).to.contain('"state":"running"');
    const stopped = await seller("worker", "stop", "--stop-container", "--json");
    expect(JSON.parse(stopped.stdout)).to.deep.equal({
      ...{ stopped: true, pid: worker.child.pid, container: NAME, containerStopped: true },
    });
    expect((await worker.ended).exitCode).to.equal(0);
    expect(await isRunning()).to.equal(false);
  });

  it("is ended by `worker stop`, which leaves the container as it is asked to", async () => {
    const worker = await market.startWorker();
    expect((await seller("worker", "stop", "--leave-container")).stdout).to.contain("has ended");
    expect((await worker.ended).exitCode).to.equal(0);
    expect(await isRunning()).to.equal(true);
    await ground.engine.docker(["stop", NAME]);
    const next = await market.startWorker();
    expect((await seller("worker", "stop")).exitCode).to.equal(0);
    expect((await next.ended).exitCode).to.equal(0);
    expect(await isRunning()).to.equal(false);
    expect((await seller("worker", "stop")).stdout).to.equal("No worker runs from this home.\n");
  });

  it("makes its container anew where another program has taken its port, with all its models", async () => {
    const port = await portOf();
    const intruder = createServer().listen(Number(port), "127.0.0.1");
    await once(intruder, "listening");
    try {
      await endWith(await market.startWorker(), "SIGTERM");
      expect(await portOf()).to.not.equal(port);
    } finally {
      intruder.close();
    }
  });

  it("takes a container that a person made, and leaves it to that person", async () => {
    const hand = await runOllama(ground, "infernet-test-hand", NAME);
    try {
      await endWith(await market.startWorker("--container", hand.name), "SIGTERM");
      expect(await isRunning(hand.name)).to.equal(true);
      await ground.engine.docker(["stop", hand.name]);
      await endWith(await market.startWorker("--container", hand.name), "SIGTERM");
      expect(await isRunning(hand.name)).to.equal(false);
    } finally {
      await hand.remove();
    }
  });

  it("says what cannot be had without a network, within seconds, and leaves nothing running", async () => {
    const started = Date.now();
    const ended = await seller(
      ...["worker", "--json", "--docker", "--container", "infernet-test-none"],
      ...["--image", "127.0.0.1:9/nothing"],
    );
    expect(ended.exitCode).to.equal(8);
    const { error } = jsonLines(ended.stderr).at(-1) as { error: Record<string, string> };
    expect(error).to.include({ code: "docker-failed" });
    expect(error.hint).to.contain("docker load");
    expect(await inspect("infernet-test-none")).to.equal(undefined);
    expect(Date.now() - started).to.be.lessThan(15_000);
  });
});

/** Addresses of this machine that others can reach it at. */
function otherAddresses(): string[] {
  const all = Object.values(networkInterfaces()).flatMap((addresses) => addresses ?? []);
  const addresses = all.filter(({ family, internal }) => family === "IPv4" && !internal);
  expect(addresses).to.not.deep.equal([]);
  return addresses.map(({ address }) => address);
}
