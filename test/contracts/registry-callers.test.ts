// Proves that the Registry goes by who calls it, never by who began the transaction.
import { expect } from "chai";
import { deployWorld, loadFixture } from "./world.ts";

const MODELS = [{ name: "a", digest: `0x${"00".repeat(32)}`, inputPrice: 1n, outputPrice: 2n }];

describe("Registry: a contract that calls", () => {
  it("registers and changes itself, whoever sends", async () => {
    const { registry, wallet, walletAddress, stranger } = await loadFixture(deployWorld);
    const encode = registry.interface.encodeFunctionData.bind(registry.interface);
    const registryAddress = await registry.getAddress();
    const actOnRegistry = (data: string) => wallet.connect(stranger).execute(registryAddress, data);
    const register = encode("register", [walletAddress, "https://n", MODELS]);
    await actOnRegistry(register);
    await actOnRegistry(encode("setEndpoint", ["https://moved"]));
    await actOnRegistry(encode("setModels", [[{ ...MODELS[0]!, name: "b" }]]));
    await actOnRegistry(encode("setActive(bool)", [false]));
    const { payee, endpoint, active } = await registry.getNode(walletAddress);
    expect({ payee, endpoint, active }).to.deep.equal({
      payee: walletAddress,
      endpoint: "https://moved",
      active: false,
    });
    expect((await registry.modelsOf(walletAddress)).map(({ name }) => name)).to.deep.equal(["b"]);
    expect((await registry.getNode(stranger.address)).registeredAt).to.equal(0n);
    await actOnRegistry(encode("setPayee", [walletAddress, stranger.address]));
    expect((await registry.getNode(walletAddress)).payee).to.equal(stranger.address);
    await expect(actOnRegistry(encode("setPayee", [walletAddress, walletAddress])))
      .to.be.revertedWithCustomError(registry, "RegistryNotPayee")
      .withArgs(walletAddress, walletAddress);
    await expect(actOnRegistry(register))
      .to.be.revertedWithCustomError(registry, "RegistryAlreadyRegistered")
      .withArgs(walletAddress);
  });
});
