// Owns the promise that an authorisation is signed for the token as it names itself: USDC's name differs per chain.
import { expect } from "chai";
import { hashTypedData } from "viem";
import { USDC } from "../../chain/contracts.ts";
import { openRpc, type Rpc } from "../../chain/rpc.ts";
import { authorizationDigest, readTokenDomain } from "../../chain/token.ts";
import { errorOf } from "../support/errors.ts";
import { type FaultyRpc, startFaultyRpc } from "../support/faulty-rpc.ts";

const ESCROW = `0x${"e5".repeat(20)}` as const;
const TERMS = {
  from: `0x${"11".repeat(20)}`,
  amount: 2_500_000n,
  nonce: `0x${"5a".repeat(32)}`,
  validAfter: 0,
  validBefore: 2 ** 40 - 1,
} as const;

/** What Circle's own tokens answer on their chains. */
const TOKENS = [
  {
    chain: "Base",
    chainId: 8453,
    usdc: "0x833589fcd6edb6e08f4c7c32d4f71b54bda02913",
    name: "USD Coin",
    separator: "0x02fa7265e7c5d81118673727957699e4d68f74cd74b7db77da710fe8a2c7834f",
  },
  {
    chain: "Base Sepolia",
    chainId: 84532,
    usdc: "0x036cbd53842c5426634e7929541ec2318f3dcf7e",
    name: "USDC",
    separator: "0x71f17a3b2ff373b803d70a5a07c046c1a2bc8e89c09ef722fcb047abe94c9818",
  },
] as const;
type Token = (typeof TOKENS)[number];

const AUTHORIZATION = [
  { name: "from", type: "address" },
  { name: "to", type: "address" },
  { name: "value", type: "uint256" },
  { name: "validAfter", type: "uint256" },
  { name: "validBefore", type: "uint256" },
  { name: "nonce", type: "bytes32" },
] as const;

describe("the token of an authorisation", () => {
  let faulty: FaultyRpc;
  let rpc: Rpc;

  before(async () => {
    faulty = await startFaultyRpc("http://127.0.0.1:9"); // Nothing is passed on: every view is answered here.
    rpc = openRpc(faulty.url, 5_000);
  });
  after(async () => {
    rpc.close();
    await faulty.stop();
  });

  /** Reads the domain of a token that answers so. */
  function readDomain(token: Token, answers: { name: string; version?: string }) {
    const { name, version = "2" } = answers;
    const views = { name, version, DOMAIN_SEPARATOR: token.separator };
    const results = Object.entries(views).map(
      ([view, value]) => [USDC.encodeFunctionData(view), USDC.encodeFunctionResult(view, [value])] as const,
    );
    const resultOf = new Map<string | undefined, string>(results);
    faulty.faultOf = (_method, [call]) => ({ result: resultOf.get((call as { data?: string }).data) });
    const { chainId, usdc } = token;
    return readTokenDomain(rpc, { chainId, usdc, escrow: ESCROW, registry: ESCROW, fromBlock: 0 });
  }

  for (const token of TOKENS) {
    const { chain, chainId, usdc, name } = token;

    it(`is "${name}" on ${chain}, and the digest is what another wallet library computes`, async () => {
      const domain = await readDomain(token, { name });
      const { from, amount, nonce, validAfter, validBefore } = TERMS;
      expect(authorizationDigest(domain, ESCROW, TERMS)).to.equal(
        hashTypedData({
          domain: { name, version: "2", chainId, verifyingContract: usdc },
          types: { ReceiveWithAuthorization: AUTHORIZATION },
          primaryType: "ReceiveWithAuthorization",
          message: {
            from,
            to: ESCROW,
            value: amount,
            validAfter: BigInt(validAfter),
            validBefore: BigInt(validBefore),
            nonce,
          },
        }),
      );
    });

    it(`is refused on ${chain} when its name or version is not what it checks`, async () => {
      const other = TOKENS.find((candidate) => candidate !== token)!;
      for (const answers of [{ name: other.name }, { name, version: "1" }]) {
        const error = await errorOf(readDomain(token, answers));
        expect(error.code).to.equal("no-deployment");
        expect(error.message).to.equal(`the token at ${usdc} does not sign as USDC does`);
      }
    });
  }
});
