import { expect } from "chai";
import { ESCROW } from "../../chain/contracts.ts";
import { describeRevert, findRevertBytes } from "../../chain/reverts.ts";
import type { Hex } from "../../protocol/bytes.ts";

const JOB_ID = `0x${"ab".repeat(32)}` as const;
const bytes = ESCROW.encodeErrorResult("EscrowTooEarly", [JOB_ID, 1_800_000_000, 1_700_000_000]) as Hex;

describe("reverts", () => {
  it("are named with their values", () => {
    const { text, data } = describeRevert(bytes);
    expect(text).to.equal(`EscrowTooEarly(jobId=${JOB_ID}, deadline=1800000000, timestamp=1700000000)`);
    const values = { jobId: JOB_ID, deadline: "1800000000", timestamp: "1700000000" };
    expect(data).to.deep.equal({ error: "EscrowTooEarly", ...values });
  });

  it("of a panic, of nothing and of strangers are told as far as they say", () => {
    const panic = `0x4e487b71${"11".padStart(64, "0")}` as const;
    expect(describeRevert(panic).text).to.equal("Panic(17)");
    expect(describeRevert("0x").text).to.equal("reverted without a reason");
    expect(describeRevert("0xdeadbeef").text).to.equal("unknown error 0xdeadbeef");
    expect(describeRevert(bytes.slice(0, 20) as Hex).data.error).to.equal(bytes.slice(0, 10));
  });

  it("are found wherever an RPC puts their bytes", () => {
    const shapes = [
      bytes,
      { data: bytes },
      { data: { result: bytes } },
      `Reverted ${bytes.toUpperCase().replace("0X", "0x")}`,
    ];
    for (const shape of shapes) expect(findRevertBytes(shape)).to.equal(bytes);
    for (const nothing of [undefined, null, 7, "no bytes", {}]) {
      expect(findRevertBytes(nothing)).to.equal(undefined);
    }
  });
});
