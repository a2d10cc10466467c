// Owns the door to a Docker engine: its HTTP API over a socket of this machine, as far as one container needs it.
import { Agent, type Dispatcher, request } from "undici";
import { InfernetError } from "../protocol/errors.ts";
import { type DockerHost, listDockerHosts } from "./docker-hosts.ts";
import type { Environment } from "./home.ts";

/** What the engine tells of a container, as far as it is looked at. */
export type Container = {
  Id: string;
  Name: string;
  State: { Status: string; Running: boolean; ExitCode: number; Error: string };
  Config: { Image: string; Labels: Record<string, string> | null };
  HostConfig: { PortBindings: PortBindings | null };
  NetworkSettings: { Ports: PortBindings };
};
export type PortBindings = Record<string, { HostIp: string; HostPort: string }[] | null>;
/** The body of `POST /containers/create`. */
export type ContainerPlan = {
  Image: string;
  Labels: Record<string, string>;
  HostConfig: Record<string, unknown>;
  [member: string]: unknown;
};
export type EngineInfo = {
  OperatingSystem: string;
  ServerVersion: string;
  Runtimes?: Record<string, unknown>;
};

/** Bytes of an image's layers, as far as they are known. */
export type PullProgress = { status: string; receivedBytes: number; totalBytes: number };

export type Docker = {
  /** How a person knows the engine: a socket's path, or what DOCKER_HOST says. */
  host: string;
  info(): Promise<EngineInfo>;
  hasImage(image: string): Promise<boolean>;
  /** Fetches an image from its registry. `docker-failed` when the engine cannot, or hears nothing for `silenceMs`. */
  pullImage(image: string, options: PullOptions): Promise<void>;
  findContainer(name: string): Promise<Container | undefined>;
  /** Makes it and returns its id; volumes that it names are made, too. */
  createContainer(name: string, plan: ContainerPlan): Promise<string>;
  startContainer(id: string): Promise<void>;
  /** Asks it to end, and ends it after `graceSeconds`. Nothing happens when it does not run. */
  stopContainer(id: string, graceSeconds: number): Promise<void>;
  removeContainer(id: string): Promise<void>;
  /** The last lines that it wrote. */
  lastLines(id: string, count: number): Promise<string[]>;
  close(): Promise<void>;
};

export type PullOptions = {
  onProgress(progress: PullProgress): void;
  signal: AbortSignal;
  silenceMs: number;
};

type Call = { query?: Record<string, string>; body?: object; signal?: AbortSignal; silenceMs?: number };
type Answer = { status: number; body: Dispatcher.ResponseData["body"] };

/** The newest version 1.x of the API that this is written for; older engines are spoken to in their own. */
const NEWEST_MINOR = 47;
const CONNECT_TIMEOUT_MS = 3_000;
/** Stopping takes as long as its grace; nothing else is slow. */
const ANSWER_TIMEOUT_MS = 60_000;

/**
 * The first engine that answers: DOCKER_HOST's, else one at a usual place. `docker-unavailable` says how to get one, or
 * why the one that is there refuses.
 */
export async function findDocker(env: Environment): Promise<Docker> {
  const hosts = await listDockerHosts(env);
  let refused: unknown;
  for (const host of hosts) {
    const docker = await openDocker(host).catch((error: unknown) => {
      refused ??= error;
      return undefined;
    });
    if (docker) return docker;
  }
  throw explainAbsence(hosts, refused);
}

