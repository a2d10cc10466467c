import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { openChain } from "../../chain/chain.ts";
import { findDeployment } from "../../chain/deployments.ts";
import { openRpc, type Rpc } from "../../chain/rpc.ts";
import { errorOf } from "../support/errors.ts";
import { type LocalChain, startLocalChain } from "../support/local-chain.ts";

const NOBODY = `0x${"77".repeat(20)}` as const;

describe("deployments", () => {
  let local: LocalChain;
  let rpc: Rpc;
  let folder: string;

  before(async () => {
    local = await startLocalChain();
    rpc = openRpc(local.rpcUrl, 5_000);
  });
  after(async () => {
    rpc.close();
    await local.stop();
  });
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), "infernet-deployment-"));
  });
  afterEach(() => rm(folder, { recursive: true }));

  async function writeDeployment(into: string, chainId = 31337): Promise<void> {
    const { registry, escrow, usdc } = local.deployment;
    const addresses = { "Infernet#TestUSDC": usdc, "Infernet#Registry": registry, "Infernet#Escrow": escrow };
    const journal = [
      { chainId, type: "DEPLOYMENT_INITIALIZE" },
      { futureId: "Infernet#Registry", receipt: { blockNumber: 2 }, type: "TRANSACTION_CONFIRM" },
      { futureId: "Infernet#Escrow", receipt: { blockNumber: 3 }, type: "TRANSACTION_CONFIRM" },
    ];
    await mkdir(into, { recursive: true });
    await writeFile(join(into, "deployed_addresses.json"), JSON.stringify(addresses));
    const lines = journal.map((entry) => `\n${JSON.stringify(entry)}\n`).join("");
    await writeFile(join(into, "journal.jsonl"), lines);
  }

  const find = (override = {}) => findDeployment(31337, rpc, { override, ignitionFolder: folder });

  it("are read from a deployment's own folder, with the first block", async () => {
    await writeDeployment(folder);
    expect(await find()).to.deep.equal({ ...local.deployment, fromBlock: 2 });
  });

  it("are read from the chain's folder among several", async () => {
    await writeDeployment(join(folder, "chain-31337"));
    await writeDeployment(join(folder, "chain-8453"), 8453);
    expect((await find()).escrow).to.equal(local.deployment.escrow);
  });

  it("are those that the user names, whatever the folder says", async () => {
    const { registry, escrow } = local.deployment;
    await writeDeployment(folder);
    expect(await find({ registry, escrow })).to.deep.equal({ ...local.deployment, fromBlock: 0 });
  });

  it("are not found in an empty folder, and the hint says how to deploy", async () => {
    const error = await errorOf(find());
    expect(error.code).to.equal("no-deployment");
    expect(error.hint).to.contain("ignition deploy");
  });

  it("are not taken from another chain's folder", async () => {
    await writeDeployment(folder, 8453);
    expect((await errorOf(find())).code).to.equal("no-deployment");
  });

  it("are refused when the chain has no contract there, as after a restart of a local chain", async () => {
    await writeDeployment(folder);
    const error = await errorOf(find({ registry: NOBODY }));
    expect(error.code).to.equal("no-deployment");
    expect(error.message).to.contain(NOBODY);
  });

  it("are refused when the named Escrow is another contract", async () => {
    const { registry, usdc } = local.deployment;
    const error = await errorOf(find({ registry, escrow: usdc }));
    expect(error.message).to.contain("is not an Escrow");
  });

  it("are refused when the Escrow holds another token than the named one", async () => {
    await writeDeployment(folder);
    expect((await errorOf(find({ usdc: NOBODY }))).message).to.contain(local.deployment.usdc);
  });

  it("are refused when the folder names no contracts", async () => {
    await writeFile(join(folder, "deployed_addresses.json"), "{}");
    expect((await errorOf(find())).code).to.equal("no-deployment");
  });

  it("open no chain but the one that was meant", async () => {
    const sources = { override: local.deployment };
    const error = await errorOf(openChain({ rpcUrl: local.rpcUrl, chainId: 8453, sources }));
    expect(error.code).to.equal("wrong-chain");
  });

  it("need an RPC that answers", async () => {
    const error = await errorOf(openChain({ rpcUrl: "http://127.0.0.1:9/secret-key" }));
    expect(error.code).to.equal("chain-unreachable");
    expect(error.message).not.to.contain("secret-key");
  });

  it("need an RPC that is a URL", async () => {
    expect((await errorOf(openChain({ rpcUrl: "localhost" }))).code).to.equal("bad-config");
  });
});
