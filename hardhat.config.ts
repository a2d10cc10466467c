import { createRequire } from "node:module";
import toolboxMochaEthers from "@nomicfoundation/hardhat-toolbox-mocha-ethers";
import { configVariable, defineConfig } from "hardhat/config";

// The compiler is the WASM build inside the npm package `solc`: no download, and the lock file pins it.
const compiler = {
  version: "0.8.33",
  path: createRequire(import.meta.url).resolve("solc/soljson.js"),
  settings: { optimizer: { enabled: true, runs: 1_000_000 }, viaIR: true, evmVersion: "prague" },
};

// Coverage instruments what it compiles: its output must never be taken for the contracts that are deployed.
const isCoverage = process.argv.includes("--coverage");
const output = (folder: string) => (isCoverage ? `cache/coverage/${folder}` : folder);

const remote = (urlVariable: string) => ({
  type: "http" as const,
  url: configVariable(urlVariable),
  accounts: [configVariable("INFERNET_DEPLOYER_KEY")],
});

export default defineConfig({
  plugins: [toolboxMochaEthers],
  solidity: { profiles: { default: { compilers: [compiler] }, production: { compilers: [compiler] } } },
  typechain: { outDir: output("typechain-types") },
  networks: {
    localhost: { type: "http", url: process.env.INFERNET_RPC_URL ?? "http://127.0.0.1:8545" },
    base: remote("BASE_RPC_URL"),
    baseSepolia: remote("BASE_SEPOLIA_RPC_URL"),
  },
  paths: {
    artifacts: output("artifacts"),
    cache: output("cache"),
    tests: { mocha: "test/contracts", solidity: "test/contracts" },
  },
  test: {
    mocha: { timeout: 60_000 },
    solidity: { fuzz: { runs: 256, seed: "0x1234" }, invariant: { runs: 64, depth: 50, failOnRevert: true } },
  },
});
