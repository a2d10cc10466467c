import { expect } from "chai";
import { fetchUnpinned } from "../../runtime/http-client.ts";
import { isPublicAddress } from "../../runtime/reach.ts";
import { startLoopbackServer } from "../support/loopback-server.ts";
import { failureOf } from "../support/machine.ts";

describe("the reach of connections", () => {
  it("knows public addresses from those of machines, networks, tunnels and none at all", () => {
    for (const address of ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8"])
      expect(isPublicAddress(address), address).to.equal(true);
    const others = [
      ...["127.0.0.1", "127.9.9.9", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254"],
      ...["100.64.0.1", "192.0.2.1", "198.18.0.1", "224.0.0.1", "255.255.255.255"],
      ...["::", "::1", "fe80::1", "fc00::1", "fd12::1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:a00:1::1"],
      ...["", "node.example", "1.2.3.4.5"],
    ];
    for (const address of others) expect(isPublicAddress(address), address).to.equal(false);
  });

  it("lets a stranger's endpoint lead neither to this machine's addresses nor to names of them", async () => {
    const seen: string[] = [];
    const server = await startLoopbackServer(({ path }, response) => {
      seen.push(path);
      response.end("mine");
    });
    try {
      const { port } = new URL(server.url);
      for (const host of ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "2130706433"]) {
        for (const protocol of ["http", "https"]) {
          const endpoint = `${protocol}://${host}:${port}`;
          const error = await failureOf(() => fetchUnpinned(endpoint, "/secret", { reach: "public" }));
          expect(error.code, endpoint).to.equal("node-unreachable");
          expect(error.message, endpoint).to.contain("private network");
          expect(error.hint).to.contain("--allow-private");
        }
      }
      expect(seen).to.deep.equal([]);
      expect((await fetchUnpinned(`http://localhost:${port}`, "/", { reach: "any" })).text).to.equal("mine");
    } finally {
      await server.close();
    }
  });
});
