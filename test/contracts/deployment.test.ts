// Proves what the Ignition module deploys, and that the parameters of each chain name its USDC.
import { readFileSync } from "node:fs";
import { expect } from "chai";
import infernet from "../../ignition/modules/Infernet.ts";
import { ethers, ignition } from "./world.ts";

describe("Deployment", () => {
  it("puts a test token, the Registry and an Escrow over the token on a local chain", async () => {
    const deployed = await ignition.deploy(infernet);
    const escrow = await ethers.getContractAt("Escrow", await deployed.escrow.getAddress());
    const registry = await ethers.getContractAt("Registry", await deployed.registry.getAddress());
    const usdc = await ethers.getContractAt("TestUSDC", await escrow.usdc());
    expect(await usdc.getAddress()).to.equal(await deployed.usdc.getAddress());
    expect(await usdc.symbol()).to.equal("USDC");
    expect(await registry.nodeCount()).to.equal(0);
  });

  for (const chain of ["base", "base-sepolia"]) {
    it(`names the USDC of ${chain} with a good checksum`, () => {
      const file = new URL(`../../ignition/parameters/${chain}.json`, import.meta.url);
      const { usdc } = JSON.parse(readFileSync(file, "utf8")).Infernet;
      expect(ethers.getAddress(usdc.toLowerCase())).to.equal(usdc);
    });
  }
});
