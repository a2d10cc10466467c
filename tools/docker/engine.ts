// Owns the Docker engine of tests: one that runs already, else a `dockerd` of their own that vanishes with them.
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync } from "node:fs";
import { connect } from "node:net";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { findProgram, installPackages, isRoot, NotHere, type Permission } from "./packages.ts";

export type Engine = {
  /** As DOCKER_HOST wants it: unix:///run/docker.sock. */
  host: string;
  /** Whether it was started here; `stop` ends it then, with all that runs in it and all that it keeps. */
  isOwn: boolean;
  /** Runs the docker command line against it and returns what it prints; `input` goes to its standard input. */
  docker(args: readonly string[], input?: Uint8Array): Promise<string>;
  stop(): Promise<void>;
};

/** The Debian packages of an engine: with the bridge tool, and with the loader of images. */
const ENGINE_PACKAGES = ["docker.io", "iproute2"];

/**
 * Ends with the engine, however the test ends: when its parent dies the system sends it SIGTERM. Then the engine stops
 * its containers, and nothing of it is left on the machine.
 */
const KEEPER = `
dockerd "$@" & engine=$!
trap 'kill "$engine"' TERM INT HUP
while kill -0 "$engine" 2>/dev/null; do wait "$engine"; done
ip link del "$BRIDGE"
awk -v folder="$FOLDER/" 'index($2, folder) == 1 {print $2}' /proc/mounts | sort -r | xargs -r umount
rm -rf "$FOLDER"
`;

/** An engine that answers. Throws `NotHere` with the reason and the remedy where there can be none. */
export async function openEngine(permission: Permission = {}): Promise<Engine> {
  const running = await findRunningEngine();
  if (running !== undefined) return engineAt(running, false, async () => {});
  if (process.platform !== "linux" || !isRoot()) {
    throw new NotHere("no Docker engine answers, and only root on Linux can start one: start Docker");
  }
  const missing = ["dockerd", "docker", "ip"].filter((name) => findProgram(name) === undefined);
  if (missing.length > 0)
    installPackages(ENGINE_PACKAGES, `this machine has no ${missing.join(", ")}`, permission);
  return startEngine();
}

/** DOCKER_HOST, else the usual sockets; one that does not answer is none. */
async function findRunningEngine(): Promise<string | undefined> {
  const told = process.env.DOCKER_HOST;
  if (told) return told;
  const sockets = ["/var/run/docker.sock", join(homedir(), ".docker/run/docker.sock")];
  for (const path of sockets) if (existsSync(path) && (await answers(path))) return `unix://${path}`;
  return undefined;
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ path });
    socket.once("error", () => resolve(false));
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
  });
}

/**
 * A network of its own kind: no packet rules, since ports published on the loopback interface need none, and a bridge of
 * its own, so that another engine on this machine is not disturbed.
 */
async function startEngine(): Promise<Engine> {
  const folder = mkdtempSync(join(tmpdir(), "infernet-docker-"));
  const bridge = `infernet${process.pid % 10_000_000}`;
  const run = promisify(execFile);
  const ip = findProgram("ip")!;
  await run(ip, ["link", "add", bridge, "type", "bridge"]);
  await run(ip, ["addr", "add", `172.${16 + (process.pid % 16)}.${process.pid % 251}.1/24`, "dev", bridge]);
  const socket = join(folder, "docker.sock");
  const keeper = spawn(
    findProgram("setpriv")!,
    [
      ...["--pdeathsig", "TERM", "sh", "-c", KEEPER, "sh"],
      ...["--data-root", join(folder, "data"), "--exec-root", join(folder, "exec")],
      ...["--pidfile", join(folder, "pid"), "--host", `unix://${socket}`, "--group", "root"],
      ...["--bridge", bridge, "--iptables=false", "--ip6tables=false"],
    ],
    {
      detached: true,
      stdio: ["ignore", "ignore", "pipe"],
      env: { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin`, BRIDGE: bridge, FOLDER: folder },
    },
  );
  const ended = once(keeper, "exit");
  await listening(keeper);
  return engineAt(`unix://${socket}`, true, async () => {
    keeper.kill("SIGTERM");
    await ended;
  });
}

/** Resolves when the engine says that it listens. */
function listening(keeper: ChildProcess): Promise<void> {
  return new Promise((resolve, reject) => {
    let said = "";
    keeper.stderr!.setEncoding("utf8").on("data", (text: string) => {
      said = (said + text).slice(-4_000);
      if (said.includes("API listen on")) resolve();
    });
    keeper.once("error", reject);
    keeper.once("exit", () =>
      reject(
        new NotHere(`dockerd cannot run on this machine:\n${said.trim().split("\n").slice(-5).join("\n")}`),
      ),
    );
  });
}

function engineAt(host: string, isOwn: boolean, stop: () => Promise<void>): Engine {
  return {
    host,
    isOwn,
    stop,
    async docker(args, input) {
      const program = findProgram("docker");
      if (program === undefined) throw new NotHere("an engine answers, but there is no docker command line");
      const child = spawn(program, ["--host", host, ...args], { stdio: ["pipe", "pipe", "pipe"] });
      const said = { stdout: "", stderr: "" };
      for (const name of ["stdout", "stderr"] as const) {
        child[name].setEncoding("utf8").on("data", (text: string) => {
          said[name] += text;
        });
      }
      child.stdin.on("error", () => {}); // It may end before it has read all.
      child.stdin.end(input ?? "");
      const [code] = (await once(child, "close")) as [number | null];
      if (code !== 0) throw new Error(`docker ${args.join(" ")} ended with ${code}: ${said.stderr.trim()}`);
      return said.stdout.trim();
    },
  };
}
