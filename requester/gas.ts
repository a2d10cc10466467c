// Owns who pays the gas of what a requester does: its wallet, or a node that sends the transaction for it.
import type { Chain } from "../chain/chain.ts";
import type { Address } from "../protocol/bytes.ts";

/** `own`: the wallet's own transaction. `node`: a node's. `auto`: the wallet's when it owns enough of the chain's coin. */
export type GasChoice = "auto" | "own" | "node";

/** Gas of the dearest that a requester does in one transaction, twice: the price may rise before it is mined. */
const AMPLE_GAS = 600_000n;

/** Whether this wallet is to send the transaction itself. */
export async function paysOwnGas(chain: Chain, wallet: Address, choice: GasChoice): Promise<boolean> {
  if (choice !== "auto") return choice === "own";
  const [owned, ample] = await Promise.all([chain.getNative(wallet), ampleWei(chain)]);
  return owned >= ample;
}

/** The chain's own coin, in wei, with which a wallet sends its transactions itself. */
export async function ampleWei(chain: Chain): Promise<bigint> {
  return AMPLE_GAS * (await chain.getGasPrice());
}
