// Owns stores, ledgers and jobs for the tests of the provider's ledger and of what is built on it.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { OpenedEvent } from "../../chain/events.ts";
import type { Address, Hex } from "../../protocol/bytes.ts";
import { type Job, type JobTerms, jobHashOf, jobIdOf, SESSION_REQUEST_HASH } from "../../protocol/job.ts";
import type { Receipt } from "../../protocol/receipt.ts";
import type { Domain } from "../../protocol/typed-data.ts";
import { createEventHub, type ProviderEvent } from "../../provider/events.ts";
import { JobLedger, type NewRequest } from "../../provider/job-ledger.ts";
import { PROVIDER_MIGRATIONS } from "../../provider/ledger-schema.ts";
import { OpeningLedger } from "../../provider/opening-ledger.ts";
import { SettlementLedger } from "../../provider/settlement-ledger.ts";
import { createSigner } from "../../runtime/signers/secp256k1.ts";
import { openStore } from "../../runtime/store.ts";

export const word = (byte: number): Hex => `0x${byte.toString(16).padStart(2, "0").repeat(32)}`;
export const account = (byte: number): Address => `0x${byte.toString(16).padStart(2, "0").repeat(20)}`;

export const NODE = createSigner(word(7));
export const DOMAIN: Domain = { chainId: 31337n, escrow: account(0x12) };
export const OPENED_AT = 1_800_000_000;
export const SINGLE_TERMS: JobTerms = { salt: word(1), offerHash: word(2), requestHash: word(3) };
export const SESSION_TERMS: JobTerms = { ...SINGLE_TERMS, requestHash: SESSION_REQUEST_HASH };

/** An empty folder that `remove` takes away. */
export function createFolder(): { path: string; remove(): void } {
  const path = mkdtempSync(join(tmpdir(), "infernet-provider-"));
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) };
}

/** All three ledgers over the store in this folder; `told` collects their events, `clock.now` is theirs to read. */
export function openLedgers(folder: string) {
  const store = openStore(join(folder, "provider.db"), PROVIDER_MIGRATIONS);
  const told: ProviderEvent[] = [];
  const events = createEventHub((error) => {
    throw error;
  });
  events.subscribe((event) => told.push(event));
  const clock = { now: OPENED_AT, nowSeconds: () => clock.now };
  const ledger = new JobLedger({ store, domain: DOMAIN, signer: NODE, clock, events });
  const openings = new OpeningLedger(store);
  return { store, ledger, openings, settlements: new SettlementLedger(store), events, told, clock };
}
export type Ledgers = ReturnType<typeof openLedgers>;

export function exampleJob(terms: JobTerms = SINGLE_TERMS): Job {
  return {
    requester: account(0x21),
    signer: account(0x22),
    node: NODE.address,
    payee: account(0x23),
    jobHash: jobHashOf(terms),
    deadline: OPENED_AT + 7200,
  };
}

/** The Opened event of a job at a block. */
export function openedEvent(job: Job, amount: bigint, block: number): OpenedEvent {
  const blockHash = word(block);
  const place = { block, blockHash, timestamp: OPENED_AT, tx: word(0xee), logIndex: 0 };
  return { kind: "opened", jobId: jobIdOf(DOMAIN, job), job, amount, ...place };
}

/** Puts a funded job into the ledger, with its terms bound, as intake and a first request would. */
export function addFundedJob({ openings, ledger }: Ledgers, terms: JobTerms, deposit: bigint): Hex {
  const event = openedEvent(exampleJob(terms), deposit, 5);
  openings.record({
    undone: null,
    openings: [{ event, registeredPayee: event.job.payee }],
    closings: [],
    cursor: { block: 5, hash: word(5) },
  });
  openings.confirm(event.jobId, 5);
  ledger.bindTerms(event.jobId, terms);
  return event.jobId;
}

export function receiptOf(jobId: Hex, amount: bigint): Receipt {
  return { jobId, amount, transcript: word(0), signature: `0x${"ab".repeat(64)}` };
}

/** A request at 2 and 5 USDC per million tokens with a prompt of 400 bytes: 100 tokens by estimate. */
export function newRequest(jobId: Hex, index = 1): NewRequest {
  return {
    requestId: word(0x40 + index),
    jobId,
    requestHash: word(3),
    model: "tiny",
    modelDigest: word(0x55),
    path: "/v1/chat/completions",
    prices: { inputPrice: 2_000_000n, outputPrice: 5_000_000n },
    promptTextBytes: 400,
    reserved: 840n,
  };
}
