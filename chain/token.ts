// Owns USDC's side of an authorisation: the token's own EIP-712 domain and the digest that moves money by EIP-3009.
import { type TypedDataDomain, TypedDataEncoder } from "ethers";
import type { Address, Hex } from "../protocol/bytes.ts";
import { InfernetError } from "../protocol/errors.ts";
import { readView, USDC } from "./contracts.ts";
import type { Deployment } from "./deployments.ts";
import type { Rpc } from "./rpc.ts";

/**
 * The words of an authorisation that the Escrow receives `amount` base units from `from`. `nonce` is the digest of the
 * money's purpose: a job's id, or the digest of a deposit. Valid while validAfter < block time < validBefore.
 */
export type AuthorizationTerms = {
  from: Address;
  amount: bigint;
  nonce: Hex;
  validAfter: number;
  validBefore: number;
};

const AUTHORIZATION_TYPES = {
  ReceiveWithAuthorization: [
    { name: "from", type: "address" },
    { name: "to", type: "address" },
    { name: "value", type: "uint256" },
    { name: "validAfter", type: "uint256" },
    { name: "validBefore", type: "uint256" },
    { name: "nonce", type: "bytes32" },
  ],
};

/**
 * The token's domain, checked against its DOMAIN_SEPARATOR because the name differs per chain ("USDC", "USD Coin").
 * Throws `no-deployment` when they disagree: what would be signed then is not what the token checks.
 */
export async function readTokenDomain(rpc: Rpc, deployment: Deployment): Promise<TypedDataDomain> {
  const read = (method: string) => readView<string>(rpc, { abi: USDC, to: deployment.usdc, method });
  const [name, version, separator] = await Promise.all(["name", "version", "DOMAIN_SEPARATOR"].map(read));
  const domain = {
    name: name!,
    version: version!,
    chainId: deployment.chainId,
    verifyingContract: deployment.usdc,
  };
  if (TypedDataEncoder.hashDomain(domain) !== separator) {
    throw new InfernetError("no-deployment", `the token at ${deployment.usdc} does not sign as USDC does`, {
      hint: "Deposit first and open jobs from the credit: that needs no authorisation.",
    });
  }
  return domain;
}

/** What the paying wallet signs. */
export function authorizationDigest(token: TypedDataDomain, escrow: Address, terms: AuthorizationTerms): Hex {
  const { from, amount, validAfter, validBefore, nonce } = terms;
  const message = { from, to: escrow, value: amount, validAfter, validBefore, nonce };
  return TypedDataEncoder.hash(token, AUTHORIZATION_TYPES, message) as Hex;
}
