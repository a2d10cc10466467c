import { expect } from "chai";
import fc from "fast-check";
import { hashTypedData } from "viem";
import { DELIVERY_TYPE, deliveryDigest } from "../../protocol/delivery.ts";
import { JOB_TYPE, jobIdOf } from "../../protocol/job.ts";
import { OFFER_TYPE } from "../../protocol/offer.ts";
import { RECEIPT_TYPE, receiptDigest } from "../../protocol/receipt.ts";
import { encodeType, hashStruct, type StructType, typedDataDigest } from "../../protocol/typed-data.ts";
import { hexOf, holds } from "../support/properties.ts";

const domain = { chainId: 31337n, escrow: `0x${"ab".repeat(20)}` } as const;
const viemDomain = {
  name: "Infernet Escrow",
  version: "1",
  chainId: 31337,
  verifyingContract: domain.escrow,
} as const;

function viemDigest(type: StructType, message: Record<string, unknown>) {
  const fields = type.fields.map(([name, kind]) => ({ name, type: kind as string }));
  return hashTypedData({
    domain: viemDomain,
    types: { [type.name]: fields },
    primaryType: type.name,
    message,
  } as Parameters<typeof hashTypedData>[0]);
}

const jobs = fc.record({
  requester: hexOf(20),
  signer: hexOf(20),
  node: hexOf(20),
  payee: hexOf(20),
  jobHash: hexOf(32),
  deadline: fc.nat(2 ** 31),
});

describe("typed data", () => {
  it("writes nested types after the outer one, in alphabetical order", () => {
    const open: StructType = {
      name: "Open",
      fields: [
        ["job", JOB_TYPE],
        ["amount", "uint96"],
        ["validBefore", "uint40"],
      ],
    };
    expect(encodeType(open)).to.equal(
      "Open(Job job,uint96 amount,uint40 validBefore)" +
        "Job(address requester,address signer,address node,address payee,bytes32 jobHash,uint40 deadline)",
    );
  });

  it("gives a job the id that another wallet library computes", () => {
    holds(
      fc.property(jobs, (job) => {
        expect(jobIdOf(domain, job)).to.equal(viemDigest(JOB_TYPE, job));
      }),
    );
  });

  it("gives a receipt the digest that another wallet library computes", () => {
    const receipts = fc.record({
      jobId: hexOf(32),
      amount: fc.bigInt(0n, 2n ** 96n - 1n),
      transcript: hexOf(32),
    });
    holds(
      fc.property(receipts, (receipt) => {
        expect(receiptDigest(domain, receipt)).to.equal(viemDigest(RECEIPT_TYPE, receipt));
      }),
    );
  });

  it("gives offers and deliveries the digests that another wallet library computes", () => {
    holds(
      fc.property(hexOf(32), hexOf(20), fc.nat(2 ** 31), fc.boolean(), (word, node, number, flag) => {
        const offer = { offerHash: word, node, issuedAt: number, expires: number + 1 };
        expect(typedDataDigest(domain, OFFER_TYPE, offer)).to.equal(viemDigest(OFFER_TYPE, offer));
        const delivery = {
          jobId: word,
          requestId: word,
          transcript: word,
          modelDigest: word,
          promptTokens: number,
          completionTokens: 3,
          estimated: flag,
          cost: 2n ** 200n,
          jobCharge: 17n,
        };
        expect(deliveryDigest(domain, delivery)).to.equal(viemDigest(DELIVERY_TYPE, delivery));
      }),
    );
  });

  it("refuses a missing field and a value that does not fit", () => {
    const receipt = { jobId: `0x${"11".repeat(32)}`, amount: 1n, transcript: `0x${"22".repeat(32)}` };
    expect(() => hashStruct(RECEIPT_TYPE, { jobId: receipt.jobId, amount: 1n })).to.throw(
      "Receipt.transcript is missing",
    );
    expect(() => hashStruct(RECEIPT_TYPE, { ...receipt, amount: 1n << 96n })).to.throw("does not fit uint96");
    expect(() => hashStruct(RECEIPT_TYPE, { ...receipt, amount: -1n })).to.throw();
    expect(() => hashStruct(RECEIPT_TYPE, { ...receipt, jobId: "0x11" })).to.throw("not 32 bytes");
  });
});
