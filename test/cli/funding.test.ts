import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { expect } from "chai";
import { type CommandLine, createCommandLine } from "../support/command-line.ts";
import { type LocalChain, startLocalChain } from "../support/local-chain.ts";

const NO_PASSPHRASE = { INFERNET_PASSPHRASE: "" };
const QR_BLOCK = /[▀▄█]/;

/** The first event of this name that a command with --json tells on stderr. */
async function eventOf(child: ChildProcess, name: string): Promise<Record<string, string>> {
  for await (const line of createInterface({ input: child.stderr! })) {
    const event = JSON.parse(line);
    if (event.event === name) return event;
  }
  throw new Error(`the command ended before "${name}"`);
}

describe("a wallet without money, on a real chain", function () {
  this.timeout(60_000);
  let chain: LocalChain;
  let user: CommandLine;

  before(async () => {
    chain = await startLocalChain();
  });
  after(() => chain.stop());
  beforeEach(async () => {
    user = await createCommandLine(chain);
  });
  afterEach(() => user.remove());

  const addressOf = async () => (await user.run(["wallet", "address"])).stdout.trim() as `0x${string}`;

  it("is made by the first deposit, which then says what to send, where, and on which network", async () => {
    const { exitCode, stdout, stderr } = await user.run(["wallet", "deposit", "5"]);
    expect([exitCode, stdout]).to.deep.equal([3, ""]);
    const address = await addressOf();
    expect(stderr).to.contain("at least 5.000000 USDC").and.contain(address);
    expect(stderr).to.contain("a local test chain (chain id 31337)");
    expect(stderr, "no QR code where no terminal shows it").to.not.match(QR_BLOCK);
  });

  it("is told to programs with a link that wallets read, and the figures in the error", async () => {
    await user.run(["wallet", "create"]);
    const address = await addressOf();
    await chain.mintUsdc(address, 1_500_000n);
    const { exitCode, stderr } = await user.run(["wallet", "deposit", "5", "--json"]);
    expect(exitCode).to.equal(3);
    const [missing, failed] = stderr
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
    expect(missing).to.deep.equal({
      ...{ event: "fundsMissing", address, chainId: 31_337, network: "a local test chain", asset: "usdc" },
      amountUsdc: "3.500000",
      uri: `ethereum:${chain.deployment.usdc}@31337/transfer?address=${address}&uint256=3500000`,
    });
    expect(failed.error).to.include({ code: "insufficient-funds", needed: "5000000", wallet: "1500000" });
  });

  it("tells only the error with --quiet", async () => {
    await user.run(["wallet", "create"]);
    const { stderr } = await user.run(["wallet", "deposit", "5", "--quiet"]);
    expect(stderr).to.match(/^error: .*\nhint: .*\n$/);
  });

  it("is never made without a passphrase", async () => {
    const { exitCode, stderr } = await user.run(["wallet", "deposit", "5"], { env: NO_PASSPHRASE });
    expect(exitCode).to.equal(2);
    expect(stderr).to.contain("INFERNET_PASSPHRASE");
    expect(existsSync(join(user.home, "wallet.json"))).to.equal(false);
  });

  it("waits for USDC and then for gas, and goes on by itself when each arrives", async () => {
    await user.run(["wallet", "create"]);
    const address = await addressOf();
    const child = user.start(["wallet", "deposit", "2", "--wait-funds", "--json"]);
    let result = "";
    child.stdout!.setEncoding("utf8").on("data", (part) => {
      result += part;
    });
    const lines = createInterface({ input: child.stderr! })[Symbol.asyncIterator]();
    const next = async () => JSON.parse((await lines.next()).value ?? "");
    expect(await next()).to.include({ event: "fundsMissing", asset: "usdc", amountUsdc: "2.000000" });
    await chain.mintUsdc(address, 2_000_000n);
    expect(await next()).to.include({ event: "fundsArrived" });
    const gas = await next();
    expect(gas).to.include({ event: "fundsMissing", asset: "native" });
    expect(gas.uri).to.equal(`ethereum:${address}@31337?value=${gas.amountWei}`);
    await chain.fundNative(address, 10n ** 18n);
    expect(await next()).to.include({ event: "fundsArrived" });
    const [exitCode] = await once(child, "close");
    expect(exitCode).to.equal(0);
    expect(JSON.parse(result)).to.include({ amountUsdc: "2.000000", creditUsdc: "2.000000" });
  });

  it("ends with 3 when the money does not come in the time given", async () => {
    const { exitCode, stderr } = await user.run(["wallet", "deposit", "2", "--wait-funds", "1s"]);
    expect(exitCode, stderr).to.equal(3);
  });

  it("ends its wait with 130 on Ctrl-C, with nothing changed", async () => {
    const child = user.start(["wallet", "deposit", "2", "--wait-funds", "--json"]);
    await eventOf(child, "fundsMissing");
    child.kill("SIGINT");
    expect((await once(child, "close"))[0]).to.equal(130);
  });

  it("shows address, network and a QR code in a terminal, after a passphrase was chosen there", async () => {
    const session = user.startInTerminal(["wallet", "deposit", "5"], { env: NO_PASSPHRASE });
    await session.sees("Choose a passphrase");
    session.type("correct horse\r");
    await session.sees("The same passphrase again");
    session.type("correct horse\r");
    const { exitCode, shown } = await session.end();
    expect(exitCode, shown).to.equal(3);
    expect(shown)
      .to.contain(await addressOf())
      .and.match(QR_BLOCK);
    expect(shown).to.not.contain("correct horse");
  });

  it("is interrupted in the middle of a question by Ctrl-C, with nothing made", async () => {
    const session = user.startInTerminal(["wallet", "deposit", "5"], { env: NO_PASSPHRASE });
    await session.sees("Choose a passphrase");
    session.type("corr\x03");
    const { exitCode, shown } = await session.end();
    expect(exitCode, shown).to.equal(130);
    expect(existsSync(join(user.home, "wallet.json"))).to.equal(false);
  });

  describe("infernet wallet fund", () => {
    beforeEach(() => user.run(["wallet", "create"]));

    it("prints where to send USDC, and a QR code in a terminal only", async () => {
      const address = await addressOf();
      const piped = await user.run(["wallet", "fund", "--amount", "2.5"]);
      expect(piped.exitCode, piped.stderr).to.equal(0);
      expect(piped.stdout).to.contain(address).and.contain("2.500000 USDC").and.not.match(QR_BLOCK);
      const { shown } = await user.startInTerminal(["wallet", "fund"]).end();
      expect(shown).to.contain(address).and.match(QR_BLOCK);
      const quiet = await user.startInTerminal(["wallet", "fund", "--quiet"]).end();
      expect(quiet.shown).to.contain(address).and.not.match(QR_BLOCK);
    });

    it("waits until as much as was asked for has come", async () => {
      const address = await addressOf();
      await chain.mintUsdc(address, 7n);
      const child = user.start(["wallet", "fund", "--amount", "1", "--wait-funds", "--json"]);
      let result = "";
      child.stdout!.setEncoding("utf8").on("data", (part) => {
        result += part;
      });
      await eventOf(child, "fundsAwaited");
      await chain.mintUsdc(address, 1_000_000n);
      const [exitCode] = await once(child, "close");
      expect(exitCode).to.equal(0);
      expect(JSON.parse(result)).to.include({ address, amountUsdc: "1.000000", walletUsdc: "1.000007" });
    });
  });
});
