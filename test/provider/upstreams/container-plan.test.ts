// What the container of Ollama is given on machines with these GPUs, and who can reach it.
import { expect } from "chai";
import {
  findGpu,
  isOurs,
  planContainer,
  publishedAt,
  usualImage,
} from "../../../provider/upstreams/container-plan.ts";
import type { Container } from "../../../runtime/docker.ts";

const PLACE = { image: "ollama/ollama", port: 11_434, volume: "models" };
const machine =
  (...paths: string[]) =>
  (path: string) =>
    paths.includes(path);

describe("the plan of Ollama's container", () => {
  it("finds the GPUs that a machine has", () => {
    expect(findGpu({}, machine())).to.equal("none");
    expect(findGpu({}, machine("/proc/driver/nvidia/version"))).to.equal("nvidia");
    expect(findGpu({}, machine("/dev/kfd", "/dev/dri"))).to.equal("amd");
    expect(findGpu({}, machine("/dev/dri"))).to.equal("none");
  });

  it("asks for all of NVIDIA's, passes AMD's devices on, and takes AMD's own image", () => {
    const nvidia = planContainer({ ...PLACE, gpu: "nvidia" }).HostConfig;
    expect(nvidia.DeviceRequests).to.deep.equal([{ Driver: "", Count: -1, Capabilities: [["gpu"]] }]);
    const { Devices } = planContainer({ ...PLACE, gpu: "amd" }).HostConfig as { Devices: object[] };
    expect(Devices).to.have.length(2);
    expect(Devices[0]).to.include({ PathOnHost: "/dev/kfd" });
    expect(usualImage("amd")).to.equal("ollama/ollama:rocm");
    expect(planContainer({ ...PLACE, gpu: "none" }).HostConfig).to.not.have.any.keys(
      "Devices",
      "DeviceRequests",
    );
  });

  it("publishes one port, on the loopback interface, whatever the GPU", () => {
    for (const gpu of ["none", "nvidia", "amd"] as const) {
      const { HostConfig } = planContainer({ ...PLACE, gpu });
      const bindings = { "11434/tcp": [{ HostIp: "127.0.0.1", HostPort: "11434" }] };
      expect(HostConfig.PortBindings).to.deep.equal(bindings);
      expect(HostConfig).to.not.have.any.keys("NetworkMode", "PublishAllPorts", "Privileged");
    }
  });

  it("tells ours from others', and what is private from what the network sees", () => {
    const container = (labels: Record<string, string> | null, HostIp: string) =>
      ({
        Config: { Image: "", Labels: labels },
        NetworkSettings: { Ports: { "11434/tcp": [{ HostIp, HostPort: "4711" }] } },
      }) as unknown as Container;
    expect(isOurs(container({ "infernet.role": "ollama" }, ""))).to.equal(true);
    expect(isOurs(container(null, ""))).to.equal(false);
    const url = "http://127.0.0.1:4711";
    expect(publishedAt(container(null, "127.0.0.1"))).to.deep.equal({ url, isPrivate: true });
    expect(publishedAt(container(null, "0.0.0.0"))).to.deep.equal({ url, isPrivate: false });
  });
});
