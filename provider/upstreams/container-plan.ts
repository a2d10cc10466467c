// Owns what the container of our Ollama looks like: its image, its one loopback port, its volume, and the machine's GPUs.
import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";
import type { Container, ContainerPlan } from "../../runtime/docker.ts";

export type Gpu = "nvidia" | "amd" | "none";

/** Marks what is ours in an engine that others use, too. */
export const OWN_LABEL = "infernet.role";
export const OWN_ROLE = "ollama";
/** Also the name of the volume that keeps the models, whatever becomes of the container. */
export const CONTAINER_NAME = "infernet-ollama";
/** Where Ollama listens inside its container. */
const OLLAMA_PORT = "11434/tcp";
const SECOND_NS = 1_000_000_000;

/** Ollama's own image for these GPUs; AMD's libraries come in another one. */
export function usualImage(gpu: Gpu): string {
  return gpu === "amd" ? "ollama/ollama:rocm" : "ollama/ollama";
}

/** The GPUs of this machine that a container can be given. */
export function findGpu(env: NodeJS.ProcessEnv, exists: (path: string) => boolean = existsSync): Gpu {
  const program = process.platform === "win32" ? "nvidia-smi.exe" : "nvidia-smi";
  const hasProgram = (env.PATH ?? "").split(delimiter).some((folder) => exists(join(folder, program)));
  if (exists("/proc/driver/nvidia/version") || (process.platform === "win32" && hasProgram)) return "nvidia";
  return exists("/dev/kfd") && exists("/dev/dri") ? "amd" : "none";
}

/**
 * A container that only this machine can reach, at `port` of its loopback interface, and that comes back after a crash
 * or a reboot, but not after it was stopped.
 */
export function planContainer(plan: {
  image: string;
  gpu: Gpu;
  port: number;
  volume: string;
}): ContainerPlan {
  const { image, gpu, port, volume } = plan;
  return {
    Image: image,
    Labels: { [OWN_LABEL]: OWN_ROLE },
    Env: ["OLLAMA_HOST=0.0.0.0:11434"],
    ExposedPorts: { [OLLAMA_PORT]: {} },
    Healthcheck: {
      Test: ["CMD", "ollama", "list"],
      Interval: 10 * SECOND_NS,
      Timeout: 5 * SECOND_NS,
      StartPeriod: 10 * SECOND_NS,
      Retries: 3,
    },
    HostConfig: {
      Mounts: [{ Type: "volume", Source: volume, Target: "/root/.ollama" }],
      PortBindings: { [OLLAMA_PORT]: [{ HostIp: "127.0.0.1", HostPort: String(port) }] },
      RestartPolicy: { Name: "unless-stopped" },
      CapDrop: ["ALL"],
      SecurityOpt: ["no-new-privileges:true"],
      ...gpuMembers(gpu),
    },
  };
}

function gpuMembers(gpu: Gpu): Record<string, unknown> {
  if (gpu === "nvidia") return { DeviceRequests: [{ Driver: "", Count: -1, Capabilities: [["gpu"]] }] };
  if (gpu === "none") return {};
  const devices = ["/dev/kfd", "/dev/dri"].map((path) => ({
    PathOnHost: path,
    PathInContainer: path,
    CgroupPermissions: "rwm",
  }));
  return { Devices: devices };
}

/** Whether the label says that it was made here. */
export function isOurs({ Config }: Container): boolean {
  return Config.Labels?.[OWN_LABEL] === OWN_ROLE;
}

/** Where a running container's Ollama is reached, and whether from this machine alone; undefined if nowhere. */
export function publishedAt(container: Container): { url: string; isPrivate: boolean } | undefined {
  const [binding] = container.NetworkSettings.Ports[OLLAMA_PORT] ?? [];
  if (!binding) return undefined;
  const bindings = container.NetworkSettings.Ports[OLLAMA_PORT] ?? [];
  const isPrivate = bindings.every(({ HostIp }) => HostIp === "127.0.0.1" || HostIp === "::1");
  const host = binding.HostIp === "::1" ? "[::1]" : "127.0.0.1";
  return { url: `http://${host}:${binding.HostPort}`, isPrivate };
}
