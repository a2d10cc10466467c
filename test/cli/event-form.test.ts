import { expect } from "chai";
import { describeFields } from "../../cli/event-form.ts";

describe("events and bills as JSON", () => {
  it("write amounts as decimal texts of USDC, gas as numbers, and leave the rest", () => {
    const fields = { jobId: "0x1", charge: 1_500n, openGas: 58_000n, tokens: 3, returned: null, tags: ["a"] };
    expect(describeFields(fields)).to.deep.equal({
      jobId: "0x1",
      chargeUsdc: "0.001500",
      openGas: 58_000,
      tokens: 3,
      returned: null,
      tags: ["a"],
    });
  });

  it("treat what is inside alike, and keep millionths as integers", () => {
    const fields = {
      settled: { charge: 1n },
      delivery: { cost: 123n, jobCharge: 1n },
      list: [{ amount: 2n }],
    };
    expect(describeFields(fields)).to.deep.equal({
      settled: { chargeUsdc: "0.000001" },
      delivery: { cost: "123", jobChargeUsdc: "0.000001" },
      list: [{ amountUsdc: "0.000002" }],
    });
  });
});
