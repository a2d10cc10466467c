// Holds three EIP-712 implementations to committed digests, so that none of them moves unseen; the vectors were made
// once with viem. That the Escrow's own views agree, on random messages, is test/chain/typed-data.test.ts.
import { expect } from "chai";
import { TypedDataEncoder } from "ethers";
import { type Hex, hashTypedData } from "viem";
import { OPEN_TYPE, WITHDRAW_TYPE } from "../../protocol/consent.ts";
import { DELIVERY_TYPE } from "../../protocol/delivery.ts";
import { DEPOSIT_TYPE } from "../../protocol/deposit.ts";
import { JOB_TYPE } from "../../protocol/job.ts";
import { OFFER_TYPE } from "../../protocol/offer.ts";
import { RECEIPT_TYPE } from "../../protocol/receipt.ts";
import { type StructValue, typedDataDigest } from "../../protocol/typed-data.ts";
import committed from "../vectors/digests.json" with { type: "json" };

type TypeName = keyof typeof committed.types;
type Vector = {
  name: string;
  domain: { name: string; version: string; chainId: number; verifyingContract: Hex };
  type: TypeName;
  message: StructValue;
  digest: Hex;
};

const STRUCTS = [
  JOB_TYPE,
  OPEN_TYPE,
  DEPOSIT_TYPE,
  WITHDRAW_TYPE,
  RECEIPT_TYPE,
  OFFER_TYPE,
  DELIVERY_TYPE,
] as const;
const vectors = committed.vectors as unknown as Vector[];

/** The types that `name` needs: ethers takes no others. */
function typesOf(name: TypeName) {
  const { Job, ...others } = committed.types;
  if (name === "Job") return { Job };
  return name === "Open" ? { Open: others.Open, Job } : { [name]: others[name] };
}

describe("the committed digests", () => {
  it("cover every struct that is signed, on each chain", () => {
    const names = STRUCTS.map((struct) => struct.name);
    expect(Object.keys(committed.types)).to.have.members(names);
    expect([...new Set(vectors.map((vector) => vector.type))]).to.have.members(names);
    expect([...new Set(vectors.map((vector) => vector.domain.chainId))]).to.have.members([
      31337, 8453, 84532,
    ]);
  });

  it("are all different", () => {
    expect(new Set(vectors.map((vector) => vector.digest)).size).to.equal(vectors.length);
  });

  for (const { name, domain, type, message, digest } of vectors) {
    it(`are what every implementation computes: ${name}`, () => {
      const struct = STRUCTS.find((candidate) => candidate.name === type)!;
      const ours = { chainId: BigInt(domain.chainId), escrow: domain.verifyingContract };
      expect(typedDataDigest(ours, struct, message), "protocol").to.equal(digest);
      expect(TypedDataEncoder.hash(domain, typesOf(type), message), "ethers").to.equal(digest);
      const asked = { domain, types: committed.types, primaryType: type, message };
      expect(hashTypedData(asked as Parameters<typeof hashTypedData>[0]), "viem").to.equal(digest);
    });
  }
});
