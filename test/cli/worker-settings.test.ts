import { expect } from "chai";
import type { NodeListing } from "../../chain/chain.ts";
import { providerConfigOf, type WorkerFlags } from "../../cli/worker-settings.ts";
import { ZERO_WORD } from "../../protocol/bytes.ts";
import { InfernetError } from "../../protocol/errors.ts";
import { PROVIDER_DEFAULTS } from "../../provider/config.ts";

const listing: NodeListing = {
  node: "0x00000000000000000000000000000000000000aa",
  payee: "0x00000000000000000000000000000000000000bb",
  endpoint: "https://node.example:8443",
  active: true,
  models: [{ name: "m", digest: ZERO_WORD, inputPrice: 100n, outputPrice: 200n }],
};
const configOf = (flags: WorkerFlags, change: Partial<NodeListing> = {}) =>
  providerConfigOf(flags, { ...listing, ...change }, PROVIDER_DEFAULTS);
const codeOf = (flags: WorkerFlags, change: Partial<NodeListing> = {}) => {
  try {
    configOf(flags, change);
    return "none";
  } catch (error) {
    return error instanceof InfernetError ? error.code : "bug";
  }
};

describe("a worker's settings", () => {
  it("follow the Registry: its endpoint, its port, its prices", () => {
    const config = configOf({});
    expect(config.endpoint).to.equal("https://node.example:8443");
    expect(config.listen).to.deep.equal({ host: "0.0.0.0", port: 8443 });
    expect(config.prices.byModel).to.deep.equal({ m: { inputPrice: 100n, outputPrice: 200n } });
    expect(configOf({}, { endpoint: "https://node.example" }).listen.port).to.equal(443);
  });

  it("listen on loopback for an endpoint of this machine, and where flags say", () => {
    expect(configOf({}, { endpoint: "https://127.0.0.1:8443" }).listen.host).to.equal("127.0.0.1");
    expect(configOf({ host: "10.0.0.1", port: 9 }).listen).to.deep.equal({ host: "10.0.0.1", port: 9 });
  });

  it("may undercut the Registry's prices, never exceed them", () => {
    const cheap = { name: "m", inputPrice: 0n, outputPrice: 200n };
    expect(configOf({ price: [cheap] }).prices.byModel.m).to.deep.equal({
      inputPrice: 0n,
      outputPrice: 200n,
    });
    expect(codeOf({ price: [{ ...cheap, outputPrice: 201n }] })).to.equal("bad-config");
    expect(codeOf({ price: [{ ...cheap, name: "other" }] })).to.equal("bad-config");
  });

  it("refuse an endpoint that the Registry does not list", () => {
    expect(codeOf({ endpoint: "https://node.example:8443/" })).to.equal("none");
    expect(codeOf({ endpoint: "https://node.example" })).to.equal("bad-config");
  });

  it("serve plain HTTP only on loopback, and only when asked to", () => {
    const endpoint = "http://127.0.0.1:8080";
    expect(codeOf({}, { endpoint })).to.equal("bad-config");
    expect(codeOf({ plainHttp: true })).to.equal("bad-config");
    expect(codeOf({ plainHttp: true, host: "0.0.0.0" }, { endpoint })).to.equal("bad-config");
    expect(configOf({ plainHttp: true }, { endpoint }).listen).to.deep.equal({
      host: "127.0.0.1",
      port: 8080,
    });
  });

  it("go to the chain at once, or when it is worth it", () => {
    const { settle } = configOf({ settle: "always", payout: "always" });
    expect(settle).to.include({ when: "always", payOutAtStop: true, payOutFeeMultiple: 0n });
    expect(configOf({ settle: "worth", payout: "worth" }).settle).to.include({
      when: "worth",
      payOutAtStop: false,
      payOutFeeMultiple: PROVIDER_DEFAULTS.settle.payOutFeeMultiple,
    });
  });

  it("tell metrics elsewhere only when asked to", () => {
    expect(configOf({}).metricsListen).to.equal(null);
    const metricsListen = { host: "10.0.0.1", port: 9464 };
    expect(configOf({ metricsListen }).metricsListen).to.deep.equal(metricsListen);
  });

  it("take limits from flags", () => {
    const config = configOf({ capacity: 9, maxTokens: 7, minDeposit: 5n, nativeUsdc: 3n });
    expect(config).to.include({ capacity: 9, maxCompletionTokens: 7, minDeposit: 5n });
    expect(config.settle.nativeUsdPrice).to.equal(3n);
  });
});
