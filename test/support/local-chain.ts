// Owns the real chain that tests run against: Hardhat's own JSON-RPC server in this process, with Infernet deployed.
import { HDNodeWallet, Interface, Mnemonic } from "ethers";
import type { Deployment } from "../../chain/deployments.ts";
import { type Address, type Hex, toAddress } from "../../protocol/bytes.ts";
import { Escrow__factory } from "../../typechain-types/factories/Escrow__factory.ts";
import { TestUSDC__factory } from "../../typechain-types/factories/mocks/TestUSDC__factory.ts";
import { TestWallet__factory } from "../../typechain-types/factories/mocks/TestWallet__factory.ts";
import { Registry__factory } from "../../typechain-types/factories/Registry__factory.ts";

const CHAIN_ID = 31337;
const ACCOUNT_COUNT = 20;
const USDC = new Interface(TestUSDC__factory.abi);

export type LocalAccount = { address: Address; privateKey: Hex };

export type LocalChain = {
  rpcUrl: string;
  chainId: number;
  deployment: Deployment;
  /** Hardhat's 20 well-known accounts with 10,000 ether each; account 0 deployed the contracts. */
  accounts: LocalAccount[];
  /** Any JSON-RPC method, `evm_*` and `hardhat_*` included. */
  rpc<Result>(method: string, params?: unknown[]): Promise<Result>;
  /** Sends a call from one of the accounts, whose keys the chain knows; gives the transaction's hash. */
  sendAs(from: Address, call: { to: Address; data: Hex }): Promise<Hex>;
  mintUsdc(to: Address, amount: bigint): Promise<void>;
  fundNative(to: Address, wei: bigint): Promise<void>;
  /** Deploys a smart wallet (ERC-1271) that one key speaks for. */
  deployWallet(owner: Address): Promise<Address>;
  mine(blocks: number): Promise<void>;
  /** Moves block time and mines one block at it. */
  increaseTime(seconds: number): Promise<void>;
  /** Mines an empty block every so often; 0 stops it. */
  setIntervalMining(ms: number): Promise<void>;
  /** Whether a transaction is mined at once. */
  setAutomine(on: boolean): Promise<void>;
  snapshot(): Promise<string>;
  /** Goes back to a snapshot, which is used up: mining on from there is a reorganisation. */
  revert(snapshot: string): Promise<void>;
  stop(): Promise<void>;
};

/**
 * Starts a chain on a free port of 127.0.0.1: 1 s for the first one of a process, 30 ms for each further one. Every
 * transaction is mined at once; `blockIntervalMs` adds an empty block every so often, which is what confirmations
 * need. Block time follows the clock. The chain lives on this process's event loop: a child process may use it, but
 * waiting for one synchronously (`spawnSync`) would deadlock.
 */
export async function startLocalChain(options: { blockIntervalMs?: number } = {}): Promise<LocalChain> {
  process.env.HARDHAT_DISABLE_TELEMETRY = "true";
  const { network } = await import("hardhat");
  const override = { allowBlocksWithSameTimestamp: true };
  const server = await network.createServer({ network: "default", override }, "127.0.0.1", 0);
  const { port } = await server.listen();
  const rpcUrl = `http://127.0.0.1:${port}`;
  const rpc = createRpc(rpcUrl);
  const accounts = localAccounts();
  const deployment = await deploy(rpc, accounts[0]!.address);
  const send = (transaction: object) =>
    rpc<void>("eth_sendTransaction", [{ from: accounts[0]!.address, ...transaction }]);
  const setIntervalMining = (ms: number) => rpc<void>("evm_setIntervalMining", [ms]);
  if (options.blockIntervalMs) await setIntervalMining(options.blockIntervalMs);

  return {
    rpcUrl,
    chainId: CHAIN_ID,
    deployment,
    accounts,
    rpc,
    setIntervalMining,
    setAutomine: (on) => rpc("evm_setAutomine", [on]),
    sendAs: (from, { to, data }) => rpc("eth_sendTransaction", [{ from, to, data }]),
    mintUsdc: (to, amount) =>
      send({ to: deployment.usdc, data: USDC.encodeFunctionData("mint", [to, amount]) }),
    fundNative: (to, wei) => send({ to, value: toQuantity(wei) }),
    deployWallet(owner) {
      const constructorArguments = TestWallet__factory.createInterface().encodeDeploy([owner]);
      return create(rpc, accounts[0]!.address, TestWallet__factory.bytecode + constructorArguments.slice(2));
    },
    mine: (blocks) => rpc("hardhat_mine", [toQuantity(blocks)]),
    async increaseTime(seconds) {
      await rpc("evm_increaseTime", [seconds]);
      await rpc("evm_mine");
    },
    snapshot: () => rpc("evm_snapshot"),
    async revert(snapshot) {
      if (!(await rpc<boolean>("evm_revert", [snapshot]))) throw new Error("no such snapshot");
    },
    async stop() {
      await setIntervalMining(0);
      await server.close();
    },
  };
}

type TestRpc = LocalChain["rpc"];

function createRpc(url: string): TestRpc {
  return async <Result>(method: string, params: unknown[] = []) => {
    const response = await fetch(url, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ jsonrpc: "2.0", id: 1, method, params }),
    });
    const { result, error } = (await response.json()) as { result: Result; error?: { message: string } };
    if (error) throw new Error(`${method}: ${error.message}`);
    return result;
  };
}

async function deploy(rpc: TestRpc, from: Address): Promise<Deployment> {
  const usdc = await create(rpc, from, TestUSDC__factory.bytecode);
  const registry = await create(rpc, from, Registry__factory.bytecode);
  const constructorArguments = Escrow__factory.createInterface().encodeDeploy([usdc]);
  const escrow = await create(rpc, from, Escrow__factory.bytecode + constructorArguments.slice(2));
  return { chainId: CHAIN_ID, registry, escrow, usdc, fromBlock: 1 };
}

async function create(rpc: TestRpc, from: Address, data: string): Promise<Address> {
  const hash = await rpc<Hex>("eth_sendTransaction", [{ from, data }]);
  const receipt = await rpc<{ contractAddress: string }>("eth_getTransactionReceipt", [hash]);
  return toAddress(receipt.contractAddress);
}

let cachedAccounts: LocalAccount[] | undefined;

function localAccounts(): LocalAccount[] {
  cachedAccounts ??= deriveAccounts();
  return cachedAccounts;
}

function deriveAccounts(): LocalAccount[] {
  const mnemonic = Mnemonic.fromPhrase("test test test test test test test test test test test junk");
  const parent = HDNodeWallet.fromMnemonic(mnemonic, "m/44'/60'/0'/0");
  return Array.from({ length: ACCOUNT_COUNT }, (_, index) => {
    const { address, privateKey } = parent.deriveChild(index);
    return { address: toAddress(address), privateKey: privateKey as Hex };
  });
}

function toQuantity(value: bigint | number): string {
  return `0x${value.toString(16)}`;
}
