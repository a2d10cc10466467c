import { createRequire } from "node:module";
import toolboxMochaEthers from "@nomicfoundation/hardhat-toolbox-mocha-ethers";
import { defineConfig } from "hardhat/config";

// The compiler is the WASM build inside the npm package `solc`: no download, and the lock file pins it.
const compiler = {
  version: "0.8.33",
  path: createRequire(import.meta.url).resolve("solc/soljson.js"),
  settings: { optimizer: { enabled: true, runs: 1_000_000 }, viaIR: true, evmVersion: "prague" },
};

export default defineConfig({
  plugins: [toolboxMochaEthers],
  solidity: { profiles: { default: { compilers: [compiler] }, production: { compilers: [compiler] } } },
  typechain: { outDir: "typechain-types" },
  networks: {
    localhost: { type: "http", url: process.env.INFERNET_RPC_URL ?? "http://127.0.0.1:8545" },
  },
  paths: { tests: { mocha: "test/contracts", solidity: "test/contracts" } },
  test: {
    mocha: { timeout: 60_000 },
    solidity: { fuzz: { runs: 256, seed: "0x1234" }, invariant: { runs: 64, depth: 50, failOnRevert: true } },
  },
});
