// Owns where a Docker engine may be found on this machine, and the address that it is then called at.
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { InfernetError } from "../protocol/errors.ts";
import type { Environment } from "./home.ts";

/** A socket or named pipe of this machine, or a URL on its loopback interface. */
export type DockerHost = { name: string; socketPath?: string; origin: string; tls?: ClientTls };
export type ClientTls = { ca: Buffer; cert: Buffer; key: Buffer };

const LOOPBACK = /^(localhost|127(\.\d{1,3}){3}|\[::1\])$/;

/** What DOCKER_HOST names, else the usual places that exist, in the order in which they are to be tried. */
export async function listDockerHosts(env: Environment, home = homedir()): Promise<DockerHost[]> {
  if (env.DOCKER_HOST) return [await readDockerHost(env.DOCKER_HOST, env, home)];
  return usualSockets(env, home)
    .filter((path) => process.platform === "win32" || existsSync(path))
    .map(socketHost);
}

/** Reads a value of DOCKER_HOST. `bad-config` for what is no address, or leads to another machine. */
export async function readDockerHost(text: string, env: Environment, home = homedir()): Promise<DockerHost> {
  const [, scheme, rest] = /^(\w+):\/\/(.+)$/.exec(text) ?? [];
  if (scheme === "unix") return { ...socketHost(rest!), name: text };
  if (scheme === "npipe") return { ...socketHost(rest!.replaceAll("/", "\\")), name: text };
  const url = URL.canParse(text) ? new URL(text.replace(/^tcp:/, "http:")) : undefined;
  if (!url || !/^(tcp|https?)$/.test(scheme ?? "") || !LOOPBACK.test(url.hostname)) {
    throw new InfernetError("bad-config", `DOCKER_HOST=${text} is no engine of this machine`, {
      hint:
        "A container's Ollama listens on the loopback interface of the engine's machine: run the worker there. " +
        "Addresses are like unix:///var/run/docker.sock.",
    });
  }
  const isTls = scheme === "https" || Boolean(env.DOCKER_TLS_VERIFY);
  const origin = `${isTls ? "https" : "http"}://${url.host}`;
  if (!isTls) return { name: text, origin };
  const folder = env.DOCKER_CERT_PATH || join(home, ".docker");
  const [ca, cert, key] = await Promise.all(
    ["ca.pem", "cert.pem", "key.pem"].map((file) => readCertificate(join(folder, file))),
  );
  return { name: text, origin, tls: { ca: ca!, cert: cert!, key: key! } };
}

/** Docker's, rootless Docker's, Docker Desktop's, then those of programs that speak like it. */
function usualSockets(env: Environment, home: string): string[] {
  if (process.platform === "win32") return ["\\\\.\\pipe\\docker_engine"];
  const runtime = env.XDG_RUNTIME_DIR || `/run/user/${process.getuid?.() ?? 0}`;
  return [
    "/var/run/docker.sock",
    join(runtime, "docker.sock"),
    join(home, ".docker/run/docker.sock"),
    join(home, ".docker/desktop/docker.sock"),
    join(home, ".orbstack/run/docker.sock"),
    join(home, ".colima/default/docker.sock"),
    join(home, ".rd/docker.sock"),
    join(runtime, "podman/podman.sock"),
    "/run/podman/podman.sock",
  ];
}

function socketHost(socketPath: string): DockerHost {
  return { name: socketPath, socketPath, origin: "http://docker" };
}

async function readCertificate(path: string): Promise<Buffer> {
  try {
    return await readFile(path);
  } catch (cause) {
    throw new InfernetError("bad-config", `the engine's certificate ${path} cannot be read`, {
      hint: "DOCKER_CERT_PATH names the folder of ca.pem, cert.pem and key.pem.",
      cause,
    });
  }
}
