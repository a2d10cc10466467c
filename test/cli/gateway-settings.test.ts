// How the gateway is set: flags over variables over the file over defaults, and a token that is no flag.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "chai";
import { readGatewaySettings } from "../../cli/gateway-settings.ts";
import { InfernetError } from "../../protocol/errors.ts";
import { temporaryFolder } from "../support/machine.ts";

const TOKEN = "a-token-that-is-long-enough";

describe("the gateway's settings", () => {
  let home: string;
  beforeEach(() => {
    home = temporaryFolder();
  });
  const keep = (gateway: unknown) => writeFileSync(join(home, "config.json"), JSON.stringify({ gateway }));
  const read = (flags: Record<string, unknown> = {}, env: Record<string, string> = {}) =>
    readGatewaySettings({ home, env, flags });
  const errorOf = (flags: Record<string, unknown>, env: Record<string, string> = {}) => {
    try {
      read(flags, env);
    } catch (error) {
      if (error instanceof InfernetError) return `${error.code}: ${error.message}`;
    }
    return "none";
  };

  it("are the loopback, port 8402 and no token unless told otherwise", () => {
    expect(read()).to.deep.equal({
      ...{ host: "127.0.0.1", port: 8402, token: undefined, maxPrice: undefined },
    });
  });

  it("come from flags, else INFERNET_GATEWAY_ variables, else the file", () => {
    keep({ port: 1, host: "::1", maxPrice: "1:2" });
    const env = { INFERNET_GATEWAY_PORT: "2", INFERNET_GATEWAY_MAX_PRICE: "0.5:1.5" };
    expect(read({ port: "3" }, env)).to.deep.include({
      ...{ port: 3, host: "::1" },
      maxPrice: { inputPrice: 500_000n, outputPrice: 1_500_000n },
    });
  });

  it("take the token from a file that is named, else from INFERNET_GATEWAY_TOKEN", () => {
    const path = join(home, "token");
    writeFileSync(path, `${TOKEN}\n`);
    expect(read({}, { INFERNET_GATEWAY_TOKEN: "another-token-that-is-long" }).token).to.match(/^another/);
    expect(
      read({ tokenFile: path }, { INFERNET_GATEWAY_TOKEN: "another-token-that-is-long" }).token,
    ).to.equal(TOKEN);
    keep({ tokenFile: path });
    expect(read().token).to.equal(TOKEN);
  });

  it("refuse what is wrong, naming it and where it came from, and no token in full", () => {
    expect(errorOf({ port: "70000" })).to.match(/^bad-config: flags: --port/);
    expect(errorOf({ maxPrice: "1" })).to.match(/--max-price.*IN:OUT/);
    expect(errorOf({ host: "http://127.0.0.1" })).to.match(/--host/);
    expect(errorOf({}, { INFERNET_GATEWAY_MAX_PRICE: "much" })).to.match(/INFERNET_GATEWAY_MAX_PRICE/);
    expect(errorOf({ tokenFile: join(home, "none") })).to.match(/bad-config: cannot read .*ENOENT/);
    for (const token of ["short", "with a space in the middle"]) {
      const told = errorOf({}, { INFERNET_GATEWAY_TOKEN: token });
      expect(told).to.match(/16 visible characters/);
      expect(told).not.to.contain(token);
    }
    keep("8402");
    expect(errorOf({})).to.match(/"gateway" in config\.json must be an object/);
  });
});
