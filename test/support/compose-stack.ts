// Owns the compose stack of docker/ in tests: its images built on the spot, its settings, and its end.
import { execFile, execFileSync } from "node:child_process";
import { chmodSync, cpSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import type { Engine } from "../../tools/docker/engine.ts";
import { buildImage } from "../../tools/docker/images.ts";
import { findProgram, installPackages } from "../../tools/docker/packages.ts";
import { temporaryFolder } from "./machine.ts";

const ROOT = resolve(import.meta.dirname, "../..");
export const COMPOSE_FILE = join(ROOT, "docker", "compose.yml");
const NODE_IMAGE = "infernet-test/node";
export const INFERNET_IMAGE = "infernet-test/infernet";
const PROMETHEUS_IMAGE = "infernet-test/prometheus";
const run = promisify(execFile);

/** Debian's docker-compose; installed where that is allowed, else `NotHere`. */
export function findCompose(): string {
  const program = () => findProgram("docker-compose");
  if (program() === undefined) installPackages(["docker-compose"], "this machine has no docker-compose", {});
  return program()!;
}

/** Builds docker/Dockerfile from the packed package, upon an image of nothing but this Node. */
export async function buildInfernetImage(engine: Engine): Promise<void> {
  const folder = temporaryFolder();
  const env = { ...process.env, NODE_OPTIONS: "--use-system-ca" };
  cpSync(join(ROOT, "docker"), folder, { recursive: true });
  const { stdout } = await run("npm", ["pack", "--silent", "--pack-destination", folder], { cwd: ROOT, env });
  const tarball = join(folder, stdout.trim().split("\n").at(-1)!);
  const install = [
    "install",
    "--prefix",
    "app",
    "--omit=peer",
    "--ignore-scripts",
    "--no-audit",
    "--no-fund",
  ];
  await run("npm", [...install, tarball], { cwd: folder, env });
  await buildImage(engine, {
    name: NODE_IMAGE,
    programs: { "/usr/local/bin/node": process.execPath },
    changes: ["ENV PATH=/usr/local/bin"],
  });
  await engine.docker(["build", "--build-arg", `BASE_IMAGE=${NODE_IMAGE}`, "--tag", INFERNET_IMAGE, folder]);
}

/** An image that is used as prom/prometheus is, of Debian's package; undefined where that cannot be had. */
export async function buildPrometheusImage(engine: Engine): Promise<string | undefined> {
  const folder = temporaryFolder();
  try {
    // Not installed: it would become a service of this machine.
    execFileSync("apt-get", ["download", "prometheus"], { cwd: folder, stdio: "pipe" });
    execFileSync("sh", ["-c", "dpkg-deb -x prometheus_*.deb ."], { cwd: folder, stdio: "pipe" });
  } catch {
    return undefined;
  }
  await buildImage(engine, {
    name: PROMETHEUS_IMAGE,
    programs: { "/bin/prometheus": join(folder, "usr/bin/prometheus") },
    folders: ["/prometheus"],
    changes: ["ENV PATH=/bin", 'ENTRYPOINT ["/bin/prometheus"]'],
  });
  return PROMETHEUS_IMAGE;
}

/** Takes the images away from an engine that lives on. */
export async function removeImages({ isOwn, docker }: Engine): Promise<void> {
  if (isOwn) return;
  for (const name of [INFERNET_IMAGE, PROMETHEUS_IMAGE, NODE_IMAGE])
    await docker(["image", "rm", "--force", name]).catch(() => {}); // It may never have been made.
}

export type StackSettings = {
  engine: Engine;
  /** Images and ports, by the variables of compose.yml. */
  env: Record<string, string>;
  passphrase: string;
  /** The home folder that the worker uses in its volume's place. */
  home: string;
  /** The first three numbers of the metrics network's addresses. */
  subnet: string;
};

export type Stack = {
  /** Runs docker-compose on the stack and returns what it prints. */
  compose(...args: string[]): Promise<string>;
  /** The whole stack's end, volumes included. */
  down(): Promise<void>;
};

/** The stack of compose.yml with what a test must change: where keys lie, a network of known addresses, a quick scrape. */
export function openStack({ engine, env, passphrase, home, subnet }: StackSettings): Stack {
  const folder = temporaryFolder();
  chmodSync(folder, 0o755);
  const file = (name: string, text: string) => {
    writeFileSync(join(folder, name), text, { mode: 0o644 });
    return join(folder, name);
  };
  const scrape = readFileSync(join(ROOT, "docker", "prometheus.yml"), "utf8").replace(
    /(scrape_interval:) 15s/,
    "$1 1s",
  );
  const override = {
    version: "3.8",
    services: {
      worker: { volumes: [`${home}:/data`] },
      prometheus: { volumes: [`${file("prometheus.yml", scrape)}:/etc/prometheus/prometheus.yml:ro`] },
    },
    networks: { metrics: { ipam: { config: [{ subnet: `${subnet}.0/24` }] } } },
  };
  const settings = {
    PATH: `${process.env.PATH}:/usr/bin:/bin`,
    DOCKER_HOST: engine.host,
    COMPOSE_PROJECT_NAME: `infernet${process.pid}`,
    PASSPHRASE_FILE: file("passphrase.txt", passphrase),
    GRAFANA_PASSWORD_FILE: file("grafana-password.txt", "nobody logs in"),
    ...env,
  };
  const files = ["--file", COMPOSE_FILE, "--file", file("override.json", JSON.stringify(override))];
  const compose: Stack["compose"] = async (...args) =>
    (await run(findCompose(), [...files, ...args], { env: settings, cwd: folder })).stdout;
  return { compose, down: async () => void (await compose("down", "--volumes", "--timeout", "5")) };
}

/** Makes a folder's files those of the image's user. */
export function giveToImageUser(folder: string): void {
  mkdirSync(folder, { recursive: true });
  execFileSync("chown", ["-R", "10001:10001", folder]);
  chmodSync(folder, 0o700);
}

/** Lets containers reach a port of this machine's loopback at an address of theirs. */
export async function bridgePort(address: string, port: number): Promise<{ port: number; close(): void }> {
  const sockets = new Set<Socket>();
  const server = createServer((client) => {
    const target = connect(port, "127.0.0.1");
    for (const socket of [client, target]) {
      sockets.add(socket);
      socket.on("error", () => {}).once("close", () => sockets.delete(socket));
    }
    client.pipe(target).pipe(client);
  });
  await new Promise<void>((done, reject) => server.once("error", reject).listen(port, address, done));
  return {
    port,
    close() {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}
