// Owns the purpose of a deposit by authorisation: the digest that its EIP-3009 nonce must be.
import type { Address, Hex } from "./bytes.ts";
import { type Domain, type StructType, typedDataDigest } from "./typed-data.ts";

export const DEPOSIT_TYPE: StructType = {
  name: "Deposit",
  fields: [
    ["owner", "address"],
    ["salt", "bytes32"],
  ],
};

/** The nonce of an authorisation that becomes `owner`'s credit, whoever brings it. */
export function depositNonce(domain: Domain, owner: Address, salt: Hex): Hex {
  return typedDataDigest(domain, DEPOSIT_TYPE, { owner, salt });
}
