// Where a Docker engine is looked for, and which addresses are refused because they lead to another machine.
import { mkdirSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";
import { expect } from "chai";
import { findDocker } from "../../runtime/docker.ts";
import { listDockerHosts, readDockerHost } from "../../runtime/docker-hosts.ts";
import { failureOf, temporaryFolder } from "../support/machine.ts";

describe("the search for a Docker engine", () => {
  it("asks where DOCKER_HOST says, and nowhere else", async () => {
    const hosts = await listDockerHosts({ DOCKER_HOST: "unix:///some/where.sock" });
    expect(hosts).to.deep.equal([
      { name: "unix:///some/where.sock", socketPath: "/some/where.sock", origin: "http://docker" },
    ]);
    expect(await readDockerHost("tcp://127.0.0.1:2375", {})).to.include({ origin: "http://127.0.0.1:2375" });
  });

  it("finds the sockets of rootless Docker, Docker Desktop and Podman", async () => {
    const [home, runtime] = [temporaryFolder(), temporaryFolder()];
    const places = [
      join(runtime, "docker.sock"),
      join(home, ".docker/desktop/docker.sock"),
      join(runtime, "podman/podman.sock"),
    ];
    for (const path of places) {
      mkdirSync(join(path, ".."), { recursive: true });
      writeFileSync(path, "");
    }
    const found = (await listDockerHosts({ XDG_RUNTIME_DIR: runtime }, home)).map(({ name }) => name);
    expect(found.filter((name) => name.startsWith(home) || name.startsWith(runtime))).to.deep.equal(places);
  });

  it("refuses an engine of another machine, whose loopback port nobody here reaches", async () => {
    for (const host of ["ssh://me@server", "tcp://10.0.0.7:2376", "https://server.example", "nonsense"]) {
      const error = await failureOf(() => readDockerHost(host, {}));
      expect(error, host).to.include({ code: "bad-config" });
      expect(error.hint).to.contain("unix:///var/run/docker.sock");
    }
  });

  it("reads the client's certificates where TLS is asked for, and says which is missing", async () => {
    const folder = temporaryFolder();
    const env = { DOCKER_TLS_VERIFY: "1", DOCKER_CERT_PATH: folder };
    const error = await failureOf(() => readDockerHost("tcp://localhost:2376", env));
    expect(error.message).to.contain("ca.pem");
    for (const name of ["ca", "cert", "key"]) writeFileSync(join(folder, `${name}.pem`), name);
    const host = await readDockerHost("tcp://localhost:2376", env);
    expect(host.origin).to.equal("https://localhost:2376");
    expect(host.tls?.key.toString()).to.equal("key");
  });

  it("says that nobody answers, or that somebody else does", async () => {
    const path = join(temporaryFolder(), "no.sock");
    const nobody = await failureOf(() => findDocker({ DOCKER_HOST: `unix://${path}` }));
    expect(nobody).to.include({ code: "docker-unavailable", exitCode: 8 });
    expect(nobody.message).to.contain(path);
    const other = createServer((_request, response) => response.end("hello"));
    await new Promise<void>((resolve) => other.listen(path, resolve));
    try {
      const stranger = await failureOf(() => findDocker({ DOCKER_HOST: `unix://${path}` }));
      expect(stranger.code).to.equal("docker-unavailable");
    } finally {
      other.close();
    }
  });
});
