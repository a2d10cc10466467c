// Owns `npm run gas`: what each act on the Escrow costs on a token like USDC behind its proxy, against our targets.
import { type Call, createCalls } from "../chain/calls.ts";
import { type Address, type Hex, toAddress } from "../protocol/bytes.ts";
import { type Job, jobIdOf } from "../protocol/job.ts";
import { type Receipt, receiptDigest } from "../protocol/receipt.ts";
import { createSigner, toCompactSignature } from "../runtime/signers/secp256k1.ts";
import { startLocalChain } from "../test/support/local-chain.ts";
import { Escrow__factory } from "../typechain-types/factories/Escrow__factory.ts";
import { TestProxy__factory } from "../typechain-types/factories/mocks/TestProxy__factory.ts";
import { TestUSDC__factory } from "../typechain-types/factories/mocks/TestUSDC__factory.ts";

const DEPOSIT = 1_000_000n;
const CHARGE = 123_456n;

/** Peers' gas for opening and closing one job, measured on a mock token. */
const PEERS = "x402 batch deposit + claim + settle 292,000, T4T 385,000, AntSeed 429,000, Morpheus 936,000";
const BATCHES = [1, 10, 50, 200];

// What no contract of this kind goes below: the protocol's own prices (EIP-2028, EIP-2929).
const WRITE_NEW_SLOT = 22_100;
const WRITE_OLD_SLOT = 5_000;
const ECRECOVER = 3_000;

type Row = { act: string; gas: number; target?: number; floor?: number };

const chain = await startLocalChain();
try {
  const rows = await measure();
  print(rows);
  process.exitCode = rows.some(({ gas, target }) => target !== undefined && gas > target) ? 1 : 0;
} finally {
  await chain.stop();
}

async function measure(): Promise<Row[]> {
  const [deployer, node, payee] = chain.accounts.map(({ address }) => address) as [Address, Address, Address];
  const requesters = await impersonate(Math.max(...BATCHES));
  const requester = requesters[0]!;
  const send = (from: Address, call: Pick<Call, "to" | "data">) =>
    transact({ from, to: call.to, data: call.data });
  const create = async (data: string) => {
    const { contractAddress } = await transact({ from: deployer, data: data as Hex });
    return toAddress(contractAddress!);
  };
  const implementation = await create(TestUSDC__factory.bytecode);
  // The proxy's admin may not be anybody who uses the token.
  const proxyWords = TestProxy__factory.createInterface().encodeDeploy([
    implementation,
    `0x${"ad".repeat(20)}`,
  ]);
  const usdc = await create(TestProxy__factory.bytecode + proxyWords.slice(2));
  const escrow = await create(
    Escrow__factory.bytecode + Escrow__factory.createInterface().encodeDeploy([usdc]).slice(2),
  );
  const calls = createCalls({ ...chain.deployment, usdc, escrow });
  const domain = { chainId: BigInt(chain.chainId), escrow };
  const session = createSigner(`0x${"51".repeat(32)}`);
  let jobs = 0;

  const newJob = (from: Address): Job => ({
    requester: from,
    signer: session.address,
    node,
    payee,
    jobHash: `0x${(++jobs).toString(16).padStart(64, "0")}`,
    deadline: Math.floor(Date.now() / 1000) + 86_400,
  });
  const open = async (from: Address) => {
    const job = newJob(from);
    return { job, gas: (await send(from, calls.open(job, DEPOSIT))).gasUsed };
  };
  const sign = (job: Job): Receipt => {
    const terms = { jobId: jobIdOf(domain, job), amount: CHARGE, transcript: `0x${"77".repeat(32)}` as Hex };
    return { ...terms, signature: toCompactSignature(session.signDigest(receiptDigest(domain, terms))) };
  };
  const item = (job: Job) => ({ job, receipt: sign(job), amount: CHARGE });
  const batchOf = async (count: number, from: (index: number) => Address) => {
    const items = [];
    for (let index = 0; index < count; index++) items.push(item((await open(from(index))).job));
    const call = calls.settleBatch(items);
    const { gasUsed } = await send(node, call);
    return { gas: gasUsed / count, intrinsic: intrinsicGas(call.data) / count };
  };

  for (const account of requesters) {
    await send(deployer, calls.mintTestUsdc(account, 1_000n * DEPOSIT));
    await send(account, calls.approveUsdc(1_000n * DEPOSIT));
    await send(account, calls.deposit(400n * DEPOSIT));
  }
  const deposited = await send(requester, calls.deposit(DEPOSIT));
  const cold = await open(requester);
  const coldSettle = await send(node, calls.settle(item(cold.job)));
  const warm = await open(requester);
  const settled = await send(node, calls.settle(item(warm.job)));
  const claimed = await send(node, calls.claim(item((await open(requester)).job)));
  const refunded = await send(node, calls.refund((await open(requester)).job));
  await send(node, calls.payOut(payee));
  await send(node, calls.settle(item((await open(requester)).job)));
  const paidOut = await send(node, calls.payOut(payee));
  const withdrawn = await send(requester, calls.withdraw(requester, DEPOSIT));
  // The payout emptied the payee's slot: a batch is measured on one in use.
  await send(node, calls.settle(item((await open(requester)).job)));
  const batches: Row[] = [];
  for (const count of BATCHES) {
    const distinct = await batchOf(count, (index) => requesters[index]!);
    const same = await batchOf(count, () => requester);
    const shared = ECRECOVER + WRITE_OLD_SLOT + WRITE_OLD_SLOT / count;
    batches.push({
      act: `settleBatch of ${count}, a job, distinct requesters`,
      gas: distinct.gas,
      floor: distinct.intrinsic + shared + WRITE_OLD_SLOT,
      ...(count === 50 ? { target: 26_000 } : {}),
    });
    batches.push({
      act: `settleBatch of ${count}, a job, one requester`,
      gas: same.gas,
      floor: same.intrinsic + shared + WRITE_OLD_SLOT / count,
      ...(count === 50 ? { target: 21_000 } : {}),
    });
  }
  const openFloor = intrinsicGas(calls.open(warm.job, DEPOSIT).data) + WRITE_NEW_SLOT + WRITE_OLD_SLOT;
  const settleFloor = intrinsicGas(calls.settle(item(warm.job)).data) + 3 * WRITE_OLD_SLOT + ECRECOVER;

  return [
    { act: "deposit", gas: deposited.gasUsed },
    { act: "open from credit, the first", gas: cold.gas },
    { act: "open from credit", gas: warm.gas, target: 59_000, floor: openFloor },
    { act: "settle, payee's first", gas: coldSettle.gasUsed },
    { act: "settle", gas: settled.gasUsed, target: 51_000, floor: settleFloor },
    {
      act: "open from credit + settle",
      gas: warm.gas + settled.gasUsed,
      target: 110_000,
      floor: openFloor + settleFloor,
    },
    { act: "claim", gas: claimed.gasUsed },
    { act: "refund", gas: refunded.gasUsed },
    ...batches,
    { act: "payOut", gas: paidOut.gasUsed },
    { act: "withdraw", gas: withdrawn.gasUsed },
  ];
}

