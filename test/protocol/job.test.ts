import { expect } from "chai";
import { encodeAbiParameters, keccak256, stringToBytes, toHex } from "viem";
import { toAddress, utf8 } from "../../protocol/bytes.ts";
import { jobHashOf, requestHashOf, sessionRequestId, singleRequestId } from "../../protocol/job.ts";
import { extendTranscript, transcriptOf } from "../../protocol/transcript.ts";

const word = (byte: string) => `0x${byte.repeat(32)}` as const;

describe("job", () => {
  it("hides salt, offer and request behind keccak256(abi.encode(...))", () => {
    const words = [{ type: "bytes32" }, { type: "bytes32" }, { type: "bytes32" }] as const;
    const expected = keccak256(encodeAbiParameters(words, [word("01"), word("02"), word("03")]));
    expect(jobHashOf({ salt: word("01"), offerHash: word("02"), requestHash: word("03") })).to.equal(
      expected,
    );
  });

  it("hashes a request with its path, so that the same body elsewhere is another request", () => {
    const body = utf8('{"model":"m"}');
    const expected = keccak256(stringToBytes('POST /v1/completions\n{"model":"m"}'));
    expect(requestHashOf("/v1/completions", body)).to.equal(expected);
    expect(requestHashOf("/v1/chat/completions", body)).to.not.equal(expected);
  });

  it("names requests by job and request hash, or by job and idempotency key", () => {
    const pair = (tail: `0x${string}`) => keccak256(`${word("01")}${tail.slice(2)}`);
    expect(singleRequestId(word("01"), word("02"))).to.equal(pair(word("02")));
    expect(sessionRequestId(word("01"), "key-1")).to.equal(pair(keccak256(toHex("key-1"))));
  });

  it("writes addresses in lower case and refuses what is none", () => {
    expect(toAddress(`0x${"AB".repeat(20)}`)).to.equal(`0x${"ab".repeat(20)}`);
    for (const text of ["0x12", `0x${"zz".repeat(20)}`, "ab".repeat(20), ""]) {
      expect(() => toAddress(text), text).to.throw(TypeError);
    }
  });
});

describe("transcript", () => {
  it("chains the hash of every payload onto the request's id", () => {
    const first = keccak256(`${word("01")}${keccak256(stringToBytes("héllo")).slice(2)}`);
    expect(extendTranscript(word("01"), "héllo")).to.equal(first);
    expect(transcriptOf(word("01"), ["héllo", "world"])).to.equal(extendTranscript(first, "world"));
    expect(transcriptOf(word("01"), [])).to.equal(word("01"));
  });

  it("tells how payloads were cut", () => {
    expect(transcriptOf(word("01"), ["ab", "c"])).to.not.equal(transcriptOf(word("01"), ["a", "bc"]));
  });
});
