import { expect } from "chai";
import { type Chain, openChain } from "../../chain/chain.ts";
import { ESCROW, USDC } from "../../chain/contracts.ts";
import { createSender } from "../../chain/sender.ts";
import { type Address, ZERO_WORD } from "../../protocol/bytes.ts";
import { depositNonce } from "../../protocol/deposit.ts";
import { type Job, jobIdOf } from "../../protocol/job.ts";
import { receiptDigest } from "../../protocol/receipt.ts";
import { createSigner, toCompactSignature } from "../../runtime/signers/secp256k1.ts";
import { errorOf } from "../support/errors.ts";
import { startFaultyRpc } from "../support/faulty-rpc.ts";
import { type LocalChain, startLocalChain } from "../support/local-chain.ts";

const MODEL = { name: "tiny", digest: ZERO_WORD, inputPrice: 100_000n, outputPrice: 300_000n };
const NOBODY = `0x${"77".repeat(20)}` as const;

describe("the chain", () => {
  let local: LocalChain;
  let chain: Chain;

  beforeEach(async () => {
    local = await startLocalChain();
    chain = await openChain({ rpcUrl: local.rpcUrl, sources: { override: local.deployment } });
  });
  afterEach(async () => {
    await chain.close();
    await local.stop();
  });

  const signerOf = (index: number) => createSigner(local.accounts[index]!.privateKey);
  const senderOf = (index: number) => createSender(chain, signerOf(index));

  async function makeJob(requester: Address): Promise<Job> {
    const { timestamp } = await chain.getBlock("latest");
    const [signer, node, payee] = [2, 3, 4].map((index) => local.accounts[index]!.address);
    const parties = { requester, signer: signer!, node: node!, payee: payee! };
    return { ...parties, jobHash: `0x${"5a".repeat(32)}`, deadline: timestamp + 3600 };
  }

  async function authorize(amount: bigint, nonce: `0x${string}`) {
    const [validAfter, validBefore] = [0, 2 ** 40 - 1];
    const wallet = signerOf(1);
    const terms = { from: wallet.address, amount, nonce, validAfter, validBefore };
    return {
      validAfter,
      validBefore,
      signature: wallet.signDigest(await chain.authorizationDigest(terms)),
    };
  }

  it("lists every node once, over all pages, with its models", async () => {
    const payee = local.accounts[0]!.address;
    const nodes = local.accounts.map((account) => account.address);
    for (const node of nodes) {
      await local.sendAs(node, chain.calls.register(payee, `https://${node}`, [MODEL]));
    }
    await local.sendAs(nodes[5]!, chain.calls.setActive(false));
    const listings = await chain.listNodes();
    expect(listings.map((listing) => listing.node)).to.deep.equal(nodes);
    expect(listings[5]).to.deep.equal({
      node: nodes[5],
      payee,
      endpoint: `https://${nodes[5]}`,
      active: false,
      models: [MODEL],
    });
  });

  it("tells what a node's listing was at an earlier block", async () => {
    const [node, payee] = [local.accounts[1]!.address, local.accounts[2]!.address];
    await local.sendAs(node, chain.calls.register(node, "https://a", [MODEL]));
    const { number } = await chain.getBlock("latest");
    await local.sendAs(node, chain.calls.setPayee(node, payee));
    expect((await chain.getNode(node))?.payee).to.equal(payee);
    expect((await chain.getNode(node, number))?.payee).to.equal(node);
    expect(await chain.getNode(node, number - 1)).to.equal(undefined);
    expect(await chain.getNode(NOBODY)).to.equal(undefined);
  });

  it("opens a job by a wallet's authorisation that another account brings", async () => {
    const job = await makeJob(local.accounts[1]!.address);
    const jobId = jobIdOf(chain.domain, job);
    await local.mintUsdc(job.requester, 5_000n);
    const call = chain.calls.openWithAuthorization(job, 5_000n, await authorize(5_000n, jobId));
    const { hash, block } = await senderOf(9).send(call);
    expect(await chain.getJobState(jobId)).to.deep.equal({ deposit: 5_000n, claimed: 0n, status: "open" });
    const opened = await chain.getOpened(jobId);
    expect(opened).to.deep.include({ kind: "opened", jobId, job, amount: 5_000n, block, tx: hash });
    expect(opened?.timestamp).to.equal((await chain.getBlock(block)).timestamp);
  });

  it("deposits by a wallet's authorisation that another account brings", async () => {
    const owner = local.accounts[1]!.address;
    const salt = `0x${"aa".repeat(32)}` as const;
    await local.mintUsdc(owner, 700n);
    const by = await authorize(700n, depositNonce(chain.domain, owner, salt));
    await senderOf(9).send(chain.calls.depositWithAuthorization(owner, 700n, salt, by));
    expect([await chain.getUsdc(owner), await chain.getCredit(owner)]).to.deep.equal([0n, 700n]);
  });

  it("takes a job from deposit to pay-out", async () => {
    const job = await makeJob(local.accounts[1]!.address);
    const jobId = jobIdOf(chain.domain, job);
    const [requester, node] = [senderOf(1), senderOf(3)];
    for (const call of [
      chain.calls.mintTestUsdc(job.requester, 1_000n),
      chain.calls.approveUsdc(1_000n),
      chain.calls.deposit(1_000n),
      chain.calls.withdraw(job.requester, 100n),
      chain.calls.open(job, 900n),
    ]) {
      await requester.send(call);
    }
    const marked = { jobId, amount: 600n, transcript: ZERO_WORD };
    const signature = toCompactSignature(signerOf(2).signDigest(receiptDigest(chain.domain, marked)));
    const receipt = { ...marked, signature };
    await node.send(chain.calls.claim({ job, receipt, amount: 100n }));
    await node.send(chain.calls.claimBatch([{ job, receipt, amount: 200n }]));
    expect((await chain.getJobState(jobId)).claimed).to.equal(200n);
    await node.send(chain.calls.settleBatch([{ job, receipt, amount: 500n }]));
    expect(await chain.getJobState(jobId)).to.deep.equal({ deposit: 900n, claimed: 500n, status: "closed" });
    expect([await chain.getEarned(job.payee), await chain.getCredit(job.requester)]).to.deep.equal([
      500n,
      400n,
    ]);
    await node.send(chain.calls.payOut(job.payee));
    expect([await chain.getUsdc(job.payee), await chain.getEarned(job.payee)]).to.deep.equal([500n, 0n]);
    const late = await errorOf(node.send(chain.calls.settle({ job, receipt, amount: 600n })));
    expect(late.message).to.equal(`settle would fail: EscrowJobNotOpen(jobId=${jobId}, status=2)`);
    expect(late.data).to.deep.equal({ error: "EscrowJobNotOpen", jobId, status: "2" });
  });

  it("knows no opening of a job that was never opened", async () => {
    expect(await chain.getOpened(ZERO_WORD)).to.equal(undefined);
    expect((await chain.getJobState(ZERO_WORD)).status).to.equal("none");
  });

  it("signs no authorisation for a token whose domain is not what its name and version say", async () => {
    const [owner, faulty] = [local.accounts[1]!.address, await startFaultyRpc(local.rpcUrl)];
    const spoiled = await openChain({ rpcUrl: faulty.url, sources: { override: local.deployment } });
    faulty.faultOf = (_method, [call]) =>
      (call as { data?: string }).data === USDC.encodeFunctionData("DOMAIN_SEPARATOR")
        ? { result: ZERO_WORD }
        : "pass";
    const terms = { from: owner, amount: 1n, nonce: ZERO_WORD, validAfter: 0, validBefore: 1 };
    expect((await errorOf(spoiled.authorizationDigest(terms))).code).to.equal("no-deployment");
    faulty.faultOf = () => "pass";
    expect(await spoiled.authorizationDigest(terms)).to.equal(await chain.authorizationDigest(terms));
    await spoiled.close();
    await faulty.stop();
  });

  it("does not open on an Escrow that hashes otherwise", async () => {
    const faulty = await startFaultyRpc(local.rpcUrl);
    faulty.faultOf = (_method, [call]) =>
      (call as { data?: string } | undefined)?.data === ESCROW.encodeFunctionData("domainSeparator")
        ? { result: ZERO_WORD }
        : "pass";
    const opening = openChain({ rpcUrl: faulty.url, sources: { override: local.deployment } });
    expect((await errorOf(opening)).message).to.contain("another version");
    await faulty.stop();
  });

  it("says so when a block is not there", async () => {
    expect((await errorOf(chain.getBlock(1_000_000))).code).to.equal("chain-unreachable");
  });

  it("answers nothing after it is closed", async () => {
    await chain.close();
    expect((await errorOf(chain.getBlock("latest"))).code).to.equal("chain-unreachable");
  });
});
