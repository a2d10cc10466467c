import { chmodSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "chai";
import { type CommandLine, createCommandLine } from "../support/command-line.ts";

const ESCROW = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8";

describe("infernet config", function () {
  this.timeout(30_000);
  let user: CommandLine;
  const path = () => join(user.home, "config.json");
  const file = () => JSON.parse(readFileSync(path(), "utf8"));
  const config = (...args: string[]) => user.run(["config", ...args]);
  const json = async (...args: string[]) => JSON.parse((await config(...args, "--json")).stdout);

  beforeEach(async () => {
    user = await createCommandLine();
  });
  afterEach(() => user.remove());

  it("prints where the file is, though there is none or it is broken", async () => {
    expect((await config("path")).stdout).to.equal(`${path()}\n`);
    writeFileSync(path(), "{");
    expect((await config("path")).stdout).to.equal(`${path()}\n`);
    expect((await config("list")).exitCode).to.equal(2);
  });

  it("keeps checked settings in a file that only its owner reads", async () => {
    expect(await json("set", "rpcUrl", "https://rpc.example")).to.deep.equal({
      ...{ key: "rpcUrl", value: "https://rpc.example", path: path() },
    });
    await config("set", "chainId", "8453");
    await config("set", "escrow", ESCROW);
    await config("set", "requester.maxUsdcPerDay", "2.50");
    await config("set", "requester.maxUsdcPerJob", "0.5");
    expect(file()).to.deep.equal({
      ...{ rpcUrl: "https://rpc.example", chainId: 8453, escrow: ESCROW.toLowerCase() },
      requester: { maxUsdcPerDay: "2.50", maxUsdcPerJob: "0.5" },
    });
    expect(statSync(path()).mode & 0o777).to.equal(0o600);
    expect(readdirSync(user.home), "no draft is left").to.deep.equal(["config.json"]);
    expect((await config("get", "requester.maxUsdcPerDay")).stdout).to.equal("2.500000\n");
  });

  it("refuses a wrong key or value with 2, and changes nothing", async () => {
    await config("set", "chainId", "8453");
    const wrongs = [
      ["chainId", "many"],
      ["chainId", "0"],
      ["rpcUrl", "ftp://rpc.example"],
      ["escrow", "0x12"],
      ["logLevel", "loud"],
      ["allowPrivate", "maybe"],
      ["requester.maxUsdcPerJob", "much"],
      ["home", "/elsewhere"],
      ["requester", "1"],
      ["__proto__", "1"],
    ];
    for (const [key, value] of wrongs) {
      const { exitCode, stdout, stderr } = await config("set", key!, value!);
      expect([exitCode, stdout], key).to.deep.equal([2, ""]);
      expect(stderr, key).to.match(/^error: /);
    }
    expect(file()).to.deep.equal({ chainId: 8453 });
  });

  it("says where each value comes from: flag, variable, file or default", async () => {
    await config("set", "rpcUrl", "http://file.example");
    await config("set", "chainId", "8453");
    await config("set", "logLevel", "error");
    const env = { INFERNET_RPC_URL: "http://environment.example", INFERNET_MAX_USDC_PER_JOB: "3" };
    const listed = await user.run(["config", "list", "--json", "--log-level", "debug"], { env });
    const { settings } = JSON.parse(listed.stdout);
    expect(settings).to.deep.include.members([
      {
        ...{ key: "rpcUrl", value: "http://environment.example" },
        ...{ source: "environment", origin: "INFERNET_RPC_URL" },
      },
      { key: "chainId", value: 8453, source: "file", origin: null },
      { key: "registry", value: null, source: "unset", origin: null },
      { key: "escrow", value: null, source: "unset", origin: null },
      { key: "usdc", value: null, source: "unset", origin: null },
      { key: "deploymentFolder", value: null, source: "unset", origin: null },
      { key: "logLevel", value: "debug", source: "flag", origin: "--log-level" },
      {
        ...{ key: "requester.maxUsdcPerJob", value: "3.000000" },
        ...{ source: "environment", origin: "INFERNET_MAX_USDC_PER_JOB" },
      },
      { key: "requester.maxUsdcPerDay", value: "10.000000", source: "default", origin: null },
    ]);
    expect((await config("list")).stdout)
      .to.contain(path())
      .and.contain("default");
  });

  it("takes settings out, those too that were never any, so that a file can be mended", async () => {
    writeFileSync(
      path(),
      JSON.stringify({ chainId: "many", colour: "red", requester: { maxUsdcPerJob: 1 } }),
    );
    expect((await config("list")).exitCode).to.equal(2);
    expect(await json("unset", "colour")).to.deep.equal({ key: "colour", removed: true, path: path() });
    expect((await json("unset", "requester.maxUsdcPerJob")).removed).to.equal(true);
    expect((await config("set", "chainId", "1")).exitCode).to.equal(0);
    expect((await json("unset", "rpcUrl")).removed).to.equal(false);
    expect((await config("unset", "size")).exitCode).to.equal(2);
    expect(file()).to.deep.equal({ chainId: 1, requester: {} });
    expect((await config("get", "rpcUrl")).stdout).to.equal("http://127.0.0.1:8545\n");
    expect((await config("get", "registry")).exitCode).to.equal(2);
  });

  it("never touches a file that it cannot understand, nor a folder that it cannot write", async () => {
    writeFileSync(path(), "not JSON");
    expect((await config("set", "chainId", "1")).exitCode).to.equal(2);
    expect(readFileSync(path(), "utf8")).to.equal("not JSON");
    const { exitCode, stderr } = await config("set", "chainId", "1", "--home", join(path(), "inside"));
    expect([exitCode, /^error: /.test(stderr)], stderr).to.deep.equal([2, true]);
    writeFileSync(path(), "{}");
    chmodSync(path(), 0o644);
    await config("set", "chainId", "1");
    expect(statSync(path()).mode & 0o777).to.equal(0o600);
  });
});
