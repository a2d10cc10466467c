import { expect } from "chai";
import type { Call, NodeListing } from "../../chain/chain.ts";
import { planRegistration, readEndpoint } from "../../cli/registration.ts";
import { ZERO_WORD } from "../../protocol/bytes.ts";
import { InfernetError } from "../../protocol/errors.ts";

const NODE = "0x00000000000000000000000000000000000000aa";
const PAYEE = "0x00000000000000000000000000000000000000bb";
const call = (label: string): Call => ({ to: NODE, data: "0x", label });
const calls = {
  register: () => call("register"),
  setEndpoint: () => call("setEndpoint"),
  setModels: () => call("setModels"),
  setActive: () => call("setActive"),
};
const model = (name: string, outputPrice = 2n) => ({ name, digest: ZERO_WORD, inputPrice: 1n, outputPrice });
const listing: NodeListing = {
  node: NODE,
  payee: PAYEE,
  endpoint: "https://node.example:8443",
  active: true,
  models: [model("a"), model("b")],
};
const labelsOf = (existing: NodeListing | undefined, change: object) =>
  planRegistration(calls, existing, { ...listing, ...change }).map(({ label }) => label);

describe("a registration's plan", () => {
  it("registers a node that is not listed, in one call", () => {
    expect(labelsOf(undefined, {})).to.deep.equal(["register"]);
  });

  it("changes only what differs", () => {
    expect(labelsOf(listing, {})).to.deep.equal([]);
    expect(labelsOf(listing, { endpoint: "https://other.example" })).to.deep.equal(["setEndpoint"]);
    expect(labelsOf(listing, { models: [model("b"), model("a")] })).to.deep.equal([]);
    expect(labelsOf(listing, { models: [model("a", 3n), model("b")] })).to.deep.equal(["setModels"]);
    expect(labelsOf({ ...listing, active: false }, {})).to.deep.equal(["setActive"]);
  });

  it("refuses to change the payee, which only the payee may do", () => {
    expect(() => labelsOf(listing, { payee: NODE }))
      .to.throw(InfernetError, PAYEE)
      .with.property("code", "bad-request");
  });
});

describe("an endpoint", () => {
  it("is kept as scheme, host and port", () => {
    expect(readEndpoint("https://Node.Example:8443/")).to.equal("https://node.example:8443");
    expect(readEndpoint("http://127.0.0.1:8080")).to.equal("http://127.0.0.1:8080");
    expect(readEndpoint("http://[::1]:8080")).to.equal("http://[::1]:8080");
  });

  it("is refused with a path, a password, another scheme, or plain HTTP that leaves the machine", () => {
    for (const text of [
      "node.example:8443",
      "ftp://node.example",
      "https://node.example/v1",
      "https://node.example?a=1",
      "https://me:secret@node.example",
      "http://node.example",
      "http://127.0.0.1.evil.example",
      "",
    ]) {
      expect(() => readEndpoint(text), text).to.throw(InfernetError);
    }
  });
});
