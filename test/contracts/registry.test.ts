// Proves the branches of the Registry's registration and changes.
import { expect } from "chai";
import { deployWorld, ethers, loadFixture, random32, time } from "./world.ts";

interface Model {
  name: string;
  digest: string;
  inputPrice: bigint;
  outputPrice: bigint;
}

const endpoint = "https://node.example:8443";
const MAX_PRICE = 2n ** 64n - 1n;

function makeModel(name: string, changes: Partial<Model> = {}): Model {
  return { name, digest: random32(), inputPrice: 150_000n, outputPrice: 600_000n, ...changes };
}

function makeModels(count: number): Model[] {
  return Array.from({ length: count }, (_, index) => makeModel(`model-${index}`));
}

async function deployRegistry() {
  const world = await deployWorld();
  const { registry, node } = world;
  const modelsOf = async (address: string) =>
    (await registry.modelsOf(address)).map(({ name, digest, inputPrice, outputPrice }) => ({
      name,
      digest,
      inputPrice,
      outputPrice,
    }));
  const nodeOf = async (address: string) => {
    const { payee, active, registeredAt, updatedAt, endpoint } = await registry.getNode(address);
    return { payee, active, registeredAt, updatedAt, endpoint };
  };
  return { ...world, modelsOf, nodeOf, byNode: registry.connect(node) };
}

/** A Registry in which the node is registered with two models. */
async function deployRegistered() {
  const world = await deployRegistry();
  const models = makeModels(2);
  await world.byNode.register(world.payee.address, endpoint, models);
  const before = await world.nodeOf(world.node.address);
  return { ...world, models, before, byPayee: world.registry.connect(world.payee) };
}

/** Every list of models that is out of bounds, with its error. */
const badModels = {
  none: { models: [], error: "RegistryBadModelCount", values: [0, 64] },
  tooMany: { models: makeModels(65), error: "RegistryBadModelCount", values: [65, 64] },
  emptyName: {
    models: [makeModel("a"), makeModel("")],
    error: "RegistryBadModelName",
    values: [1, 0, 128],
  },
  longName: {
    models: [makeModel("a"), makeModel("b"), makeModel("n".repeat(129))],
    error: "RegistryBadModelName",
    values: [2, 129, 128],
  },
  sameName: {
    models: [makeModel("a"), makeModel("b"), makeModel("c"), makeModel("b")],
    error: "RegistryDuplicateModel",
    values: [1, 3],
  },
};

describe("Registry: register", () => {
  it("R-register-1: a node registers once", async () => {
    const { registry, node, byNode, payee, models } = await loadFixture(deployRegistered);
    await expect(byNode.register(payee.address, endpoint, models))
      .to.be.revertedWithCustomError(registry, "RegistryAlreadyRegistered")
      .withArgs(node.address);
  });

  it("R-register-2: somebody must be paid", async () => {
    const { registry, byNode } = await loadFixture(deployRegistry);
    await expect(byNode.register(ethers.ZeroAddress, endpoint, makeModels(1))).to.be.revertedWithCustomError(
      registry,
      "RegistryZeroPayee",
    );
  });

  async function expectBadEndpoint(length: number) {
    const { registry, byNode, payee } = await loadFixture(deployRegistry);
    await expect(byNode.register(payee.address, "e".repeat(length), makeModels(1)))
      .to.be.revertedWithCustomError(registry, "RegistryBadEndpoint")
      .withArgs(length, 256);
    expect(await registry.nodeCount()).to.equal(0);
  }

  it("R-register-3: an empty endpoint is refused", () => expectBadEndpoint(0));

  it("R-register-4: an endpoint of 257 bytes is refused", () => expectBadEndpoint(257));

  async function expectBadModels({ models, error, values }: (typeof badModels)[keyof typeof badModels]) {
    const { registry, byNode, payee } = await loadFixture(deployRegistry);
    await expect(byNode.register(payee.address, endpoint, models))
      .to.be.revertedWithCustomError(registry, error)
      .withArgs(...values);
    expect(await registry.nodeCount()).to.equal(0);
  }

  it("R-register-5: a node without models is refused", () => expectBadModels(badModels.none));

  it("R-register-6: 65 models are refused", () => expectBadModels(badModels.tooMany));

  it("R-register-7: a model without a name is refused", () => expectBadModels(badModels.emptyName));

  it("R-register-8: a name of 129 bytes is refused", () => expectBadModels(badModels.longName));

  it("R-register-9: one name for two models is refused", () => expectBadModels(badModels.sameName));

  it("R-register-10: everything at its bound is registered", async () => {
    const { byNode, node, payee, modelsOf, nodeOf } = await loadFixture(deployRegistry);
    const longest = "e".repeat(256);
    const models = Array.from({ length: 64 }, (_, index) =>
      makeModel(String(index).padStart(128, "n"), { inputPrice: MAX_PRICE, outputPrice: MAX_PRICE }),
    );
    await byNode.register(payee.address, longest, models);
    expect((await nodeOf(node.address)).endpoint).to.equal(longest);
    expect(await modelsOf(node.address)).to.deep.equal(models);
  });

  it("R-register-11: a node registers as active, with an event for each part", async () => {
    const { registry, byNode, node, payee, modelsOf, nodeOf } = await loadFixture(deployRegistry);
    const models = makeModels(2);
    const now = (await time.latest()) + 60;
    await time.setNextBlockTimestamp(now);
    const registering = byNode.register(payee.address, endpoint, models);
    await expect(registering).to.emit(registry, "Registered").withArgs(node.address, 0);
    await expect(registering).to.emit(registry, "PayeeChanged").withArgs(node.address, payee.address);
    await expect(registering).to.emit(registry, "EndpointChanged").withArgs(node.address, endpoint);
    await expect(registering).to.emit(registry, "ActiveChanged").withArgs(node.address, true);
    await expect(registering)
      .to.emit(registry, "ModelsChanged")
      .withArgs(
        node.address,
        models.map(({ name, digest, inputPrice, outputPrice }) => [name, digest, inputPrice, outputPrice]),
      );
    expect(await nodeOf(node.address)).to.deep.equal({
      payee: payee.address,
      active: true,
      registeredAt: BigInt(now),
      updatedAt: BigInt(now),
      endpoint,
    });
    expect(await modelsOf(node.address)).to.deep.equal(models);
    expect(await registry.nodeCount()).to.equal(1);
  });
});

