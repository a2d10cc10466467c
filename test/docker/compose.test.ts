// The compose stack: accepted by Debian's docker-compose, built on the spot, and it serves a paid job that Prometheus counts.
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "chai";
import { freePort } from "../../tools/demo/processes.ts";
import { NotHere } from "../../tools/docker/packages.ts";
import { installPythonTool } from "../../tools/python.ts";
import { PASSPHRASE } from "../support/command-line.ts";
import {
  bridgePort,
  buildInfernetImage,
  buildPrometheusImage,
  COMPOSE_FILE,
  findCompose,
  giveToImageUser,
  INFERNET_IMAGE,
  openStack,
  removeImages,
  type Stack,
} from "../support/compose-stack.ts";
import { type DockerGround, standOnDocker } from "../support/docker-ground.ts";
import { temporaryFolder } from "../support/machine.ts";
import { EMBEDDED, type Market, openMarket } from "../support/market.ts";
import { ROLES_TEMPLATE } from "../support/ollama-model.ts";
import { tinyModelFile } from "../support/tiny-model.ts";

const SOLD = "tiny";

describe("the compose stack", function () {
  this.timeout(180_000);
  let ground: DockerGround;
  let market: Market | undefined;
  let stack: Stack | undefined;
  let chainBridge: { close(): void } | undefined;

  before(async function () {
    this.timeout(900_000);
    ground = await standOnDocker(this);
    try {
      findCompose();
    } catch (error) {
      if (!(error instanceof NotHere)) throw error;
      console.log(`\n!! SKIPPED, no compose stack here: ${error.message}\n`);
      this.skip();
    }
    await buildInfernetImage(ground.engine);
  });
  after(async () => {
    await stack?.down();
    chainBridge?.close();
    await market?.close();
    if (ground) await removeImages(ground.engine);
  });

  it("has an image that makes keys in a volume, without rights and on a file system that is read-only", async () => {
    const { docker } = ground.engine;
    const rights = ["--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"];
    const made = await docker([
      ...["run", "--rm", ...rights, "--volume", "infernet-test-keys:/data"],
      ...["--env", "INFERNET_PASSPHRASE=correct horse", INFERNET_IMAGE, "node", "create", "--json"],
    ]);
    await docker(["volume", "rm", "infernet-test-keys"]);
    expect(JSON.parse(made).path).to.equal("/data/node.json");
    const [image] = JSON.parse(await docker(["image", "inspect", INFERNET_IMAGE]));
    expect(image.Config.User).to.equal("10001:10001");
    expect(image.Config.Healthcheck.Test).to.deep.equal(["CMD", "node", "/app/healthcheck.mjs"]);
  });

  it("asks for what only its owner knows, and publishes nothing but the node", async () => {
    const program = findCompose();
    const config = (env: Record<string, string>) =>
      execFileSync(program, ["--file", COMPOSE_FILE, "config"], {
        env: { PATH: process.env.PATH, ...env },
        encoding: "utf8",
        stdio: "pipe",
      });
    expect(() => config({})).to.throw(/set INFERNET_\w+ to/);
    const addresses = { INFERNET_REGISTRY: "0x1", INFERNET_ESCROW: "0x2" };
    const text = config({ INFERNET_RPC_URL: "http://rpc", INFERNET_CHAIN_ID: "1", ...addresses });
    const loopback = [...text.matchAll(/^ {4}- (\S+:\d+)\/tcp$/gm)].map(([, port]) => port);
    expect(loopback.sort()).to.deep.equal(["127.0.0.1:3000:3000", "127.0.0.1:9090:9090"]);
    expect([...text.matchAll(/published: (\d+)/g)].map(([, port]) => port)).to.deep.equal(["8443"]);
  });

  it("holds to the Compose Specification, and a check of it that can fail", () => {
    const text = readFileSync(COMPOSE_FILE, "utf8")
      .replaceAll(/\$\{\w+:-([^}]*)\}/g, "$1")
      .replaceAll(/\$\{\w+:\?[^}]*\}/g, "given");
    const python = join(installPythonTool("compose-spec", "0.2.1"), "python");
    const program =
      "import sys, compose_spec; compose_spec.PyCompose.from_yaml(sys.stdin.read()).validate(); print('valid')";
    const check = (input: string) =>
      execFileSync(python, ["-c", program], { input, encoding: "utf8", stdio: "pipe" }).trim();
    expect(check(text)).to.equal("valid");
    expect(() => check(text.replace("read_only: true", "read_onli: true"))).to.throw("read_onli");
  });

  it("serves a paid job through worker and Ollama, and Prometheus counts it", async () => {
    const { engine, ollamaImage } = ground;
    market = await openMarket({
      model: SOLD,
      upstream: EMBEDDED.map((word) => (word === "tiny" ? SOLD : word)),
    });
    const { chain, seller, endpoint } = market;
    giveToImageUser(seller.home);
    const prometheus = await buildPrometheusImage(engine);
    const prometheusPort = await freePort();
    const subnet = `10.${process.pid % 200}.${Math.floor(process.pid / 200) % 200}`;
    const rpc = new URL(chain.rpcUrl);
    stack = openStack({
      ...{ engine, passphrase: PASSPHRASE, home: seller.home, subnet },
      env: {
        OLLAMA_IMAGE: ollamaImage,
        INFERNET_IMAGE,
        PROMETHEUS_IMAGE: prometheus ?? "",
        PROMETHEUS_PORT: String(prometheusPort),
        INFERNET_PUBLISH: `127.0.0.1:${new URL(endpoint).port}`,
        INFERNET_RPC_URL: `http://${subnet}.1:${rpc.port}`,
        INFERNET_CHAIN_ID: "31337",
        INFERNET_REGISTRY: chain.deployment.registry,
        INFERNET_ESCROW: chain.deployment.escrow,
      },
    });
    const services = ["ollama", "worker", ...(prometheus ? ["prometheus"] : [])];
    await stack.compose("up", "--no-start", "--no-build", ...services);
    chainBridge = await bridgePort(`${subnet}.1`, Number(rpc.port));
    await stack.compose("up", "--detach", "--no-build", "ollama");
    await makeModel(stack, engine.docker);
    await stack.compose("up", "--detach", "--no-build", ...services);
    await until(
      async () =>
        (await engine.docker(["inspect", "--format", "{{.State.Health.Status}}", await idOf("worker")])) ===
        "healthy",
      () => stack!.compose("logs", "--tail", "30", "worker"),
    );

    const bill = await market.buyerJson(
      "job",
      "submit",
      "--model",
      SOLD,
      "--prompt",
      "Hello",
      "--max-tokens",
      "20",
      "--wait",
      "90s",
    );
    expect(bill.settled.chargeUsdc).to.equal(bill.chargeUsdc);
    expect(bill.completionTokens).to.be.greaterThan(0);

    if (!prometheus) {
      console.log("      !! no Prometheus of Debian's here: nothing scraped the worker");
      return;
    }
    const query = `infernet_completion_tokens_total{model="${SOLD}"}`;
    const url = `http://127.0.0.1:${prometheusPort}/api/v1/query?query=${encodeURIComponent(query)}`;
    const counted = await until(
      async () => {
        const answer = await fetch(url).catch(() => undefined);
        const body = answer?.ok
          ? ((await answer.json()) as { data: { result: { value: [number, string] }[] } })
          : undefined;
        return body?.data.result[0]?.value[1];
      },
      () => stack!.compose("logs", "--tail", "30", "prometheus"),
    );
    expect(Number(counted)).to.equal(bill.completionTokens);
  });

  async function idOf(service: string): Promise<string> {
    return (await stack!.compose("ps", "--quiet", service)).trim();
  }

  async function makeModel(into: Stack, docker: DockerGround["engine"]["docker"]): Promise<void> {
    const id = (await into.compose("ps", "--quiet", "ollama")).trim();
    const folder = temporaryFolder();
    writeFileSync(join(folder, "Modelfile"), `FROM /tmp/tiny.gguf\nTEMPLATE """${ROLES_TEMPLATE}"""\n`);
    await docker(["cp", tinyModelFile(), `${id}:/tmp/tiny.gguf`]);
    await docker(["cp", join(folder, "Modelfile"), `${id}:/tmp/Modelfile`]);
    await until(
      () =>
        docker(["exec", id, "ollama", "create", "tiny", "-f", "/tmp/Modelfile"]).then(
          () => true,
          () => false,
        ),
      () => into.compose("logs", "--tail", "30", "ollama"),
    );
  }
});

/** Asks again until there is an answer; after a minute it fails with what `explain` tells. */
async function until<Found>(
  ask: () => Promise<Found | undefined | false>,
  explain: () => Promise<string>,
): Promise<Found> {
  const deadline = Date.now() + 60_000;
  for (;;) {
    const found = await ask();
    if (found !== undefined && found !== false) return found;
    if (Date.now() > deadline) throw new Error(`it did not come:\n${await explain()}`);
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}
