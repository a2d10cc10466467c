// Owns what an operator decides about a provider: where it listens, what it asks, and when it goes to the chain.
import type { Prices } from "../protocol/price.ts";
import type { QueueRule } from "./dispatch.ts";
import type { HealthTimes } from "./dispatch-health.ts";

/** Blocks that must stand on a job's opening before it is served, by the requester's unconfirmed deposits in base units. */
export type ConfirmationRule = {
  /** Up to this exposure: `blocks` blocks after the opening's. */
  latestUpTo: bigint;
  blocks: number;
  /** Up to this exposure the `safe` block; above it the `finalized` block. */
  safeUpTo: bigint;
};

export type SettlementRule = {
  /** `worth`: when it pays for its gas; `always`: at once, and jobs that cost nothing are refunded without being asked. */
  when: "worth" | "always";
  /** Settle when a job's unclaimed charge is at least this many times the transaction's fee. */
  feeMultiple: bigint;
  /** Claim of jobs that go on when what they earned since the last claim is at least this many times the fee. */
  claimFeeMultiple: bigint;
  /** Pay out when what is earned is at least this many times the transaction's fee. */
  payOutFeeMultiple: bigint;
  /** Settle and claim whatever pays its fee once the unclaimed charges of all jobs reach this, in base units. */
  exposureCap: bigint;
  /** USDC base units for one whole native token: what gas costs. */
  nativeUsdPrice: bigint;
  /** Base units of gas beyond its claim that closing a job may cost when its requester asks for the rest. */
  closeGiftUpTo: bigint;
  /** Seconds that a requester whose receipt is below the charge has to sign the rest after its job is over. */
  topUpSeconds: number;
  /** Pay out what is earned when the provider stops. */
  payOutAtStop: boolean;
};

/** What this node broadcasts for requesters that own no gas. */
export type RelayRule = {
  /** Gas of one transaction at most. */
  gasCap: bigint;
  /** Base units of gas that one transaction may cost the node beyond what it earns by it. */
  giftUpTo: bigint;
  /** The least amount of a move that earns the node nothing. */
  leastMove: bigint;
  /** Transactions in a row, and in an hour: of one requester, and of all. */
  perRequester: Rate;
  overall: Rate;
  /** Simulations, which cost the node no gas but calls of its RPC. */
  simulations: Rate;
};

/** A bucket of `burst` that fills again by `perHour`. */
export type Rate = { burst: number; perHour: number };

export type ProviderConfig = {
  listen: { host: string; port: number };
  /** Where metrics are told over plain HTTP to whoever asks, besides this machine on `listen`; null for nowhere. */
  metricsListen: { host: string; port: number } | null;
  /** The URL that the Registry lists and offers repeat. */
  endpoint: string;
  /** USDC base units per 1,000,000 tokens, by model name; `default` for models without their own. */
  prices: { default: Prices; byModel: Readonly<Record<string, Prices>> };
  chunkTokens: number;
  receiptTimeoutSeconds: number;
  maxCompletionTokens: number;
  longestRequestSeconds: number;
  minDeposit: bigint;
  /** What this node asks for opening a job by its own transaction, as part of the job's charge. */
  openingFee: bigint;
  /** The least fee of a withdrawal that this node broadcasts. */
  relayFee: bigint;
  relay: RelayRule;
  /** Requests that run at the same time over all upstreams, at most. */
  capacity: number;
  queue: QueueRule;
  health: HealthTimes;
  offerLifeSeconds: number;
  confirmations: ConfirmationRule;
  settle: SettlementRule;
  /** Milliseconds between looks at the chain. */
  pollMs: number;
  /** Seconds that running streams have to end when the provider stops. */
  stopGraceSeconds: number;
};

/** How long the last answers have to leave once every request has ended. */
export const FAREWELL_MS = 2_000;
/** How long the last transactions have to be mined; what is not yet mined is resumed at the next start. */
export const DRAIN_MS = 30_000;

/** The most seconds that an orderly stop of a provider takes. */
export function longestStopSeconds({ stopGraceSeconds }: Pick<ProviderConfig, "stopGraceSeconds">): number {
  return stopGraceSeconds + Math.ceil((2 * FAREWELL_MS + DRAIN_MS) / 1000);
}

/** Everything but the address to listen on and the endpoint: the defaults for a chain whose gas costs real money. */
export const PROVIDER_DEFAULTS: Omit<ProviderConfig, "listen" | "endpoint"> = {
  metricsListen: null,
  prices: { default: { inputPrice: 50_000n, outputPrice: 200_000n }, byModel: {} },
  chunkTokens: 64,
  receiptTimeoutSeconds: 30,
  maxCompletionTokens: 1024,
  longestRequestSeconds: 600,
  minDeposit: 1_000n,
  openingFee: 10_000n,
  relayFee: 10_000n,
  relay: {
    gasCap: 400_000n,
    giftUpTo: 10_000n,
    leastMove: 50_000n,
    perRequester: { burst: 5, perHour: 30 },
    overall: { burst: 20, perHour: 300 },
    simulations: { burst: 60, perHour: 3600 },
  },
  capacity: 10_000,
  queue: { perRequester: 32, total: 128, waitMs: 60_000 },
  health: { everyMs: 2_000, timeoutMs: 3_000, restMs: 10_000 },
  offerLifeSeconds: 3600,
  confirmations: { latestUpTo: 1_000_000n, blocks: 1, safeUpTo: 50_000_000n },
  settle: {
    when: "worth",
    feeMultiple: 20n,
    claimFeeMultiple: 100n,
    payOutFeeMultiple: 50n,
    exposureCap: 5_000_000n,
    nativeUsdPrice: 3_000_000_000n,
    closeGiftUpTo: 10_000n,
    topUpSeconds: 10,
    payOutAtStop: false,
  },
  pollMs: 2_000,
  stopGraceSeconds: 20,
};

/** What changes on a local chain, which mines at once and whose gas is free: everything goes to the chain at once. */
export const LOCAL_CHAIN_DEFAULTS: Pick<
  ProviderConfig,
  "openingFee" | "relayFee" | "relay" | "confirmations" | "settle" | "pollMs"
> = {
  openingFee: 0n,
  relayFee: 0n,
  relay: { ...PROVIDER_DEFAULTS.relay, giftUpTo: 1n << 62n, leastMove: 0n },
  confirmations: { latestUpTo: 1n << 62n, blocks: 0, safeUpTo: 1n << 62n },
  settle: { ...PROVIDER_DEFAULTS.settle, when: "always", topUpSeconds: 2, payOutAtStop: true },
  pollMs: 250,
};
