// Proves the Escrow's digests equal to two other EIP-712 libraries', and its views to what they say.
import { expect } from "chai";
import type { TypedDataField } from "ethers";
import fc from "fast-check";
import { hashTypedData } from "viem";
import { escrowTypes } from "./typed-data.ts";
import { deployWorld, ethers, loadFixture, random32 } from "./world.ts";

const bits = (width: bigint) => fc.bigInt(0n, 2n ** width - 1n);
const address = bits(160n).map((value) => ethers.getAddress(ethers.toBeHex(value, 20)));
const word = bits(256n).map((value) => ethers.toBeHex(value, 32));
const amount = bits(96n);
const seconds = fc.integer({ min: 0, max: 2 ** 40 - 1 });
const job = fc.record({
  requester: address,
  signer: address,
  node: address,
  payee: address,
  jobHash: word,
  deadline: seconds,
});

describe("Escrow: views", () => {
  it("E-view-1: every digest is the one that wallets compute", async () => {
    const { escrow, domains, escrowAddress, chainId } = await loadFixture(deployWorld);
    const viemDomain = {
      name: "Infernet Escrow",
      version: "1",
      chainId,
      verifyingContract: escrowAddress as `0x${string}`,
    };
    const expectDigest = (
      digest: string,
      primaryType: keyof typeof escrowTypes,
      message: Record<string, unknown>,
    ) => {
      const types: Record<string, TypedDataField[]> = escrowTypes[primaryType];
      expect(digest).to.equal(ethers.TypedDataEncoder.hash(domains.escrow, types, message));
      expect(digest).to.equal(hashTypedData({ domain: viemDomain, types, primaryType, message }));
    };

    const values = fc.record({ job, owner: address, to: address, amount, fee: amount, nonce: word, seconds });
    const property = fc.asyncProperty(values, async ({ job, owner, to, amount, fee, nonce, seconds }) => {
      expectDigest(await escrow.jobId(job), "Job", job);
      expectDigest(await escrow.receiptDigest(nonce, amount, job.jobHash), "Receipt", {
        jobId: nonce,
        amount,
        transcript: job.jobHash,
      });
      expectDigest(await escrow.openDigest(job, amount, seconds), "Open", {
        job,
        amount,
        validBefore: seconds,
      });
      expectDigest(await escrow.depositDigest(owner, nonce), "Deposit", { owner, salt: nonce });
      expectDigest(await escrow.withdrawDigest(owner, to, amount, fee, nonce, seconds), "Withdraw", {
        owner,
        to,
        amount,
        fee,
        nonce,
        validBefore: seconds,
      });
    });
    await fc.assert(property, { seed: 1, numRuns: 50 });
  });

  it("E-view-2: the domain names the Escrow and its chain", async () => {
    const { escrow, domains, escrowAddress, chainId } = await loadFixture(deployWorld);
    const domain = await escrow.eip712Domain();
    expect([...domain]).to.deep.equal([
      "0x0f",
      "Infernet Escrow",
      "1",
      chainId,
      escrowAddress,
      ethers.ZeroHash,
      [],
    ]);
    expect(await escrow.domainSeparator()).to.equal(ethers.TypedDataEncoder.hashDomain(domains.escrow));
  });

  it("E-view-3: a job that was never opened has only zeros", async () => {
    const { stateOf } = await loadFixture(deployWorld);
    expect(await stateOf(random32())).to.deep.equal({ deposit: 0n, claimed: 0n, status: 0n });
  });
});
