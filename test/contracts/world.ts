// The chain that the contract tests share: contracts, parties with money, and the acts that most tests begin with.
import { network } from "hardhat";
import type { IEscrow } from "../../typechain-types/Escrow.ts";
// Gives deployContract the types of our contracts.
import type {} from "../../typechain-types/hardhat.d.ts";
import { escrowDomain, escrowTypes, signAuthorization, usdcDomain } from "./typed-data.ts";

export const { ethers, networkHelpers, ignition } = await network.getOrCreate();
export const { time, loadFixture } = networkHelpers;

export const DAY = 86_400;
/** One USDC in base units. */
export const USDC = 1_000_000n;
export const NONE = 0n;
export const OPEN = 1n;
export const CLOSED = 2n;

/** A job's terms with plain values. */
export type Job = { [field in keyof IEscrow.JobStruct]: field extends "deadline" ? number : string };
/** A signed receipt with plain values. */
export type Receipt = { amount: bigint; transcript: string; r: string; vs: string };
/** Anything that signs typed data: a party or a session key. */
export type Signing = Pick<Party, "signTypedData">;
type Party = Awaited<ReturnType<typeof ethers.getSigners>>[number];

/** Random 32 bytes, as hex. */
export function random32(): string {
  return ethers.hexlify(ethers.randomBytes(32));
}

/** The fixture: deploys everything, gives the requester 1,000 USDC in the wallet and 1,000 as credit. */
export async function deployWorld() {
  const usdc = await ethers.deployContract("TestUSDC");
  const registry = await ethers.deployContract("Registry");
  const escrow = await ethers.deployContract("Escrow", [await usdc.getAddress()]);
  const [deployer, requester, node, payee, stranger, relayer] = (await ethers.getSigners()) as [
    Party,
    Party,
    Party,
    Party,
    Party,
    Party,
  ];
  const parties = { deployer, requester, node, payee, stranger, relayer };
  const session = new ethers.Wallet(random32());
  const escrowAddress = await escrow.getAddress();
  const { chainId } = await ethers.provider.getNetwork();
  const domains = {
    escrow: escrowDomain(escrowAddress, chainId),
    usdc: usdcDomain(await usdc.getAddress(), chainId),
  };

  await usdc.mint(requester.address, 2_000n * USDC);
  await usdc.connect(requester).approve(escrowAddress, ethers.MaxUint256);
  await escrow.connect(requester).deposit(1_000n * USDC);

  const wallet = await ethers.deployContract("TestWallet", [requester.address]);
  const walletAddress = await wallet.getAddress();
  await usdc.mint(walletAddress, 1_000n * USDC);

  /** A fresh job of the requester's for one day; `terms` replaces some. */
  async function makeJob(terms: Partial<Job> = {}): Promise<Job> {
    return {
      requester: requester.address,
      signer: session.address,
      node: node.address,
      payee: payee.address,
      jobHash: random32(),
      deadline: (await time.latest()) + DAY,
      ...terms,
    };
  }

  /** Opens a fresh job with `amount` of the requester's credit. */
  async function openJob(amount: bigint, terms: Partial<Job> = {}) {
    const job = await makeJob(terms);
    await escrow.connect(requester).open(job, amount);
    return { job, id: await escrow.jobId(job) };
  }

  /** Signs a receipt over `amount` for the job `id` as `signer`, the session key unless told otherwise. */
  async function signReceipt(
    id: string,
    amount: bigint,
    { signer = session as Signing, transcript = random32(), domain = domains.escrow } = {},
  ): Promise<Receipt> {
    const message = { jobId: id, amount, transcript };
    const signature = ethers.Signature.from(await signer.signTypedData(domain, escrowTypes.Receipt, message));
    return { amount, transcript, r: signature.r, vs: signature.yParityAndS };
  }

  /** Signs the requester's authorisation to move `value` to the Escrow for the purpose `nonce`. */
  async function authorize(
    value: bigint,
    nonce: string,
    changes: Partial<Parameters<typeof signAuthorization>[2]> = {},
  ) {
    const validBefore = (await time.latest()) + DAY;
    const message = { from: requester.address, to: escrowAddress, value, validBefore, nonce, ...changes };
    return {
      validBefore: message.validBefore,
      signature: await signAuthorization(requester, domains.usdc, message),
    };
  }

  /** Makes the token refuse everything: paused, and every party and the Escrow blacklisted. */
  async function blockToken() {
    await usdc.pause();
    for (const address of [escrowAddress, ...Object.values(parties).map((party) => party.address)]) {
      await usdc.blacklist(address);
    }
  }

  /** The job's stored state as plain values. */
  async function stateOf(id: string) {
    const { deposit, claimed, status } = await escrow.stateOf(id);
    return { deposit, claimed, status };
  }

  return {
    ...parties,
    escrow,
    registry,
    usdc,
    session,
    wallet,
    escrowAddress,
    walletAddress,
    chainId,
    domains,
    makeJob,
    openJob,
    signReceipt,
    authorize,
    blockToken,
    stateOf,
  };
}

/** The fixture of the token's faults: an Escrow over a FaultyToken in which the requester has 1,000 USDC. */
export async function deployFaultyWorld() {
  const world = await deployWorld();
  const token = await ethers.deployContract("FaultyToken");
  const escrow = await ethers.deployContract("Escrow", [await token.getAddress()]);
  await token.mint(world.requester.address, 1_000n * USDC);
  return {
    ...world,
    token,
    tokenAddress: await token.getAddress(),
    escrow,
    escrowAddress: await escrow.getAddress(),
  };
}