describe("Registry: changes by the node", () => {
  it("R-setEndpoint-1: who is not registered has no endpoint to change", async () => {
    const { registry, stranger } = await loadFixture(deployRegistered);
    await expect(registry.connect(stranger).setEndpoint(endpoint))
      .to.be.revertedWithCustomError(registry, "RegistryUnknownNode")
      .withArgs(stranger.address);
  });

  it("R-setEndpoint-2: an endpoint out of bounds is refused", async () => {
    const { registry, byNode } = await loadFixture(deployRegistered);
    for (const length of [0, 257]) {
      await expect(byNode.setEndpoint("e".repeat(length)))
        .to.be.revertedWithCustomError(registry, "RegistryBadEndpoint")
        .withArgs(length, 256);
    }
  });

  it("R-setEndpoint-3: the endpoint and the date change, and nothing else", async () => {
    const { registry, byNode, node, before, models, nodeOf, modelsOf } = await loadFixture(deployRegistered);
    const now = (await time.latest()) + 60;
    await time.setNextBlockTimestamp(now);
    await expect(byNode.setEndpoint("https://elsewhere.example"))
      .to.emit(registry, "EndpointChanged")
      .withArgs(node.address, "https://elsewhere.example");
    expect(await nodeOf(node.address)).to.deep.equal({
      ...before,
      updatedAt: BigInt(now),
      endpoint: "https://elsewhere.example",
    });
    expect(await modelsOf(node.address)).to.deep.equal(models);
  });

  it("R-setModels-1: who is not registered has no models to change", async () => {
    const { registry, stranger } = await loadFixture(deployRegistered);
    await expect(registry.connect(stranger).setModels(makeModels(1)))
      .to.be.revertedWithCustomError(registry, "RegistryUnknownNode")
      .withArgs(stranger.address);
  });

  it("R-setModels-2: models out of bounds are refused", async () => {
    const { registry, byNode, node, models, modelsOf } = await loadFixture(deployRegistered);
    for (const bad of Object.values(badModels)) {
      await expect(byNode.setModels(bad.models))
        .to.be.revertedWithCustomError(registry, bad.error)
        .withArgs(...bad.values);
    }
    expect(await modelsOf(node.address)).to.deep.equal(models);
  });

  async function expectModels(count: number) {
    const { registry, byNode, node, nodeOf, before, modelsOf } = await loadFixture(deployRegistered);
    const models = makeModels(count);
    await expect(byNode.setModels(models)).to.emit(registry, "ModelsChanged");
    expect(await modelsOf(node.address)).to.deep.equal(models);
    expect(Number((await nodeOf(node.address)).updatedAt)).to.be.above(Number(before.updatedAt));
  }

  it("R-setModels-3: fewer models replace all", () => expectModels(1));

  it("R-setModels-4: more models replace all", () => expectModels(5));

  it("R-setActive-1: who is not registered has nothing to switch", async () => {
    const { registry, stranger } = await loadFixture(deployRegistered);
    await expect(registry.connect(stranger)["setActive(bool)"](true))
      .to.be.revertedWithCustomError(registry, "RegistryUnknownNode")
      .withArgs(stranger.address);
  });

  it("R-setActive-2: a node that switches itself off stays listed", async () => {
    const { registry, byNode, node, nodeOf } = await loadFixture(deployRegistered);
    await expect(byNode["setActive(bool)"](false))
      .to.emit(registry, "ActiveChanged")
      .withArgs(node.address, false);
    expect((await nodeOf(node.address)).active).to.equal(false);
    expect(await registry.nodeCount()).to.equal(1);
  });

  it("R-setActive-3: a node switches itself on again", async () => {
    const { registry, byNode, node, nodeOf } = await loadFixture(deployRegistered);
    await byNode["setActive(bool)"](false);
    await expect(byNode["setActive(bool)"](true))
      .to.emit(registry, "ActiveChanged")
      .withArgs(node.address, true);
    expect((await nodeOf(node.address)).active).to.equal(true);
  });
});

