// Owns what a transaction may cost: its gas limit, its EIP-1559 fees, and whether the account can pay them.
import type { Address, Hex } from "../protocol/bytes.ts";
import { InfernetError } from "../protocol/errors.ts";
import type { Call } from "./calls.ts";
import { describeRevert, findRevertBytes } from "./reverts.ts";
import { type Rpc, RpcError } from "./rpc.ts";

/** Wei per gas. */
export type Fees = { maxFeePerGas: bigint; maxPriorityFeePerGas: bigint };

/** EIP-7825: no transaction may ask for more. */
const LARGEST_GAS_LIMIT = 16_777_216n;
const FALLBACK_TIP_WEI = 1_000_000_000n;

/** The gas limit of a call: twice its estimate, since the state may change before it is mined. Throws as `estimateGas`. */
export async function simulate(rpc: Rpc, from: Address, call: Call): Promise<bigint> {
  const twice = 2n * (await estimateGas(rpc, from, call));
  const most = call.gasCap ?? LARGEST_GAS_LIMIT;
  return twice > most ? most : twice;
}

/**
 * Simulates the call and gives the gas that it needs now. Throws `transaction-failed` when it would revert (`data` names
 * the contract's error and its values) or needs more than its cap.
 */
export async function estimateGas(rpc: Rpc, from: Address, call: Call): Promise<bigint> {
  const estimate = await readEstimate(rpc, from, call);
  if (call.gasCap === undefined || estimate <= call.gasCap) return estimate;
  const message = `${call.label} needs ${estimate} gas, more than the ${call.gasCap} that it may use`;
  throw new InfernetError("transaction-failed", message, { data: { error: "gasCap" } });
}

async function readEstimate(rpc: Rpc, from: Address, call: Call): Promise<bigint> {
  const transaction = { from, to: call.to, data: call.data };
  try {
    return BigInt(await rpc.call<Hex>("eth_estimateGas", [transaction]));
  } catch (error) {
    if (!(error instanceof RpcError)) throw error;
    throw (
      revertError(call.label, error, "would fail") ?? (await probe(rpc, transaction, call.label)) ?? error
    );
  }
}

/** Why a mined transaction reverted, as far as repeating the call at its block tells. */
export async function explainRevert(
  rpc: Rpc,
  from: Address,
  call: Call,
  block: number,
): Promise<InfernetError> {
  const transaction = { from, to: call.to, data: call.data };
  const at: Hex = `0x${block.toString(16)}`;
  const reason = await probe(rpc, transaction, call.label, at);
  return reason ?? new InfernetError("transaction-failed", `${call.label} was mined but reverted`);
}

/** Some RPCs tell a revert's bytes only when the call itself is made. */
async function probe(
  rpc: Rpc,
  transaction: object,
  label: string,
  at = "latest",
): Promise<InfernetError | undefined> {
  try {
    await rpc.call("eth_call", [transaction, at]);
    return undefined;
  } catch (error) {
    return error instanceof RpcError ? revertError(label, error, "fails") : undefined;
  }
}

function revertError(label: string, error: RpcError, verb: string): InfernetError | undefined {
  const bytes = findRevertBytes(error.payload);
  if (!bytes) return undefined;
  const { text, data } = describeRevert(bytes);
  return new InfernetError("transaction-failed", `${label} ${verb}: ${text}`, { data, cause: error });
}

/** Fees that stay valid while the base fee doubles. */
export async function readFees(rpc: Rpc): Promise<Fees> {
  const [block, tip] = await Promise.all([
    rpc.call<{ baseFeePerGas?: Hex }>("eth_getBlockByNumber", ["latest", false]),
    readTip(rpc),
  ]);
  return { maxFeePerGas: BigInt(block.baseFeePerGas ?? 0) * 2n + tip, maxPriorityFeePerGas: tip };
}

async function readTip(rpc: Rpc): Promise<bigint> {
  try {
    return BigInt(await rpc.call<Hex>("eth_maxPriorityFeePerGas", []));
  } catch (error) {
    if (error instanceof RpcError) return FALLBACK_TIP_WEI; // The method is optional.
    throw error;
  }
}

/** Throws `insufficient-funds` when the account cannot pay this much gas in the chain's own coin. */
export async function checkAffordable(rpc: Rpc, from: Address, chainId: number, wei: bigint): Promise<void> {
  const balance = BigInt(await rpc.call<Hex>("eth_getBalance", [from, "latest"]));
  if (balance >= wei) return;
  throw new InfernetError("insufficient-funds", `${from} cannot pay for gas on chain ${chainId}`, {
    hint: `Send at least ${wei - balance} wei of the chain's own coin to ${from} on chain ${chainId}.`,
    data: { address: from, chainId, balanceWei: String(balance), neededWei: String(wei) },
  });
}
