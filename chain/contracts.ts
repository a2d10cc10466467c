// Owns the ABIs of the contracts and how their views are read.
import { Interface } from "ethers";
import type { Address, Hex } from "../protocol/bytes.ts";
import { Escrow__factory } from "../typechain-types/factories/Escrow__factory.ts";
import { Registry__factory } from "../typechain-types/factories/Registry__factory.ts";
import { type Rpc, toQuantity } from "./rpc.ts";

/** A block by height, or by how settled it is. */
export type BlockTag = "latest" | "safe" | "finalized" | number;

export const ESCROW = Escrow__factory.createInterface();
export const REGISTRY = Registry__factory.createInterface();
/** What Infernet uses of USDC (FiatToken v2.2), and the free `mint` of local chains' test token. */
export const USDC = new Interface([
  "function name() view returns (string)",
  "function version() view returns (string)",
  "function DOMAIN_SEPARATOR() view returns (bytes32)",
  "function balanceOf(address account) view returns (uint256)",
  "function authorizationState(address authorizer, bytes32 nonce) view returns (bool)",
  "function approve(address spender, uint256 value) returns (bool)",
  "function mint(address to, uint256 value)",
]);

/** A view to read: `method` with `args` of the contract at `to`. */
export type View = { abi: Interface; to: Address; method: string; args?: readonly unknown[] };

/** Calls a view and gives its only return value. Throws an RpcError, or a TypeError when the answer does not decode. */
export async function readView<Result>(rpc: Rpc, view: View, at: BlockTag = "latest"): Promise<Result> {
  const { abi, to, method, args = [] } = view;
  const data = await rpc.call<Hex>("eth_call", [
    { to, data: abi.encodeFunctionData(method, args) },
    toBlockParameter(at),
  ]);
  return abi.decodeFunctionResult(method, data)[0] as Result;
}

export function toBlockParameter(at: BlockTag): string {
  return typeof at === "number" ? toQuantity(at) : at;
}
