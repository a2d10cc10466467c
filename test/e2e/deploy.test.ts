// The contracts deployed as the README says, by Hardhat Ignition to a Hardhat node, and found again by the command line.
import { spawn } from "node:child_process";
import { cp, mkdir, readFile, rm } from "node:fs/promises";
import { join, resolve } from "node:path";
import { expect } from "chai";
import { freePort } from "../../tools/demo/processes.ts";
import { type CommandLine, createCommandLine } from "../support/command-line.ts";
import { temporaryFolder } from "../support/machine.ts";
import { type WatchedProcess, watchProcess } from "../support/watched-process.ts";

const ROOT = resolve(import.meta.dirname, "../..");
const HARDHAT = join(ROOT, "node_modules/hardhat/dist/src/cli.js");

describe("a deployment by hardhat ignition", function () {
  this.timeout(120_000);
  const deploymentId = `test-${process.pid}`;
  const folder = join(ROOT, "ignition/deployments", deploymentId);
  let node: WatchedProcess;
  let user: CommandLine;
  let rpcUrl = "";
  let addresses: Record<string, string>;

  const hardhat = (...args: string[]) => {
    const env = { ...process.env, HARDHAT_DISABLE_TELEMETRY: "true", INFERNET_RPC_URL: rpcUrl };
    return watchProcess(
      spawn(process.execPath, [HARDHAT, ...args], { cwd: ROOT, env, stdio: ["ignore", "pipe", "pipe"] }),
    );
  };

  before(async () => {
    const port = await freePort();
    rpcUrl = `http://127.0.0.1:${port}`;
    user = await createCommandLine();
    node = hardhat("node", "--hostname", "127.0.0.1", "--port", String(port));
    await node.until(({ stdout }) => stdout.includes("Started HTTP"));
    const module = "ignition/modules/Infernet.ts";
    const network = ["--network", "localhost", "--build-profile", "default"];
    const deploy = hardhat("ignition", "deploy", module, ...network, "--deployment-id", deploymentId);
    const { exitCode, stdout, stderr } = await deploy.ended;
    expect(exitCode, stdout + stderr).to.equal(0);
    addresses = JSON.parse(await readFile(join(folder, "deployed_addresses.json"), "utf8"));
  });
  after(async () => {
    await node?.kill();
    await user?.remove();
    await rm(folder, { recursive: true, force: true });
  });

  const run = (args: string[], cwd?: string) =>
    user.run([...args, "--json"], { env: { INFERNET_RPC_URL: rpcUrl }, ...(cwd ? { cwd } : {}) });

  it("puts Registry, Escrow and a test USDC on the chain", () => {
    const names = Object.keys(addresses).map((name) => name.split("#")[1]);
    expect(names).to.include.members(["Registry", "Escrow", "USDC"]);
  });

  it("is found by its folder", async () => {
    const { exitCode, stdout, stderr } = await run(["nodes", "--deployment", folder]);
    expect(exitCode, stderr).to.equal(0);
    expect(JSON.parse(stdout)).to.deep.equal({ nodes: [] });
  });

  it("is found by the chain's id, where ignition puts it", async () => {
    const project = temporaryFolder();
    await mkdir(join(project, "ignition/deployments"), { recursive: true });
    await cp(folder, join(project, "ignition/deployments/chain-31337"), { recursive: true });
    const { exitCode, stdout, stderr } = await run(
      ["wallet", "balance", "--address", `0x${"11".repeat(20)}`],
      project,
    );
    expect(exitCode, stderr).to.equal(0);
    expect(JSON.parse(stdout)).to.include({
      chainId: 31_337,
      walletUsdc: "0.000000",
      creditUsdc: "0.000000",
    });
  });

  it("is missed where there is none, and refused on another chain than was asked for", async () => {
    const missed = await run(["nodes"]);
    expect(missed.exitCode).to.equal(7);
    expect(JSON.parse(missed.stderr).error.code).to.equal("no-deployment");
    const refused = await run(["nodes", "--deployment", folder, "--chain-id", "8453"]);
    expect(refused.exitCode).to.equal(7);
    expect(JSON.parse(refused.stderr).error.code).to.equal("wrong-chain");
  });
});
