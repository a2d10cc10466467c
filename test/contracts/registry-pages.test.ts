// Proves the branches of the Registry's reads: pages that concatenate to the whole list.
import { expect } from "chai";
import { ethers, loadFixture, networkHelpers, random32 } from "./world.ts";

const model = { name: "m", digest: ethers.ZeroHash, inputPrice: 1n, outputPrice: 1n };

/** Registers `count` nodes and returns their addresses in order. */
async function registerNodes(registry: Awaited<ReturnType<typeof deployEmpty>>["registry"], count: number) {
  const nodes: string[] = [];
  for (let index = 0; index < count; index++) {
    const { address } = new ethers.Wallet(random32());
    await networkHelpers.setBalance(address, ethers.parseEther("1"));
    const node = await ethers.getImpersonatedSigner(address);
    await registry.connect(node).register(address, "https://n", [model]);
    nodes.push(address);
  }
  return nodes;
}

async function deployEmpty() {
  return { registry: await ethers.deployContract("Registry") };
}

async function deployWithNodes() {
  const { registry } = await deployEmpty();
  return { registry, nodes: await registerNodes(registry, 7) };
}

/** A Registry with one node more than a page holds. */
async function deployWithManyNodes() {
  const { registry } = await deployEmpty();
  return { registry, nodes: await registerNodes(registry, 501) };
}

describe("Registry: nodesAt", () => {
  it("R-nodesAt-1: a limit of zero gives nothing and stays where it is", async () => {
    const { registry } = await loadFixture(deployWithNodes);
    expect(await registry.nodesAt(3, 0)).to.deep.equal([[], 3n]);
  });

  it("R-nodesAt-2: a cursor at or past the end gives nothing, and the end", async () => {
    const { registry } = await loadFixture(deployWithNodes);
    for (const cursor of [7n, 8n, ethers.MaxUint256]) {
      expect(await registry.nodesAt(cursor, 5)).to.deep.equal([[], 7n]);
    }
    expect(await (await deployEmpty()).registry.nodesAt(0, 5)).to.deep.equal([[], 0n]);
  });

  it("R-nodesAt-3: the last page ends with the list", async () => {
    const { registry, nodes } = await loadFixture(deployWithNodes);
    expect(await registry.nodesAt(5, ethers.MaxUint256)).to.deep.equal([nodes.slice(5), 7n]);
  });

  it("R-nodesAt-4: a page holds no more than MAX_PAGE nodes", async () => {
    const { registry, nodes } = await loadFixture(deployWithManyNodes);
    expect(await registry.MAX_PAGE()).to.equal(500);
    expect(await registry.nodesAt(0, 501)).to.deep.equal([nodes.slice(0, 500), 500n]);
    expect(await registry.nodesAt(500, 501)).to.deep.equal([nodes.slice(500), 501n]);
  });

  it("R-nodesAt-5: pages of any size concatenate to the whole list, in order", async () => {
    const { registry, nodes } = await loadFixture(deployWithNodes);
    for (let limit = 1; limit <= 8; limit++) {
      const all: string[] = [];
      for (let cursor = 0n; ; ) {
        const { page, next } = await registry.nodesAt(cursor, limit);
        if (page.length === 0) break;
        all.push(...page);
        cursor = next;
      }
      expect(all).to.deep.equal(nodes);
    }
  });

  it("R-nodesAt-6: the last cursor goes on with nodes that register later", async () => {
    const { registry } = await loadFixture(deployWithNodes);
    const { next } = await registry.nodesAt(0, 100);
    const later = await registerNodes(registry, 2);
    expect(await registry.nodesAt(next, 100)).to.deep.equal([later, 9n]);
  });
});

describe("Registry: getNode and modelsOf", () => {
  it("R-getNode-1: a node that never registered is all zeros", async () => {
    const { registry } = await loadFixture(deployWithNodes);
    const unknown = ethers.getAddress(ethers.hexlify(ethers.randomBytes(20)));
    expect([...(await registry.getNode(unknown))]).to.deep.equal([ethers.ZeroAddress, false, 0n, 0n, ""]);
    expect(await registry.modelsOf(unknown)).to.deep.equal([]);
  });
});
