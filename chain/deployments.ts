// Owns where Infernet's contracts live on a chain: what the user names, or what a deployment left in its folder.
import type { Address } from "../protocol/bytes.ts";

/** The contracts of one chain. `fromBlock` is a block before which none of them existed. */
export type Deployment = {
  chainId: number;
  registry: Address;
  escrow: Address;
  usdc: Address;
  fromBlock: number;
};
