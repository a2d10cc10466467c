// Owns the checks of the chain and of the accounts on it: reachable, the right one, in time, and funds for gas and jobs.
import type { Chain } from "../../chain/chain.ts";
import type { Address } from "../../protocol/bytes.ts";
import { formatUsdc } from "../../protocol/price.ts";
import { type Context, LOCAL_CHAIN_ID } from "../context.ts";
import type { Role } from "../identity.ts";
import { type Finding, fail, failOf, ok, warn } from "./finding.ts";

const SLOW_MS = 2_000;
/** Beyond the first it is odd; beyond the second deadlines are misjudged, whose margin is ten minutes at least. */
const ODD_SECONDS = 120;
const WRONG_SECONDS = 600;
/** What one transaction costs at most: DESIGN bounds a settlement by less. */
const TRANSACTION_GAS = 60_000n;
const TRANSACTIONS_IN_HAND = 20n;

export type CheckedChain = { findings: Finding[]; chain: Chain | undefined };

export async function checkChain(context: Context): Promise<CheckedChain> {
  try {
    const chain = await context.chain();
    const startedAt = performance.now();
    const block = await chain.getBlock("latest");
    const latencyMs = Math.round(performance.now() - startedAt);
    const { registry, escrow } = chain.deployment;
    const message = `chain ${chain.chainId}, Registry ${registry}, Escrow ${escrow}`;
    const rpc = `the RPC answers in ${latencyMs} ms`;
    const speed =
      latencyMs > SLOW_MS
        ? warn("rpc", rpc, "Choose a nearer or less busy one with --rpc-url.")
        : ok("rpc", rpc);
    const age = Math.floor(Date.now() / 1000) - block.timestamp;
    return { findings: [ok("chain", message), speed, judgeClock(age, chain.chainId)], chain };
  } catch (error) {
    return { findings: [failOf("chain", error)], chain: undefined };
  }
}

/** Judges the newest block's age by the local clock, in seconds. A local chain mines when asked, so it may be old. */
export function judgeClock(age: number, chainId: number): Finding {
  const hint =
    "Set this machine's clock by NTP; if it is right, the RPC lags: choose another with --rpc-url.";
  const message =
    age < 0 ? `the newest block is ${-age} s ahead of the local clock` : `the newest block is ${age} s old`;
  const isUsual = age <= ODD_SECONDS || (chainId === LOCAL_CHAIN_ID && age > 0);
  if (isUsual && age >= -ODD_SECONDS) return ok("clock", message);
  if (Math.abs(age) < WRONG_SECONDS) return warn("clock", message, hint);
  return fail("clock", age > 0 ? "chain-unreachable" : "bad-config", message, hint);
}

/** What the accounts of this home have. A node that cannot pay gas cannot settle what it earned. */
export async function checkFunds(
  chain: Chain,
  addresses: Partial<Record<Role, Address>>,
): Promise<Finding[]> {
  try {
    const gasPrice = await chain.getGasPrice();
    return [
      ...(addresses.node ? [await checkNodeGas(chain, addresses.node, gasPrice)] : []),
      ...(addresses.wallet ? await checkWallet(chain, addresses.wallet, gasPrice) : []),
    ];
  } catch (error) {
    return [failOf("funds", error)];
  }
}

async function checkNodeGas(chain: Chain, node: Address, gasPrice: bigint): Promise<Finding> {
  const [native, isListed] = await Promise.all([
    chain.getNative(node),
    chain.getNode(node).then((listing) => listing !== undefined),
  ]);
  const worth = transactionsOf(native, gasPrice);
  const message = `${native} wei for gas, about ${worth} transactions`;
  const hint = `Send some of chain ${chain.chainId}'s coin to ${node}.`;
  if (worth >= TRANSACTIONS_IN_HAND) return ok("node gas", message);
  if (worth > 0n || !isListed) return warn("node gas", message, hint);
  return fail("node gas", "insufficient-funds", `${message}: it cannot settle what it earns`, hint);
}

async function checkWallet(chain: Chain, wallet: Address, gasPrice: bigint): Promise<Finding[]> {
  const [native, usdc, credit] = await Promise.all([
    chain.getNative(wallet),
    chain.getUsdc(wallet),
    chain.getCredit(wallet),
  ]);
  const worth = transactionsOf(native, gasPrice);
  const gas = `${native} wei for gas, about ${worth} transactions`;
  const money = `${formatUsdc(usdc)} USDC in the wallet, ${formatUsdc(credit)} USDC of credit`;
  const where = `to ${wallet} on chain ${chain.chainId}.`;
  return [
    worth > 0n
      ? ok("wallet gas", gas)
      : warn("wallet gas", gas, `Buy through nodes that broadcast for you, or send some coin ${where}`),
    usdc + credit > 0n ? ok("wallet usdc", money) : warn("wallet usdc", money, `To buy, send USDC ${where}`),
  ];
}

/** How many transactions a balance pays for; a chain whose gas is free counts as one wei a gas. */
function transactionsOf(native: bigint, gasPrice: bigint): bigint {
  return native / (TRANSACTION_GAS * (gasPrice > 0n ? gasPrice : 1n));
}