describe("Registry: changes by the payee", () => {
  it("R-setActive-4: a node that never registered cannot be switched off", async () => {
    const { registry, byPayee, stranger } = await loadFixture(deployRegistered);
    await expect(byPayee["setActive(address,bool)"](stranger.address, false))
      .to.be.revertedWithCustomError(registry, "RegistryUnknownNode")
      .withArgs(stranger.address);
  });

  it("R-setActive-5: only the payee switches off by name", async () => {
    const { registry, node, stranger } = await loadFixture(deployRegistered);
    for (const caller of [node, stranger]) {
      await expect(registry.connect(caller)["setActive(address,bool)"](node.address, false))
        .to.be.revertedWithCustomError(registry, "RegistryNotPayee")
        .withArgs(node.address, caller.address);
    }
  });

  it("R-setActive-6: the payee cannot switch a node on", async () => {
    const { registry, byPayee, node } = await loadFixture(deployRegistered);
    await expect(byPayee["setActive(address,bool)"](node.address, true))
      .to.be.revertedWithCustomError(registry, "RegistryOnlyNodeActivates")
      .withArgs(node.address);
  });

  it("R-setActive-7: the payee switches its node off", async () => {
    const { registry, byPayee, node, nodeOf } = await loadFixture(deployRegistered);
    await expect(byPayee["setActive(address,bool)"](node.address, false))
      .to.emit(registry, "ActiveChanged")
      .withArgs(node.address, false);
    expect((await nodeOf(node.address)).active).to.equal(false);
  });

  it("R-setPayee-1: a node that never registered has no payee to change", async () => {
    const { registry, byPayee, payee, stranger } = await loadFixture(deployRegistered);
    await expect(byPayee.setPayee(stranger.address, payee.address))
      .to.be.revertedWithCustomError(registry, "RegistryUnknownNode")
      .withArgs(stranger.address);
  });

  it("R-setPayee-2: only the payee changes the payee", async () => {
    const { registry, node, stranger, before, nodeOf } = await loadFixture(deployRegistered);
    for (const caller of [node, stranger]) {
      await expect(registry.connect(caller).setPayee(node.address, caller.address))
        .to.be.revertedWithCustomError(registry, "RegistryNotPayee")
        .withArgs(node.address, caller.address);
    }
    expect(await nodeOf(node.address)).to.deep.equal(before);
  });

  it("R-setPayee-3: somebody must be paid", async () => {
    const { registry, byPayee, node } = await loadFixture(deployRegistered);
    await expect(byPayee.setPayee(node.address, ethers.ZeroAddress)).to.be.revertedWithCustomError(
      registry,
      "RegistryZeroPayee",
    );
  });

  it("R-setPayee-4: a new payee has the right and the old one has it no more", async () => {
    const { registry, byPayee, node, payee, stranger, nodeOf } = await loadFixture(deployRegistered);
    await expect(byPayee.setPayee(node.address, stranger.address))
      .to.emit(registry, "PayeeChanged")
      .withArgs(node.address, stranger.address);
    expect((await nodeOf(node.address)).payee).to.equal(stranger.address);
    await expect(byPayee.setPayee(node.address, payee.address))
      .to.be.revertedWithCustomError(registry, "RegistryNotPayee")
      .withArgs(node.address, payee.address);
    await registry.connect(stranger).setPayee(node.address, payee.address);
  });
});
