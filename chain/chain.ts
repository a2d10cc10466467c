// Owns the chain as the actors see it: blocks, the Registry's listings, the Escrow's figures, and what to sign.
import { type Address, type Hex, toAddress } from "../protocol/bytes.ts";
import { InfernetError } from "../protocol/errors.ts";
import type { JobState } from "../protocol/job.ts";
import type { ListedModel } from "../protocol/offer.ts";
import { type Domain, domainSeparator } from "../protocol/typed-data.ts";
import { type Call, type Calls, createCalls } from "./calls.ts";
import { type BlockTag, ESCROW, REGISTRY, readView, toBlockParameter, USDC } from "./contracts.ts";
import { type Deployment, type DeploymentSources, findDeployment } from "./deployments.ts";
import { findNewestEvent, type OpenedEvent, openingOf } from "./event-log.ts";
import { openRpc, type Rpc, RpcError } from "./rpc.ts";
import { type AuthorizationTerms, authorizationDigest, readTokenDomain } from "./token.ts";

export type { BlockTag, Call };

/** `timestamp` in Unix seconds. */
export type Block = { number: number; hash: Hex; timestamp: number };

/** What the Registry says of a node; the models' prices are ceilings. */
export type NodeListing = {
  node: Address;
  payee: Address;
  endpoint: string;
  active: boolean;
  models: ListedModel[];
};

/** Reads are at the latest block unless `at` says another. Amounts in USDC base units, native ones in wei. */
export type Chain = {
  chainId: number;
  domain: Domain;
  deployment: Deployment;
  /** For what lives beside this in chain/: the follower and the sender. */
  rpc: Rpc;
  getBlock(tag: BlockTag): Promise<Block>;
  getNode(node: Address, at?: BlockTag): Promise<NodeListing | undefined>;
  /** Every node that ever registered, in order of registration. */
  listNodes(): Promise<NodeListing[]>;
  getJobState(jobId: Hex, at?: BlockTag): Promise<JobState>;
  /** From the event log: the only place where a job's terms stand in full. */
  getOpened(jobId: Hex): Promise<OpenedEvent | undefined>;
  getCredit(owner: Address, at?: BlockTag): Promise<bigint>;
  getEarned(payee: Address, at?: BlockTag): Promise<bigint>;
  getUsdc(owner: Address, at?: BlockTag): Promise<bigint>;
  getNative(owner: Address): Promise<bigint>;
  /** Whether an EIP-3009 authorisation of this wallet was used: a job's id or a deposit's nonce. */
  isAuthorizationUsed(owner: Address, nonce: Hex): Promise<boolean>;
  /** Whether a signed withdrawal of this nonce was made. */
  isWithdrawalUsed(owner: Address, nonce: Hex): Promise<boolean>;
  /** What a unit of gas costs now, tip included. */
  getGasPrice(): Promise<bigint>;
  calls: Calls;
  /** The EIP-3009 digest by which a wallet pays into the Escrow without a transaction of its own. */
  authorizationDigest(terms: AuthorizationTerms): Promise<Hex>;
  close(): Promise<void>;
};

export type ChainOptions = {
  rpcUrl: string;
  /** Refuses any other chain; without it, whatever chain the RPC is on. */
  chainId?: number;
  sources?: DeploymentSources;
  /** Of one RPC call. */
  timeoutMs?: number;
};

const DEFAULT_TIMEOUT_MS = 15_000;
const STATUSES = ["none", "open", "closed"] as const;
/** Nodes a page, each of which then costs two calls. */
const PAGE_NODES = 100n;

/** Opens a chain. Throws `chain-unreachable`, `wrong-chain` or `no-deployment`. */
export async function openChain(options: ChainOptions): Promise<Chain> {
  const rpc = openRpc(options.rpcUrl, options.timeoutMs ?? DEFAULT_TIMEOUT_MS);
  const chainId = Number(await rpc.call<Hex>("eth_chainId", []));
  if (options.chainId !== undefined && options.chainId !== chainId) {
    throw new InfernetError("wrong-chain", `the RPC is on chain ${chainId}, not ${options.chainId}`, {
      hint: "Name the RPC of the chain that you mean, or the chain id of the RPC.",
    });
  }
  const deployment = await findDeployment(chainId, rpc, options.sources ?? {});
  const domain = { chainId: BigInt(chainId), escrow: deployment.escrow };
  await checkDomain(rpc, domain);
  return createChain(rpc, deployment, domain);
}

/** An Escrow that hashes otherwise than this version would take no signature of ours. */
async function checkDomain(rpc: Rpc, domain: Domain): Promise<void> {
  const separator = await readView<Hex>(rpc, { abi: ESCROW, to: domain.escrow, method: "domainSeparator" });
  if (separator === domainSeparator(domain)) return;
  throw new InfernetError("no-deployment", `the Escrow at ${domain.escrow} is of another version`, {
    hint: "Deploy this version's contracts, or use the version of Infernet that deployed these.",
  });
}