/** Connects, and agrees on a version. Throws what the system says when nobody answers. */
export async function openDocker(host: DockerHost): Promise<Docker> {
  const { socketPath, tls = {} } = host;
  const agent = new Agent({
    connect: { timeout: CONNECT_TIMEOUT_MS, ...(socketPath ? { socketPath } : {}), ...tls },
    headersTimeout: ANSWER_TIMEOUT_MS,
    bodyTimeout: 0,
  });
  try {
    const pong = await request(`${host.origin}/_ping`, { dispatcher: agent });
    await pong.body.dump();
    const [, minor] = /^1\.(\d+)$/.exec(String(pong.headers["api-version"])) ?? [];
    if (pong.statusCode !== 200 || !minor) throw new Error(`it answered ${pong.statusCode} to a ping`);
    return dockerAt(host, agent, `${host.origin}/v1.${Math.min(Number(minor), NEWEST_MINOR)}`);
  } catch (error) {
    await agent.destroy();
    throw error;
  }
}

function dockerAt(host: DockerHost, agent: Agent, base: string): Docker {
  async function send(method: "GET" | "POST" | "DELETE", path: string, call: Call = {}): Promise<Answer> {
    const { query, body, signal, silenceMs } = call;
    try {
      const answer = await request(base + path + (query ? `?${new URLSearchParams(query)}` : ""), {
        ...{ method, dispatcher: agent },
        ...(body ? { body: JSON.stringify(body), headers: { "content-type": "application/json" } } : {}),
        ...(signal ? { signal } : {}),
        ...(silenceMs ? { headersTimeout: silenceMs, bodyTimeout: silenceMs } : {}),
      });
      return { status: answer.statusCode, body: answer.body };
    } catch (cause) {
      signal?.throwIfAborted();
      throw engineError(`the Docker engine at ${host.name} does not answer: ${messageOf(cause)}`, cause);
    }
  }

  /** The parsed answer; `undefined` for a status of `absent`. Throws `docker-failed` with the engine's own words. */
  async function call(
    method: "GET" | "POST" | "DELETE",
    path: string,
    { absent = [], ...rest }: Call & { absent?: readonly number[] } = {},
  ): Promise<unknown> {
    const { status, body } = await send(method, path, rest);
    const text = await body.text();
    if (absent.includes(status)) return undefined;
    if (status >= 400) throw engineError(readMessage(text) || `the Docker engine answered ${status}`);
    return text === "" ? {} : JSON.parse(text);
  }

  const at = (id: string) => `/containers/${encodeURIComponent(id)}`;
  return {
    host: host.name,
    info: async () => (await call("GET", "/info")) as EngineInfo,
    hasImage: async (image) =>
      (await call("GET", `/images/${encodeURIComponent(image)}/json`, { absent: [404] })) !== undefined,
    async pullImage(image, { onProgress, signal, silenceMs }) {
      const query = imageQuery(image);
      const { status, body } = await send("POST", "/images/create", { query, signal, silenceMs });
      if (status >= 400) throw engineError(readMessage(await body.text()) || `the engine answered ${status}`);
      try {
        await followPull(body, onProgress);
      } catch (cause) {
        signal.throwIfAborted();
        throw cause instanceof InfernetError ? cause : engineError(messageOf(cause), cause);
      }
    },
    findContainer: async (name) =>
      (await call("GET", `${at(name)}/json`, { absent: [404] })) as Container | undefined,
    createContainer: async (name, plan) => {
      const made = await call("POST", "/containers/create", { query: { name }, body: plan });
      return (made as { Id: string }).Id;
    },
    async startContainer(id) {
      await call("POST", `${at(id)}/start`, { absent: [304] });
    },
    async stopContainer(id, graceSeconds) {
      await call("POST", `${at(id)}/stop`, { query: { t: String(graceSeconds) }, absent: [304, 404] });
    },
    async removeContainer(id) {
      await call("DELETE", at(id), { query: { force: "true" }, absent: [404] });
    },
    async lastLines(id, count) {
      const query = { stdout: "true", stderr: "true", tail: String(count) };
      const { body } = await send("GET", `${at(id)}/logs`, { query });
      return readFrames(Buffer.from(await body.arrayBuffer()));
    },
    close: () => agent.destroy(),
  };
}

