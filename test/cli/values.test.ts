import { expect } from "chai";
import { InvalidArgumentError } from "commander";
import fc from "fast-check";
import {
  collectPricedModel,
  decimalBetween,
  formatPrice,
  integerBetween,
  parseAddress,
  parseAmount,
  parseAmountOrAll,
  parseDuration,
  parseJobId,
  parseListen,
  parsePrice,
} from "../../cli/values.ts";
import { toAddress } from "../../protocol/bytes.ts";

describe("values on the command line", () => {
  it("read amounts of USDC to the base unit", () => {
    expect(parseAmount("1.25")).to.equal(1_250_000n);
    expect(parseAmount("0.000001")).to.equal(1n);
    expect(parseAmountOrAll("all")).to.equal("all");
  });

  it("refuse amounts that are none, too fine, or nothing", () => {
    for (const text of ["", "-1", "1e3", "1.0000001", "0x10", "1,5"]) {
      expect(() => parseAmount(text), text).to.throw(InvalidArgumentError);
    }
    expect(() => parseAmountOrAll("0")).to.throw(InvalidArgumentError, "more than 0");
  });

  it("read durations with a unit and refuse bare numbers", () => {
    expect(["90s", "15m", "2h", "1d"].map(parseDuration)).to.deep.equal([90, 900, 7200, 86_400]);
    for (const text of ["90", "0s", "1w", "-5m", "1.5h"]) {
      expect(() => parseDuration(text), text).to.throw(InvalidArgumentError);
    }
  });

  it("read where to listen, IPv6 in brackets, and refuse what lacks a host or a port", () => {
    expect(parseListen("127.0.0.1:9464")).to.deep.equal({ host: "127.0.0.1", port: 9464 });
    expect(parseListen("[::1]:0")).to.deep.equal({ host: "::1", port: 0 });
    expect(parseListen("worker.local:80")).to.deep.equal({ host: "worker.local", port: 80 });
    for (const text of ["", "9464", ":9464", "127.0.0.1", "::1:9464", "a:65536", "http://a:1"])
      expect(() => parseListen(text), text).to.throw(InvalidArgumentError);
  });

  it("read an address of one case, or of mixed case when its checksum is right", () => {
    const checksummed = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8";
    expect(parseAddress(checksummed)).to.equal(toAddress(checksummed));
    expect(parseAddress(checksummed.toLowerCase())).to.equal(toAddress(checksummed));
    expect(parseAddress(`0x${checksummed.slice(2).toUpperCase()}`)).to.equal(toAddress(checksummed));
  });

  it("catch a mistyped digit of a checksummed address", () => {
    expect(() => parseAddress("0x70997970C51812dc3A010C7d01b50e0d17dc79C9")).to.throw(
      InvalidArgumentError,
      "checksum",
    );
    for (const text of ["0x7099", "70997970c51812dc3a010c7d01b50e0d17dc79c8", "me.eth"]) {
      expect(() => parseAddress(text), text).to.throw(InvalidArgumentError, "40 hex digits");
    }
  });

  it("read a job id and refuse one that is too short", () => {
    const id = `0x${"AB".repeat(32)}`;
    expect(parseJobId(id)).to.equal(id.toLowerCase());
    expect(() => parseJobId("0xab")).to.throw(InvalidArgumentError);
  });

  it("read a priced model whose name holds colons and equal signs", () => {
    expect(collectPricedModel("llama3.2:1b=0.10:0.4")).to.deep.equal([
      { name: "llama3.2:1b", inputPrice: 100_000n, outputPrice: 400_000n },
    ]);
    expect(collectPricedModel("a=b=0:1")[0]!.name).to.equal("a=b");
  });

  it("refuse a model named twice, or with half a price", () => {
    const first = collectPricedModel("m=1:2");
    expect(() => collectPricedModel("m=1:3", first)).to.throw(InvalidArgumentError, "twice");
    for (const text of ["m", "m=1", "=1:2", "m=1:x", "m=-1:2"]) {
      expect(() => collectPricedModel(text), text).to.throw(InvalidArgumentError);
    }
  });

  it("write every price so that it reads back", () => {
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }), (price) => {
        expect(parsePrice(formatPrice(price))).to.equal(price);
      }),
      { seed: 7 },
    );
    expect(formatPrice(400_000n)).to.equal("0.40");
    expect(formatPrice(1n)).to.equal("0.000001");
  });

  it("hold numbers to their range", () => {
    const tokens = integerBetween(1, 100);
    const temperature = decimalBetween(0, 2);
    expect(tokens("100")).to.equal(100);
    expect(temperature("0.7")).to.equal(0.7);
    for (const text of ["0", "101", "1.5", "ten", ""]) expect(() => tokens(text), text).to.throw();
    for (const text of ["2.1", "-1", "hot", ""]) expect(() => temperature(text), text).to.throw();
  });
});
