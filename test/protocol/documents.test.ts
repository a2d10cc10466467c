import { expect } from "chai";
import fc from "fast-check";
import type { SignedDelivery } from "../../protocol/delivery.ts";
import { signedDeliverySchema } from "../../protocol/delivery.ts";
import { ERROR_TABLE, errorOfProblem, InfernetError, problemOf } from "../../protocol/errors.ts";
import {
  checkPriceCeiling,
  decodeOffer,
  encodeOffer,
  formatServedOffer,
  offeredModel,
  parseServedOffer,
} from "../../protocol/offer.ts";
import { formatReceipt, parseReceipt } from "../../protocol/receipt.ts";
import { toJson } from "../../protocol/schema.ts";
import { infernetEventSchema, readJobHeaders } from "../../protocol/wire.ts";
import { exampleOffer } from "../support/examples.ts";
import { hexOf, holds } from "../support/properties.ts";

const word = (byte: string) => `0x${byte.repeat(32)}` as const;

function codeOf(act: () => unknown): string {
  try {
    act();
    return "none";
  } catch (error) {
    if (error instanceof InfernetError) return error.code;
    throw error;
  }
}

describe("receipt header", () => {
  it("reads back what it wrote", () => {
    const receipts = fc.record({
      jobId: hexOf(32),
      amount: fc.bigInt(0n, 2n ** 96n - 1n),
      transcript: hexOf(32),
      signature: hexOf(64),
    });
    holds(
      fc.property(receipts, (receipt) => {
        expect(parseReceipt(receipt.jobId, formatReceipt(receipt))).to.deep.equal(receipt);
      }),
    );
  });

  it("refuses every other form", () => {
    const [transcript, signature] = [word("01"), `0x${"02".repeat(64)}`];
    const wrong = [
      "",
      `1;${transcript}`,
      `01;${transcript};${signature}`,
      `-1;${transcript};${signature}`,
      `1.5;${transcript};${signature}`,
      `${1n << 96n};${transcript};${signature}`,
      `1;${transcript.toUpperCase()};${signature}`,
      `1;${transcript};${signature}00`,
      `1;${transcript};${signature};`,
      ` 1;${transcript};${signature}`,
    ];
    for (const header of wrong)
      expect(
        codeOf(() => parseReceipt(word("0a"), header)),
        header,
      ).to.equal("bad-receipt");
  });
});

describe("offer", () => {
  it("is served as its exact bytes, so that its hash survives the trip", () => {
    const bytes = encodeOffer(exampleOffer());
    const { offer, offerHash } = decodeOffer(bytes);
    const read = parseServedOffer(
      formatServedOffer({ offer, bytes, offerHash, signature: `0x${"07".repeat(65)}` }),
    );
    expect(read.offer).to.deep.equal(exampleOffer());
    expect(read.offerHash).to.equal(offerHash);
    expect(Buffer.from(read.bytes).equals(Buffer.from(bytes))).to.equal(true);
  });

  it("refuses what is not an offer and names the first wrong field", () => {
    expect(codeOf(() => parseServedOffer("<html>"))).to.equal("offer-invalid");
    expect(codeOf(() => parseServedOffer('{"offer":"!!"}'))).to.equal("offer-invalid");
    const wrong = Buffer.from(toJson({ ...exampleOffer(), chunkTokens: 0 }));
    expect(() => decodeOffer(wrong)).to.throw(InfernetError, "chunkTokens");
  });

  it("says which models it has when another is asked for", () => {
    expect(offeredModel(exampleOffer(), "tiny").inputPrice).to.equal(100_000n);
    expect(() => offeredModel(exampleOffer(), "huge")).to.throw(
      InfernetError,
      'does not offer the model "huge"',
    );
  });

  it("may undercut the Registry's ceiling, never pass it", () => {
    const model = exampleOffer().models[0]!;
    const listed = { ...model };
    expect(() => checkPriceCeiling(model, [listed])).to.not.throw();
    expect(() => checkPriceCeiling({ ...model, inputPrice: 1n }, [listed])).to.not.throw();
    expect(codeOf(() => checkPriceCeiling({ ...model, inputPrice: 100_001n }, [listed]))).to.equal(
      "offer-invalid",
    );
    expect(codeOf(() => checkPriceCeiling({ ...model, outputPrice: 300_001n }, [listed]))).to.equal(
      "offer-invalid",
    );
    expect(codeOf(() => checkPriceCeiling(model, []))).to.equal("offer-invalid");
  });
});

describe("wire", () => {
  it("carries a delivery's big numbers as decimal strings", () => {
    const delivery: SignedDelivery = {
      jobId: word("01"),
      requestId: word("02"),
      transcript: word("03"),
      modelDigest: word("04"),
      promptTokens: 12,
      completionTokens: 34,
      estimated: false,
      cost: 2n ** 70n,
      jobCharge: 99n,
      signature: `0x${"05".repeat(65)}`,
    };
    expect(signedDeliverySchema.parse(JSON.parse(toJson(delivery)))).to.deep.equal(delivery);
    const event = { type: "delivery", delivery } as const;
    expect(infernetEventSchema.parse(JSON.parse(toJson(event)))).to.deep.equal(event);
  });

  it("asks for payment when no job is named, and for 32 bytes when one is", () => {
    const headers = { "infernet-job": word("01"), "infernet-salt": word("02"), "infernet-offer": word("03") };
    expect(readJobHeaders(headers)).to.deep.equal({
      jobId: word("01"),
      salt: word("02"),
      offerHash: word("03"),
    });
    expect(codeOf(() => readJobHeaders({}))).to.equal("payment-required");
    expect(codeOf(() => readJobHeaders({ ...headers, "infernet-salt": undefined }))).to.equal("bad-request");
    expect(codeOf(() => readJobHeaders({ ...headers, "infernet-job": word("AB") }))).to.equal("bad-request");
    expect(codeOf(() => readJobHeaders({ ...headers, "infernet-offer": [word("03")] }))).to.equal(
      "bad-request",
    );
  });
});

describe("errors", () => {
  it("travel as problem documents and arrive as the same error", () => {
    const sent = new InfernetError("receipt-too-small", "the receipt covers too little", {
      hint: "Sign for 120.",
      data: { need: "120" },
    });
    const problem = problemOf(sent);
    expect(problem).to.include({ status: 402, code: "receipt-too-small", need: "120" });
    const arrived = errorOfProblem(JSON.parse(JSON.stringify(problem)));
    expect(arrived).to.include({ code: sent.code, message: sent.message, hint: sent.hint });
    expect(arrived?.data).to.deep.equal({ need: "120" });
  });

  it("are not made from a stranger's words", () => {
    for (const body of [null, "text", {}, { code: "no-such-code" }, { code: "toString" }]) {
      expect(errorOfProblem(body)).to.equal(undefined);
    }
  });

  it("have an HTTP status and an exit code of a failure", () => {
    for (const [code, { status, exit }] of Object.entries(ERROR_TABLE)) {
      expect(status, code).to.be.within(400, 599);
      expect(exit, code).to.be.within(2, 130);
    }
  });
});