/** Sums what the layers say of themselves; an `error` line ends it. */
async function followPull(body: AsyncIterable<Uint8Array>, onProgress: PullOptions["onProgress"]) {
  const layers = new Map<string, { current: number; total: number }>();
  const sum = (key: "current" | "total") => layers.values().reduce((all, layer) => all + layer[key], 0);
  for await (const line of readLines(body)) {
    const { status = "", id, progressDetail, error } = JSON.parse(line) as PullLine;
    if (error !== undefined) throw engineError(error);
    const { current, total } = progressDetail ?? {};
    if (id && status === "Downloading" && total) layers.set(id, { current: current ?? 0, total });
    const known = id ? layers.get(id) : undefined;
    if (known && /^(Download complete|Pull complete)$/.test(status)) known.current = known.total;
    onProgress({ status, receivedBytes: sum("current"), totalBytes: sum("total") });
  }
}

type PullLine = {
  status?: string;
  id?: string;
  progressDetail?: { current?: number; total?: number };
  error?: string;
};

/** The lines of a body that is JSON by lines. */
async function* readLines(body: AsyncIterable<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let unfinished = "";
  for await (const bytes of body) {
    const lines = (unfinished + decoder.decode(bytes, { stream: true })).split("\n");
    unfinished = lines.pop() ?? "";
    yield* lines.filter((line) => line.trim() !== "");
  }
  if (unfinished.trim() !== "") yield unfinished;
}

/** A log of a container without a terminal: frames of 8 bytes (stream, 0, 0, 0, length) and text. */
function readFrames(log: Buffer): string[] {
  let text = "";
  for (let at = 0; at + 8 <= log.length; ) {
    const end = at + 8 + log.readUInt32BE(at + 4);
    text += log.toString("utf8", at + 8, end);
    at = end;
  }
  return text.split("\n").filter((line) => line.trim() !== "");
}

/** A reference as the engine wants it: without tag or digest it means the tag `latest`, not all tags. */
function imageQuery(image: string): Record<string, string> {
  if (image.includes("@")) return { fromImage: image };
  const [, name, tag] = /^(.*?)(?::([^:/]+))?$/.exec(image)!;
  return { fromImage: name!, tag: tag ?? "latest" };
}

function readMessage(text: string): string {
  try {
    const { message } = JSON.parse(text) as { message?: unknown };
    return typeof message === "string" ? message.trim() : "";
  } catch {
    return text.trim().slice(0, 200);
  }
}

function engineError(message: string, cause?: unknown): InfernetError {
  return new InfernetError("docker-failed", message, { cause });
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function explainAbsence(hosts: readonly DockerHost[], refused: unknown): InfernetError {
  if (refused instanceof InfernetError) return refused;
  const [first] = hosts;
  const code = (refused as { code?: string } | undefined)?.code;
  if (code === "EACCES" && first) {
    return new InfernetError("docker-unavailable", `this user may not use Docker at ${first.name}`, {
      hint: "Join its group, then log in again: sudo usermod -aG docker $USER.",
      cause: refused,
    });
  }
  if (first) {
    const message = `no Docker engine answers at ${hosts.map(({ name }) => name).join(", ")}`;
    return new InfernetError("docker-unavailable", message, { hint: START_HINT, cause: refused });
  }
  return new InfernetError("docker-unavailable", "no Docker engine is found on this machine", {
    hint: `${INSTALL_HINT} If it is somewhere else, name it in DOCKER_HOST.`,
  });
}

const START_HINT =
  process.platform === "linux"
    ? "Start it (sudo systemctl start docker), or name another in DOCKER_HOST."
    : "Start Docker Desktop, or name another engine in DOCKER_HOST.";
const INSTALL_HINT =
  process.platform === "linux"
    ? "Install one: https://docs.docker.com/engine/install (on Debian and Ubuntu: sudo apt-get install docker.io)."
    : "Install Docker Desktop: https://docs.docker.com/get-started/get-docker.";
