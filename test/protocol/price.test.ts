import { expect } from "chai";
import fc from "fast-check";
import {
  chargeablePromptTokens,
  chargeOf,
  costMillionths,
  estimatePromptTokens,
  firstReservation,
  formatUsdc,
  parseUsdc,
  roundCharge,
} from "../../protocol/price.ts";
import { holds } from "../support/properties.ts";

const prices = fc.record({ inputPrice: fc.bigInt(0n, 10n ** 12n), outputPrice: fc.bigInt(0n, 10n ** 12n) });
const counts = fc.record({ promptTokens: fc.nat(1_000_000), completionTokens: fc.nat(1_000_000) });

describe("price", () => {
  it("charges the exact sum of all requests, rounded up once", () => {
    const pricing = { inputPrice: 100_000n, outputPrice: 300_000n };
    // 0.7 + 1.5 base units a request: three requests cost 6.6, so 7 and not 3 * ceil(2.2) = 9.
    const request = { promptTokens: 7, completionTokens: 5 };
    expect(chargeOf([request], pricing)).to.equal(3n);
    expect(chargeOf([request, request, request], pricing)).to.equal(7n);
    expect(chargeOf([], pricing)).to.equal(0n);
    expect(chargeOf([], pricing, 25n)).to.equal(25n);
  });

  it("never charges less than the exact cost, nor a whole base unit more", () => {
    holds(
      fc.property(fc.array(counts, { maxLength: 20 }), prices, (requests, pricing) => {
        const exact = requests.reduce((sum, request) => sum + costMillionths(request, pricing), 0n);
        const charged = chargeOf(requests, pricing) * 1_000_000n;
        expect(charged >= exact && charged < exact + 1_000_000n).to.equal(true);
      }),
    );
  });

  it("rounds zero to zero and the smallest cost to one base unit", () => {
    expect(roundCharge(0n)).to.equal(0n);
    expect(roundCharge(1n)).to.equal(1n);
    expect(roundCharge(1_000_000n)).to.equal(1n);
    expect(roundCharge(1_000_001n)).to.equal(2n);
  });

  it("rounds an estimate up for a prepayment and down for a charge", () => {
    expect([0, 1, 4, 5].map(estimatePromptTokens)).to.deep.equal([0, 1, 1, 2]);
    expect([0, 3, 4, 7].map(chargeablePromptTokens)).to.deep.equal([0, 0, 1, 1]);
  });

  it("reserves the prefill and two chunks when a stream starts", () => {
    expect(firstReservation(10, 64, { inputPrice: 1_000_000n, outputPrice: 2_000_000n })).to.equal(
      10n + 256n,
    );
  });

  it("writes base units as dollars and reads them back", () => {
    expect(formatUsdc(1_500_000n)).to.equal("1.500000");
    expect(formatUsdc(7n)).to.equal("0.000007");
    expect(formatUsdc(-7n)).to.equal("-0.000007");
    holds(
      fc.property(fc.bigInt(0n, 2n ** 80n), (amount) => {
        expect(parseUsdc(formatUsdc(amount))).to.equal(amount);
      }),
    );
  });

  it("refuses what is not an amount of USDC", () => {
    for (const text of ["", "-1", "1.0000001", "1e6", "1,5", ".5", "0x10", "NaN"]) {
      expect(() => parseUsdc(text), text).to.throw(RangeError);
    }
  });
});