function createChain(rpc: Rpc, deployment: Deployment, domain: Domain): Chain {
  const { chainId, escrow, registry, usdc } = deployment;
  const readEscrow = <Result>(method: string, args: unknown[], at?: BlockTag) =>
    readView<Result>(rpc, { abi: ESCROW, to: escrow, method, args }, at);
  const readUsdc = <Result>(method: string, args: unknown[], at?: BlockTag) =>
    readView<Result>(rpc, { abi: USDC, to: usdc, method, args }, at);
  let tokenDomain: ReturnType<typeof readTokenDomain> | undefined;

  return {
    chainId,
    domain,
    deployment,
    rpc,
    getBlock: (tag) => readBlock(rpc, tag),
    getNode: (node, at) => readListing(rpc, registry, node, at),
    listNodes: () => readListings(rpc, registry),
    async getJobState(jobId, at) {
      const { deposit, claimed, status } = await readEscrow<RawState>("stateOf", [jobId], at);
      return { deposit, claimed, status: STATUSES[Number(status)]! };
    },
    async getOpened(jobId) {
      const head = await readBlock(rpc, "latest");
      const { status } = await readEscrow<RawState>("stateOf", [jobId]);
      if (Number(status) === 0) return undefined;
      const filter = openingOf(deployment, jobId);
      const event = await findNewestEvent(rpc, filter, deployment.fromBlock, head.number);
      return event?.kind === "opened" ? event : undefined;
    },
    getCredit: (owner, at) => readEscrow<bigint>("credit", [owner], at),
    getEarned: (payee, at) => readEscrow<bigint>("earned", [payee], at),
    getUsdc: (owner, at) => readUsdc("balanceOf", [owner], at),
    isAuthorizationUsed: (owner, nonce) => readUsdc("authorizationState", [owner, nonce]),
    isWithdrawalUsed: (owner, nonce) => readEscrow("usedNonces", [owner, nonce]),
    getNative: async (owner) => BigInt(await rpc.call<Hex>("eth_getBalance", [owner, "latest"])),
    getGasPrice: async () => BigInt(await rpc.call<Hex>("eth_gasPrice", [])),
    calls: createCalls(deployment),
    async authorizationDigest(terms) {
      tokenDomain ??= readTokenDomain(rpc, deployment);
      try {
        return authorizationDigest(await tokenDomain, escrow, terms);
      } catch (error) {
        tokenDomain = undefined; // An RPC that failed once may answer the next time.
        throw error;
      }
    },
    async close() {
      rpc.close();
    },
  };
}

type RawState = { deposit: bigint; claimed: bigint; status: bigint };
type RawNode = { payee: string; active: boolean; registeredAt: bigint; endpoint: string };
type RawModel = { name: string; digest: Hex; inputPrice: bigint; outputPrice: bigint };
type RawBlock = { number: Hex; hash: Hex; timestamp: Hex };

async function readBlock(rpc: Rpc, tag: BlockTag): Promise<Block> {
  const block = await findBlock(rpc, tag);
  if (!block) throw new RpcError("eth_getBlockByNumber", `there is no block ${tag}`);
  return block;
}

/** The block, or undefined when the chain has none there: it is shorter, or nothing is final yet. */
export async function findBlock(rpc: Rpc, tag: BlockTag): Promise<Block | undefined> {
  const block = await rpc.call<RawBlock | null>("eth_getBlockByNumber", [toBlockParameter(tag), false]);
  if (!block) return undefined;
  return { number: Number(block.number), hash: block.hash, timestamp: Number(block.timestamp) };
}

async function readListing(
  rpc: Rpc,
  registry: Address,
  node: Address,
  at?: BlockTag,
): Promise<NodeListing | undefined> {
  const view = { abi: REGISTRY, to: registry, args: [node] };
  const [listing, models] = await Promise.all([
    readView<RawNode>(rpc, { ...view, method: "getNode" }, at),
    readView<RawModel[]>(rpc, { ...view, method: "modelsOf" }, at),
  ]);
  if (listing.registeredAt === 0n) return undefined;
  const { payee, endpoint, active } = listing;
  return { node, payee: toAddress(payee), endpoint, active, models: models.map(toListedModel) };
}

function toListedModel({ name, digest, inputPrice, outputPrice }: RawModel): ListedModel {
  return { name, digest, inputPrice, outputPrice };
}

async function readListings(rpc: Rpc, registry: Address): Promise<NodeListing[]> {
  const listings: NodeListing[] = [];
  const view = { abi: REGISTRY, to: registry, method: "nodesAt" };
  for (;;) {
    const page = await readView<string[]>(rpc, { ...view, args: [BigInt(listings.length), PAGE_NODES] });
    if (page.length === 0) return listings;
    const found = await Promise.all(page.map((node) => readListing(rpc, registry, toAddress(node))));
    listings.push(...found.filter((listing) => listing !== undefined));
  }
}
