// Owns what people call the chains that USDC lives on: an address alone does not say where money must be sent.

type Network = { name: string; coin: string };

const NETWORKS: Readonly<Record<number, Network>> = {
  1: { name: "Ethereum", coin: "ETH" },
  10: { name: "OP Mainnet", coin: "ETH" },
  130: { name: "Unichain", coin: "ETH" },
  137: { name: "Polygon PoS", coin: "POL" },
  8453: { name: "Base", coin: "ETH" },
  31337: { name: "a local test chain", coin: "test ETH" },
  42161: { name: "Arbitrum One", coin: "ETH" },
  43114: { name: "Avalanche C-Chain", coin: "AVAX" },
  84532: { name: "Base Sepolia, a test chain", coin: "test ETH" },
  11155111: { name: "Sepolia, a test chain", coin: "test ETH" },
};

/** A chain's name, and that of its own coin, which pays for gas. */
export function networkOf(chainId: number): Network {
  return NETWORKS[chainId] ?? { name: `chain ${chainId}`, coin: "the chain's own coin" };
}
