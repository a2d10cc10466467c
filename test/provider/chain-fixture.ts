// Owns a real local chain with a registered node, a funded requester and the provider's chain side, for its tests.
import { type Call, type Chain, openChain } from "../../chain/chain.ts";
import { createSender, type Sender, type TransactionOutcome } from "../../chain/sender.ts";
import type { Hex } from "../../protocol/bytes.ts";
import { type Job, type JobTerms, jobHashOf, jobIdOf } from "../../protocol/job.ts";
import type { Offer } from "../../protocol/offer.ts";
import { type Receipt, receiptDigest } from "../../protocol/receipt.ts";
import { LOCAL_CHAIN_DEFAULTS, type ProviderConfig } from "../../provider/config.ts";
import { createEventHub, type ProviderEvent } from "../../provider/events.ts";
import { type Intake, startIntake } from "../../provider/intake.ts";
import { JobLedger } from "../../provider/job-ledger.ts";
import { PROVIDER_MIGRATIONS } from "../../provider/ledger-schema.ts";
import { OpeningLedger } from "../../provider/opening-ledger.ts";
import { RelayLedger } from "../../provider/relay-ledger.ts";
import { Settlement } from "../../provider/settlement.ts";
import { SettlementLedger } from "../../provider/settlement-ledger.ts";
import { createSigner, toCompactSignature } from "../../runtime/signers/secp256k1.ts";
import { openStore } from "../../runtime/store.ts";
import { exampleOffer } from "../support/examples.ts";
import { type LocalChain, startLocalChain } from "../support/local-chain.ts";
import { newRequest, SINGLE_TERMS, word } from "./ledger-fixture.ts";

const DEPOSITED = 100_000_000n;
const MODEL = { name: "tiny", digest: word(0x55), inputPrice: 2_000_000n, outputPrice: 5_000_000n };

export async function startMarket() {
  const local = await startLocalChain();
  const chain = await openChain({ rpcUrl: local.rpcUrl, sources: { override: local.deployment } });
  const [, nodeAccount, requesterAccount, payeeAccount, strangerAccount] = local.accounts;
  const node = createSigner(nodeAccount!.privateKey);
  const requester = createSigner(requesterAccount!.privateKey);
  const payee = payeeAccount!.address;
  // New senders each time: those that saw a chain that a test took back remember its nonces.
  const asRequester = (call: Call) => createSender(chain, requester).send(call);
  const payeeSigner = createSigner(payeeAccount!.privateKey);
  const asPayee = (call: Call) => createSender(chain, payeeSigner).send(call);
  await createSender(chain, node).send(chain.calls.register(payee, "https://127.0.0.1:8443", [MODEL]));
  await local.mintUsdc(requester.address, DEPOSITED);
  await asRequester(chain.calls.approveUsdc(DEPOSITED));
  await asRequester(chain.calls.deposit(DEPOSITED));
  const { timestamp } = await chain.getBlock("latest");
  const offer: Offer = exampleOffer({
    node: node.address,
    payee,
    issuedAt: timestamp - 60,
    expires: timestamp + 30 * 24 * 3600,
  });
  return {
    local,
    chain,
    node,
    requester,
    payee,
    asRequester,
    asPayee,
    stranger: strangerAccount!.address,
    offer,
  };
}
export type Market = Awaited<ReturnType<typeof startMarket>>;

let salts = 1;

/** Opens a job from the requester's credit; each has its own salt. */
export async function openJob(
  market: Market,
  changes: Partial<Job & { amount: bigint; terms: Partial<JobTerms> }> = {},
) {
  const { chain, node, requester, payee, asRequester } = market;
  const terms: JobTerms = { ...SINGLE_TERMS, salt: word(salts++ % 256), ...changes.terms };
  const { timestamp } = await chain.getBlock("latest");
  const { amount = 100_000n, terms: _terms, ...fields } = changes;
  const job: Job = {
    requester: requester.address,
    signer: requester.address,
    node: node.address,
    payee,
    jobHash: jobHashOf(terms),
    deadline: timestamp + 7200,
    ...fields,
  };
  const call: Call = chain.calls.open(job, amount);
  const outcome: TransactionOutcome = await asRequester(call);
  return { job, jobId: jobIdOf(chain.domain, job), terms, amount, call, outcome };
}
export type OpenedJobOfTest = Awaited<ReturnType<typeof openJob>>;

export function signReceipt({ chain, requester }: Market, jobId: Hex, amount: bigint): Receipt {
  const unsigned = { jobId, amount, transcript: word(0) };
  const signature = toCompactSignature(requester.signDigest(receiptDigest(chain.domain, unsigned)));
  return { ...unsigned, signature };
}

