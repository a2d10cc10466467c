// Proves that the TypeScript model of the Escrow and the contract answer the same calls alike: same errors, same books.
import { expect } from "chai";
import type { Interface } from "ethers";
import fc from "fast-check";
import { type Address, type Hex, toAddress } from "../../protocol/bytes.ts";
import { EscrowModel, type Fault, type ModelCapture, type ModelJob } from "../simulation/escrow-model.ts";
import { holdsAsync } from "../support/properties.ts";
import { escrowTypes } from "./typed-data.ts";
import { DAY, deployWorld, ethers, type Job, loadFixture, time } from "./world.ts";

const RUNS = Number(process.env.TEST_RUNS ?? 20);
const STATUS = ["none", "open", "closed"] as const;

const amounts = fc.bigInt(0n, 40n);
const signedAmounts = fc.bigInt(0n, 80n);
const picks = fc.nat(7);
/** Who calls: mostly the party whose act it is, else one of the four. */
const callers = fc.oneof(
  { weight: 3, arbitrary: fc.constant(undefined) },
  { weight: 1, arbitrary: fc.nat(3) },
);
const receipts = fc.record({
  job: picks,
  signedFor: fc.nat(9),
  byOther: fc.nat(9),
  amount: signedAmounts,
  above: fc.nat(9),
});
const acts = fc.oneof(
  fc.record({ act: fc.constant("deposit" as const), who: picks, amount: amounts }),
  fc.record({ act: fc.constant("withdraw" as const), who: picks, amount: amounts, lost: fc.nat(4) }),
  fc.record({ act: fc.constant("open" as const), who: callers, job: picks, amount: amounts }),
  fc.record({ act: fc.constant("capture" as const), who: callers, item: receipts, closing: fc.boolean() }),
  fc.record({
    act: fc.constant("batch" as const),
    who: callers,
    items: fc.array(receipts, { maxLength: 4 }),
    closing: fc.boolean(),
  }),
  fc.record({ act: fc.constant("refund" as const), who: callers, job: picks }),
  fc.record({ act: fc.constant("payOut" as const), who: picks }),
  fc.record({ act: fc.constant("wait" as const), seconds: fc.nat(DAY / 4) }),
);
type Act = typeof acts extends fc.Arbitrary<infer T> ? T : never;
type Item = typeof receipts extends fc.Arbitrary<infer T> ? T : never;

/** The contract and its model side by side, over eight jobs of which some can never open. */
async function deployPair() {
  const world = await deployWorld();
  const { usdc, requester, node, payee, stranger, makeJob } = world;
  const escrow = await ethers.deployContract("Escrow", [await usdc.getAddress()]);
  const escrowAddress = toAddress(await escrow.getAddress());
  const parties = [requester, node, payee, stranger];
  for (const party of parties) {
    await usdc.mint(party.address, 10_000n);
    await usdc.connect(party).approve(escrowAddress, 10_000n);
  }
  const keys = [0, 1].map((index) => new ethers.Wallet(ethers.zeroPadValue(ethers.toBeHex(81 + index), 32)));
  const now = await time.latest();
  const jobs: Job[] = [];
  for (let index = 0; index < 8; index++) {
    jobs.push(
      await makeJob({
        requester: parties[index % 4]!.address,
        signer: keys[0]!.address,
        jobHash: ethers.zeroPadValue(ethers.toBeHex(index), 32),
        deadline: now + [DAY, 2 * DAY, 29 * DAY, 40 * DAY][(index + (index >> 2)) % 4]!,
        ...(index === 6 ? { payee: requester.address } : {}),
        ...(index === 7 ? { node: ethers.ZeroAddress } : {}),
      }),
    );
  }
  const modelJobs: ModelJob[] = [];
  for (const job of jobs) {
    modelJobs.push({
      id: (await escrow.jobId(job)) as Hex,
      requester: toAddress(job.requester),
      signer: toAddress(job.signer),
      node: toAddress(job.node),
      payee: toAddress(job.payee),
      deadlineSeconds: job.deadline,
    });
  }
  const domain = { ...world.domains.escrow, verifyingContract: escrowAddress };
  return { usdc, escrow, escrowAddress, domain, parties, keys, jobs, modelJobs };
}

type Pair = Awaited<ReturnType<typeof deployPair>>;

/** The same item for the contract and for the model. */
async function makeItem({ domain, keys, jobs, modelJobs }: Pair, item: Item) {
  const key = keys[item.byOther === 0 ? 1 : 0]!;
  // Mostly for its own job, and mostly claiming what it says.
  const jobId = modelJobs[item.signedFor === 0 ? (item.job + 1) % 8 : item.job]!.id;
  const terms = { jobId, amount: item.amount, transcript: ethers.ZeroHash };
  const { r, yParityAndS: vs } = ethers.Signature.from(
    await key.signTypedData(domain, escrowTypes.Receipt, terms),
  );
  const amount = item.above === 0 ? item.amount + 1n : item.amount;
  const modelItem: ModelCapture = {
    job: modelJobs[item.job]!,
    receipt: { amount: item.amount, jobId, signedBy: toAddress(key.address) },
    amount,
  };
  const receipt = { amount: item.amount, transcript: ethers.ZeroHash, r, vs };
  return { chainItem: { job: jobs[item.job]!, receipt, amount }, modelItem };
}

/** The requester opens; the node (party 1) captures and refunds. */
function rightCaller(act: Act): number {
  return act.act === "open" ? act.job : 1;
}

