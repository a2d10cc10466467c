// Deploys the Registry and the Escrow; on a local chain also the test token that the Escrow then holds.
import { buildModule } from "@nomicfoundation/hardhat-ignition/modules";
import hre from "hardhat";

// Parameters have no values while a module is built, so the network decides: elsewhere `usdc` must be given.
const isLocal = [undefined, "default", "node", "localhost"].includes(hre.globalOptions.network);

export default buildModule("Infernet", (m) => {
  const usdc = isLocal
    ? m.contract("TestUSDC", [], { id: "USDC" })
    : m.contractAt("TestUSDC", m.getParameter<string>("usdc"), { id: "USDC" });
  const registry = m.contract("Registry");
  const escrow = m.contract("Escrow", [usdc]);
  return { registry, escrow, usdc };
});
