// Owns what the contracts' logs say: their decoding into events, and reading them in pages that the RPC can bear.
import type { LogDescription } from "ethers";
import { type Address, type Hex, toAddress } from "../protocol/bytes.ts";
import type { Job } from "../protocol/job.ts";
import { ESCROW, REGISTRY } from "./contracts.ts";
import type { Deployment } from "./deployments.ts";
import { type Rpc, RpcError, toQuantity } from "./rpc.ts";

/** Where and when an event happened; `timestamp` is its block's, in Unix seconds. */
export type EventPlace = { block: number; blockHash: Hex; timestamp: number; tx: Hex; logIndex: number };

export type OpenedEvent = EventPlace & { kind: "opened"; jobId: Hex; job: Job; amount: bigint };

/** What the follower reports; amounts in USDC base units. */
export type ChainEvent = OpenedEvent | (EventPlace & ContractEvent);

type ContractEvent =
  | { kind: "claimed"; jobId: Hex; payee: Address; amount: bigint; claimed: bigint }
  | { kind: "settled" | "refunded"; jobId: Hex; requester: Address; returned: bigint }
  | { kind: "paidOut"; payee: Address; amount: bigint }
  | { kind: "deposited"; owner: Address; amount: bigint }
  | { kind: "withdrawn"; owner: Address; to: Address; amount: bigint; fee: bigint }
  | { kind: "nodeChanged"; node: Address; change: NodeChange };

/** What of a node's listing changed; the listing itself is read from the Registry. */
export type NodeChange = "registered" | "payee" | "endpoint" | "models" | "active";

const NODE_CHANGES: Readonly<Record<string, NodeChange>> = {
  Registered: "registered",
  PayeeChanged: "payee",
  EndpointChanged: "endpoint",
  ModelsChanged: "models",
  ActiveChanged: "active",
};

const ESCROW_EVENTS = ["Opened", "Claimed", "Settled", "Refunded", "PaidOut", "Deposited", "Withdrawn"];
const ALL_TOPICS = [
  ...ESCROW_EVENTS.map((name) => ESCROW.getEvent(name as "Opened").topicHash),
  ...Object.keys(NODE_CHANGES).map((name) => REGISTRY.getEvent(name as "Registered").topicHash),
];

/** Which logs of the contracts: JSON-RPC's `address` and `topics`. */
export type LogFilter = { address: Address | Address[]; topics: (Hex | string[])[] };

/** Every event of both contracts. */
export function allEvents(deployment: Deployment): LogFilter {
  return { address: [deployment.escrow, deployment.registry], topics: [ALL_TOPICS] };
}

/** The opening of one job. */
export function openingOf(deployment: Deployment, jobId: Hex): LogFilter {
  return { address: deployment.escrow, topics: [[ESCROW.getEvent("Opened").topicHash], jobId] };
}

type RawLog = {
  address: string;
  topics: Hex[];
  data: Hex;
  blockNumber: Hex;
  blockHash: Hex;
  blockTimestamp?: Hex;
  transactionHash: Hex;
  logIndex: Hex;
};

const FIRST_PAGE_BLOCKS = 5_000;
const LARGEST_PAGE_BLOCKS = 50_000;
const TOO_LARGE = /range|limit|too many|too large|too big|exceed|response size|more than|up to|timed? ?out/i;

/** A reader of logs that learns how many blocks at a time this RPC bears. */
export type LogReader = {
  /** How many blocks the next page may span. */
  pageBlocks(): number;
  /**
   * The events of these blocks, both ends included; undefined when that was too much: ask again for less. With the
   * hash of `to`, a single block is asked for by it, so that a server without that block cannot answer "nothing".
   */
  readPage(filter: LogFilter, from: number, to: number, hash?: Hex): Promise<ChainEvent[] | undefined>;
};