/** Does `act` on both and expects the same answer. */
async function actOnBoth(pair: Pair, model: EscrowModel, act: Act, seen: Set<string>): Promise<void> {
  if (act.act === "wait") {
    await time.increase(act.seconds + 1);
    return;
  }
  const { parties, jobs, modelJobs, escrowAddress } = pair;
  const caller = parties[(act.who ?? rightCaller(act)) % 4]!;
  const by = toAddress(caller.address);
  const escrow = pair.escrow.connect(caller);
  const now = (await time.latest()) + 1;
  await time.setNextBlockTimestamp(now);
  const expectSame = async (fault: Fault, send: () => Promise<unknown>) => {
    expect(await faultOf(pair.escrow.interface, send), act.act).to.equal(fault);
    seen.add(`${act.act}: ${fault ?? "done"}`);
  };

  if (act.act === "deposit") {
    await expectSame(model.deposit(by, act.amount), () => escrow.deposit(act.amount));
  } else if (act.act === "withdraw") {
    const to = act.lost === 0 ? escrowAddress : by;
    await expectSame(model.withdraw(by, to, act.amount), () => escrow.withdraw(to, act.amount));
  } else if (act.act === "open") {
    const fault = model.open(by, modelJobs[act.job]!, act.amount, now);
    await expectSame(fault, () => escrow.open(jobs[act.job]!, act.amount));
  } else if (act.act === "refund") {
    await expectSame(model.refund(by, modelJobs[act.job]!, now), () => escrow.refund(jobs[act.job]!));
  } else if (act.act === "payOut") {
    await expectSame(model.payOut(by), () => escrow.payOut(by));
  } else if (act.act === "capture") {
    const { chainItem, modelItem } = await makeItem(pair, act.item);
    const { job, receipt, amount } = chainItem;
    const method = act.closing ? escrow.settle : escrow.claim;
    await expectSame(model.capture(by, modelItem, act.closing), () => method(job, receipt, amount));
  } else {
    await batchOnBoth(pair, model, act);
  }
}

async function batchOnBoth(pair: Pair, model: EscrowModel, act: Act & { act: "batch" }): Promise<void> {
  const caller = pair.parties[act.who ?? rightCaller(act)]!;
  const items = [];
  for (const item of act.items) items.push(await makeItem(pair, item));
  const faults = model.captureBatch(
    toAddress(caller.address),
    items.map(({ modelItem }) => modelItem),
    act.closing,
  );
  const escrow = pair.escrow.connect(caller);
  const method = act.closing ? escrow.settleBatch : escrow.claimBatch;
  const answer = await (await method(items.map(({ chainItem }) => chainItem))).wait();
  const skipped = answer!.logs
    .map((log) => pair.escrow.interface.parseLog(log))
    .filter((event) => event?.name === "ItemSkipped")
    .map((event) => [Number(event!.args.index), pair.escrow.interface.parseError(event!.args.reason)!.name]);
  expect(skipped).to.deep.equal([...faults]);
}

/** The name of the error that a call reverts with; undefined if it does not. */
async function faultOf(errors: Interface, send: () => Promise<unknown>): Promise<Fault> {
  try {
    await send();
    return undefined;
  } catch (error) {
    const data = (error as { data?: string }).data;
    const parsed = data === undefined ? null : errors.parseError(data);
    if (!parsed) throw error;
    return parsed.name;
  }
}

async function expectSameBooks(
  { escrow, escrowAddress, usdc, parties, modelJobs }: Pair,
  model: EscrowModel,
) {
  for (const { id } of modelJobs) {
    const { deposit, claimed, status } = await escrow.stateOf(id);
    expect({ deposit, claimed, status: STATUS[Number(status)] }).to.deep.equal(model.stateOf(id));
  }
  for (const { address } of parties) {
    const account: Address = toAddress(address);
    expect(await escrow.credit(address)).to.equal(model.credit.get(account) ?? 0n);
    expect(await escrow.earned(address)).to.equal(model.earned.get(account) ?? 0n);
  }
  expect(await usdc.balanceOf(escrowAddress)).to.equal(model.balance);
}

/** What the traces must have reached: a trace of refusals alone would compare nothing. */
const OUTCOMES = [
  ...["done", "EscrowZeroAmount"].map((outcome) => `deposit: ${outcome}`),
  ...["done", "EscrowZeroAmount", "EscrowBadRecipient", "EscrowCreditTooLow"].map(
    (end) => `withdraw: ${end}`,
  ),
  ...["done", "EscrowNotRequester", "EscrowJobExists", "EscrowBadParties", "EscrowBadDeadline"].map(
    (outcome) => `open: ${outcome}`,
  ),
  ...["done", "EscrowStranger", "EscrowJobNotOpen", "EscrowAboveReceipt", "EscrowBadReceipt"].map(
    (outcome) => `capture: ${outcome}`,
  ),
  ...["done", "EscrowJobNotOpen", "EscrowTooEarly"].map((outcome) => `refund: ${outcome}`),
  ...["done", "EscrowNothingEarned"].map((outcome) => `payOut: ${outcome}`),
];

describe("Escrow: the TypeScript model", () => {
  it("answers random traces as the contract does", async () => {
    const seen = new Set<string>();
    await holdsAsync(
      fc.asyncProperty(fc.array(acts, { minLength: 40, maxLength: 60 }), async (trace) => {
        const pair = await loadFixture(deployPair);
        const model = new EscrowModel(pair.escrowAddress);
        for (const who of [0, 1, 2, 3])
          await actOnBoth(pair, model, { act: "deposit", who, amount: 100n }, seen);
        for (const act of trace) await actOnBoth(pair, model, act, seen);
        await expectSameBooks(pair, model);
      }),
      RUNS,
    );
    expect(OUTCOMES.filter((outcome) => !seen.has(outcome))).to.deep.equal([]);
  });
});
