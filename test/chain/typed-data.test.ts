import { expect } from "chai";
import fc from "fast-check";
import { type Chain, openChain } from "../../chain/chain.ts";
import { ESCROW, readView } from "../../chain/contracts.ts";
import type { Hex } from "../../protocol/bytes.ts";
import { openDigest, withdrawDigest } from "../../protocol/consent.ts";
import { depositNonce } from "../../protocol/deposit.ts";
import { jobIdOf } from "../../protocol/job.ts";
import { receiptDigest } from "../../protocol/receipt.ts";
import { domainSeparator } from "../../protocol/typed-data.ts";
import { type LocalChain, startLocalChain } from "../support/local-chain.ts";
import { hexOf, holdsAsync } from "../support/properties.ts";

const RUNS = 60;
const MAX_UINT96 = (1n << 96n) - 1n;

const jobs = fc.record({
  requester: hexOf(20),
  signer: hexOf(20),
  node: hexOf(20),
  payee: hexOf(20),
  jobHash: hexOf(32),
  deadline: fc.integer({ min: 0, max: 2 ** 40 - 1 }),
});

describe("typed data, as the Escrow hashes it", () => {
  let local: LocalChain;
  let chain: Chain;

  before(async () => {
    local = await startLocalChain();
    chain = await openChain({ rpcUrl: local.rpcUrl, sources: { override: local.deployment } });
  });
  after(async () => {
    await chain.close();
    await local.stop();
  });

  const ask = (method: string, args: unknown[]) =>
    readView<Hex>(chain.rpc, { abi: ESCROW, to: chain.deployment.escrow, method, args });

  it("has the same domain", async () => {
    expect(domainSeparator(chain.domain)).to.equal(await ask("domainSeparator", []));
  });

  it("gives every job the same id", async () => {
    await holdsAsync(
      fc.asyncProperty(jobs, async (job) => {
        expect(jobIdOf(chain.domain, job)).to.equal(await ask("jobId", [job]));
      }),
      RUNS,
    );
  });

  it("gives every receipt the same digest", async () => {
    await holdsAsync(
      fc.asyncProperty(hexOf(32), fc.bigInt(0n, MAX_UINT96), hexOf(32), async (jobId, amount, transcript) => {
        const digest = receiptDigest(chain.domain, { jobId, amount, transcript });
        expect(digest).to.equal(await ask("receiptDigest", [jobId, amount, transcript]));
      }),
      RUNS,
    );
  });

  it("gives every opening from credit the same digest", async () => {
    const amounts = fc.bigInt(0n, MAX_UINT96);
    const times = fc.integer({ min: 0, max: 2 ** 40 - 1 });
    await holdsAsync(
      fc.asyncProperty(jobs, amounts, times, async (job, amount, validBefore) => {
        const digest = openDigest(chain.domain, job, amount, validBefore);
        expect(digest).to.equal(await ask("openDigest", [job, amount, validBefore]));
      }),
      RUNS,
    );
  });

  it("gives every signed withdrawal the same digest", async () => {
    const withdrawals = fc.record({
      owner: hexOf(20),
      to: hexOf(20),
      amount: fc.bigInt(0n, MAX_UINT96),
      fee: fc.bigInt(0n, MAX_UINT96),
      nonce: hexOf(32),
      validBefore: fc.integer({ min: 0, max: 2 ** 40 - 1 }),
    });
    await holdsAsync(
      fc.asyncProperty(withdrawals, async (withdrawal) => {
        const { owner, to, amount, fee, nonce, validBefore } = withdrawal;
        const told = await ask("withdrawDigest", [owner, to, amount, fee, nonce, validBefore]);
        expect(withdrawDigest(chain.domain, withdrawal)).to.equal(told);
      }),
      RUNS,
    );
  });

  it("gives every authorised deposit the same nonce", async () => {
    await holdsAsync(
      fc.asyncProperty(hexOf(20), hexOf(32), async (owner, salt) => {
        expect(depositNonce(chain.domain, owner, salt)).to.equal(await ask("depositDigest", [owner, salt]));
      }),
      RUNS,
    );
  });
});