/** What a transaction with this calldata costs before anything runs. */
function intrinsicGas(data: Hex): number {
  const bytes = Buffer.from(data.slice(2), "hex");
  return bytes.reduce((gas, byte) => gas + (byte === 0 ? 4 : 16), 21_000);
}

/** Accounts that the chain signs for, with ether to pay gas. */
async function impersonate(count: number): Promise<Address[]> {
  const accounts = Array.from({ length: count }, (_, index) =>
    toAddress(`0x${(0xacc0000 + index).toString(16).padStart(40, "0")}`),
  );
  for (const account of accounts) {
    await chain.rpc("hardhat_impersonateAccount", [account]);
    await chain.rpc("hardhat_setBalance", [account, "0xde0b6b3a7640000"]);
  }
  return accounts;
}

async function transact(transaction: object): Promise<{ gasUsed: number; contractAddress: string | null }> {
  const hash = await chain.rpc<Hex>("eth_sendTransaction", [transaction]);
  const receipt = await chain.rpc<{ gasUsed: Hex; status: Hex; contractAddress: string | null }>(
    "eth_getTransactionReceipt",
    [hash],
  );
  if (receipt.status !== "0x1") throw new Error(`transaction ${hash} reverted`);
  return { gasUsed: Number(receipt.gasUsed), contractAddress: receipt.contractAddress };
}

function print(rows: readonly Row[]): void {
  const width = Math.max(...rows.map(({ act }) => act.length));
  for (const { act, gas, target, floor } of rows) {
    const above = floor === undefined ? "" : `  floor ${Math.round(floor)}  +${Math.round(gas - floor)}`;
    const verdict = target === undefined ? "" : `  target ${target}  ${gas <= target ? "met" : "MISSED"}`;
    console.log(`${act.padEnd(width)}  ${Math.round(gas).toString().padStart(7)}${above}${verdict}`);
  }
  console.log(`peers, one job: ${PEERS}`);
}
