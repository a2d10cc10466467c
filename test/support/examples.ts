// Owns example values of the protocol's documents, for tests that change one field at a time.
import type { Offer } from "../../protocol/offer.ts";

const address = (byte: string) => `0x${byte.repeat(20)}` as const;

/** A valid offer of one model at 0.10 and 0.30 USDC per million tokens. */
export function exampleOffer(changes: Partial<Offer> = {}): Offer {
  return {
    protocol: "infernet/1",
    node: address("0a"),
    payee: address("03"),
    chainId: 31337,
    registry: address("11"),
    escrow: address("12"),
    usdc: address("13"),
    endpoint: "https://127.0.0.1:8443",
    tlsKeyHash: `0x${"44".repeat(32)}`,
    issuedAt: 1_800_000_000,
    expires: 1_800_003_600,
    models: [
      {
        name: "tiny",
        digest: `0x${"55".repeat(32)}`,
        inputPrice: 100_000n,
        outputPrice: 300_000n,
        contextLength: 2048,
        features: ["chat", "completions"],
      },
    ],
    chunkTokens: 64,
    receiptTimeoutSeconds: 30,
    maxCompletionTokens: 1024,
    longestRequestSeconds: 600,
    minDeposit: 1000n,
    openingFee: 0n,
    relayFee: 0n,
    capacity: 4,
    ...changes,
  };
}