export function createLogReader(rpc: Rpc): LogReader {
  let pageBlocks = FIRST_PAGE_BLOCKS;
  return {
    pageBlocks: () => pageBlocks,
    async readPage(filter, from, to, hash) {
      const span = to - from + 1;
      const range =
        hash && span === 1 ? { blockHash: hash } : { fromBlock: toQuantity(from), toBlock: toQuantity(to) };
      try {
        const logs = await rpc.call<RawLog[]>("eth_getLogs", [{ ...filter, ...range }]);
        if (span >= pageBlocks) pageBlocks = Math.min(LARGEST_PAGE_BLOCKS, pageBlocks * 2);
        return await decodeLogs(rpc, logs);
      } catch (error) {
        const isTooLarge = error instanceof RpcError && TOO_LARGE.test(error.reason) && span > 1;
        if (!isTooLarge) throw error;
        pageBlocks = Math.floor(span / 2);
        return undefined;
      }
    },
  };
}

/** The newest event that passes the filter, looking backwards from `to` no further than `from`. */
export async function findNewestEvent(
  rpc: Rpc,
  filter: LogFilter,
  from: number,
  to: number,
): Promise<ChainEvent | undefined> {
  const reader = createLogReader(rpc);
  for (let end = to; end >= from; ) {
    const start = Math.max(from, end - reader.pageBlocks() + 1);
    const events = await reader.readPage(filter, start, end);
    if (events?.length) return events.at(-1);
    if (events) end = start - 1;
  }
  return undefined;
}

async function decodeLogs(rpc: Rpc, logs: readonly RawLog[]): Promise<ChainEvent[]> {
  const timestamps = new Map<Hex, Promise<number>>();
  const timestampOf = (log: RawLog): Promise<number> => {
    if (log.blockTimestamp) return Promise.resolve(Number(log.blockTimestamp));
    const known = timestamps.get(log.blockHash) ?? readTimestamp(rpc, log.blockHash);
    timestamps.set(log.blockHash, known);
    return known;
  };
  return await Promise.all(
    logs.map(async (log): Promise<ChainEvent> => {
      const place: EventPlace = {
        block: Number(log.blockNumber),
        blockHash: log.blockHash,
        timestamp: await timestampOf(log),
        tx: log.transactionHash,
        logIndex: Number(log.logIndex),
      };
      return { ...decodeEvent(log), ...place };
    }),
  );
}

async function readTimestamp(rpc: Rpc, blockHash: Hex): Promise<number> {
  const block = await rpc.call<{ timestamp: Hex } | null>("eth_getBlockByHash", [blockHash, false]);
  // The block of a log that was just read is gone: a reorganisation is under way, and another try sees its end.
  if (!block) throw new RpcError("eth_getBlockByHash", `block ${blockHash} is gone`);
  return Number(block.timestamp);
}

function decodeEvent(log: RawLog): Omit<OpenedEvent, keyof EventPlace> | ContractEvent {
  const parsed = ESCROW.parseLog(log) ?? REGISTRY.parseLog(log);
  if (!parsed) throw new TypeError(`log ${log.topics[0]} is none of the contracts' events`);
  const change = NODE_CHANGES[parsed.name];
  if (change) return { kind: "nodeChanged", node: toAddress(parsed.args.node), change };
  return decodeEscrowEvent(parsed);
}

function decodeEscrowEvent({
  name,
  args,
}: LogDescription): Omit<OpenedEvent, keyof EventPlace> | ContractEvent {
  switch (name) {
    case "Opened": {
      const parties = { requester: toAddress(args.requester), node: toAddress(args.node) };
      const keys = { signer: toAddress(args.signer), payee: toAddress(args.payee) };
      const job = { ...parties, ...keys, jobHash: args.jobHash, deadline: Number(args.deadline) };
      return { kind: "opened", jobId: args.jobId, job, amount: args.amount };
    }
    case "Claimed": {
      const { jobId, amount, claimed } = args;
      return { kind: "claimed", jobId, payee: toAddress(args.payee), amount, claimed };
    }
    case "Settled":
    case "Refunded": {
      const kind = name === "Settled" ? "settled" : "refunded";
      return { kind, jobId: args.jobId, requester: toAddress(args.requester), returned: args.returned };
    }
    case "PaidOut":
      return { kind: "paidOut", payee: toAddress(args.payee), amount: args.amount };
    case "Deposited":
      return { kind: "deposited", owner: toAddress(args.owner), amount: args.amount };
    case "Withdrawn": {
      const { amount, fee } = args;
      return { kind: "withdrawn", owner: toAddress(args.owner), to: toAddress(args.to), amount, fee };
    }
    default:
      throw new TypeError(`${name} is not followed`);
  }
}