export type ProviderChanges = Partial<Pick<ProviderConfig, "confirmations">> & {
  settle?: Partial<ProviderConfig["settle"]>;
  /** The chain as this provider sees it, and the sender that it sends by: for fault injection. */
  chain?: Chain;
  sender?: Sender;
};

/** The provider without its HTTP side, over the store in this folder. Its clock stands still until a test moves it. */
export function openChainSide(market: Market, path: string, changes: ProviderChanges = {}) {
  const chain = changes.chain ?? market.chain;
  const store = openStore(path, PROVIDER_MIGRATIONS);
  const told: ProviderEvent[] = [];
  const events = createEventHub((error) => {
    throw error;
  });
  events.subscribe((event) => told.push(event));
  const clock = { now: 1_800_000_000, nowSeconds: () => clock.now };
  const ledger = new JobLedger({ store, domain: chain.domain, signer: market.node, clock, events });
  const openings = new OpeningLedger(store);
  const settlements = new SettlementLedger(store);
  const sender = changes.sender ?? createSender(chain, market.node);
  const relays = new RelayLedger(store);
  const settlement = new Settlement({
    chain,
    sender,
    ledger,
    openings,
    settlements,
    rule: { ...LOCAL_CHAIN_DEFAULTS.settle, ...changes.settle },
    clock,
    events,
  });
  const intake: Intake = startIntake({
    chain,
    ledger,
    openings,
    node: market.node.address,
    rule: changes.confirmations ?? LOCAL_CHAIN_DEFAULTS.confirmations,
    pollMs: 60_000,
    clock,
    events,
    onHead: () => {},
  });
  return {
    ...{ chain, sender, events, relays },
    store,
    ledger,
    openings,
    settlements,
    settlement,
    intake,
    clock,
    told,
    of: <Type extends ProviderEvent["type"]>(type: Type) =>
      told.filter((event): event is Extract<ProviderEvent, { type: Type }> => event.type === type),
    async close() {
      await intake.stop();
      store.close();
    },
  };
}
export type ChainSide = ReturnType<typeof openChainSide>;

/** Funds a job in the ledger and runs one request of it: 100 prompt and `tokens` completion tokens at 2 and 5 USDC. */
export async function serveJob(
  market: Market,
  { ledger, intake }: ChainSide,
  { jobId, terms }: OpenedJobOfTest,
  { signed, tokens }: { signed: bigint; tokens: number },
): Promise<bigint> {
  await intake.ensureFunded(jobId, terms, market.offer);
  ledger.bindTerms(jobId, terms);
  await ledger.acceptReceipt(signReceipt(market, jobId, signed));
  const requestId = jobId;
  await ledger.startRequest({ ...newRequest(jobId), requestId });
  await ledger.release(requestId, ["text"], { promptTokens: 0, completionTokens: tokens });
  const counts = { promptTokens: 100, completionTokens: tokens };
  const { jobCharge } = await ledger.endRequest(requestId, { counts, estimated: false, reason: "stop" });
  return jobCharge;
}

/** The chain with blocks that become safe or final only so many blocks later, as on real ones. */
export function laggingChain(chain: Chain, lags: Partial<Record<"safe" | "finalized", number>>): Chain {
  const call: Chain["rpc"]["call"] = async (name, params) => {
    const lag = name === "eth_getBlockByNumber" ? lags[params[0] as keyof typeof lags] : undefined;
    if (lag === undefined) return chain.rpc.call(name, params);
    const { number } = await chain.getBlock("latest");
    return chain.rpc.call(name, [`0x${Math.max(0, number - lag).toString(16)}`, false]);
  };
  return { ...chain, rpc: { ...chain.rpc, call } };
}

/** A chain on which this RPC method fails for good from its `nth` call on, after passing it on if `late`. */
export function faultyChain(chain: Chain, method: string, { late = false, nth = 1 } = {}): Chain {
  let calls = 0;
  const call: Chain["rpc"]["call"] = async (name, params) => {
    if (name === method) calls += 1;
    const broken = calls >= nth;
    if (broken && (name !== method || !late)) throw new Error("the process was killed");
    const result = await chain.rpc.call<never>(name, params);
    if (broken) throw new Error("the process was killed");
    return result;
  };
  return { ...chain, rpc: { ...chain.rpc, call } };
}

/** Ends the chain that `startMarket` started. */
export async function stopMarket({ chain, local }: { chain: Chain; local: LocalChain }): Promise<void> {
  await chain.close();
  await local.stop();
}
