// Owns example jobs of a requester's ledger, for tests that need no chain.
import type { Address, Hex } from "../../protocol/bytes.ts";
import type { Domain } from "../../protocol/typed-data.ts";
import type { PlannedJob, RequesterLedger } from "../../requester/ledger.ts";

export const word = (byte: number): Hex => `0x${byte.toString(16).padStart(2, "0").repeat(32)}`;
export const account = (byte: number): Address => `0x${byte.toString(16).padStart(2, "0").repeat(20)}`;

export const SEED = word(0x5e);
export const DOMAIN: Domain = { chainId: 31337n, escrow: account(0x12) };
export const OPENED_AT = 1_800_000_000;
export const DAY = Math.floor(OPENED_AT / 86_400);
export const TRANSACTION = { hash: word(0xaa), raw: word(0xab), nonce: 3 };

type Wish = { saltIndex?: number; deposit?: bigint; node?: Address; requestHash?: Hex };

export function plannedJob({
  saltIndex = 1,
  deposit = 10_000n,
  node = account(0x0a),
  requestHash = word(3),
}: Wish): PlannedJob {
  return {
    jobId: `0x${saltIndex.toString(16).padStart(64, "0")}`,
    job: {
      ...{ requester: account(0x21), signer: account(0x22), node, payee: account(0x23), jobHash: word(4) },
      deadline: OPENED_AT + 3600,
    },
    terms: {
      ...{ saltIndex, offerBytes: Uint8Array.of(1, 2, 3), endpoint: "https://127.0.0.1:1" },
      ...{ path: "/v1/chat/completions", model: "tiny", requestHash },
    },
    ...{ deposit, maxCharge: 1n << 50n, createdAt: OPENED_AT, worker: null },
  };
}

/** Takes a job to `open` and returns its id. */
export function openJob(ledger: RequesterLedger, wish: Wish): Hex {
  const planned = plannedJob(wish);
  ledger.planJob(planned);
  ledger.noteOpening(planned.jobId, TRANSACTION);
  ledger.noteOpened(planned.jobId, { deposit: planned.deposit, openedAt: OPENED_AT, gasUsed: 55_000n });
  return planned.jobId;
}
