import { stat } from "node:fs/promises";
import { expect } from "chai";
import { loadKey } from "../../runtime/signers/keystore.ts";
import { type CommandLine, createCommandLine } from "../support/command-line.ts";
import { type LocalChain, startLocalChain } from "../support/local-chain.ts";

const STRANGER = "0x00000000000000000000000000000000000000aa";

describe("infernet wallet, on a real chain", function () {
  this.timeout(60_000);
  let chain: LocalChain;
  let user: CommandLine;
  let address: `0x${string}`;

  const json = async (...args: string[]) => {
    const { exitCode, stdout, stderr } = await user.run([...args, "--json"]);
    return { exitCode, result: stdout ? JSON.parse(stdout) : undefined, stderr };
  };

  before(async () => {
    chain = await startLocalChain();
    user = await createCommandLine(chain);
  });
  after(async () => {
    await user.remove();
    await chain.stop();
  });

  it("creates a key file that only its owner may read, and that the passphrase opens", async () => {
    const { exitCode, result } = await json("wallet", "create");
    expect(exitCode).to.equal(0);
    expect(result).to.have.all.keys("address", "path");
    address = result.address;
    expect((await stat(result.path)).mode & 0o777).to.equal(0o600);
    expect(await loadKey(result.path, "correct horse")).to.match(/^0x[0-9a-f]{64}$/);
  });

  it("never overwrites a key", async () => {
    const { exitCode, stderr } = await json("wallet", "create");
    expect(exitCode).to.equal(2);
    expect(JSON.parse(stderr).error.code).to.equal("bad-config");
    expect((await json("wallet", "address")).result.address).to.equal(address);
  });

  it("prints the bare address for scripts", async () => {
    expect((await user.run(["wallet", "address"])).stdout).to.equal(`${address}\n`);
  });

  it("says how to get gas when there is none, and moves nothing", async () => {
    await chain.mintUsdc(address, 5_000_000n);
    const { exitCode, stderr } = await json("wallet", "deposit", "1");
    expect(exitCode).to.equal(3);
    const { error } = JSON.parse(stderr.trim().split("\n").at(-1)!);
    expect(error.code).to.equal("insufficient-funds");
    expect(`${error.message} ${error.hint}`).to.contain(address);
  });

  it("deposits, shows and withdraws to the base unit", async () => {
    await chain.fundNative(address, 10n ** 18n);
    const deposited = await json("wallet", "deposit", "2.000001");
    expect(deposited.exitCode, deposited.stderr).to.equal(0);
    expect(deposited.result).to.include({ owner: address, amountUsdc: "2.000001", creditUsdc: "2.000001" });
    const { transactions } = deposited.result;
    expect(transactions.map(({ label }: { label: string }) => label)).to.deep.equal(["approve", "deposit"]);
    expect(transactions[1]).to.have.all.keys("label", "tx", "block", "gasUsed", "feeWei");

    const { result: balance } = await json("wallet", "balance");
    expect(balance).to.include({ address, chainId: 31337, walletUsdc: "2.999999", creditUsdc: "2.000001" });
    expect(balance).to.include({ earnedUsdc: "0.000000" });
    expect(BigInt(balance.nativeWei) > 0n).to.equal(true);

    const withdrawn = await json("wallet", "withdraw", "0.5", "--to", STRANGER);
    expect(withdrawn.result).to.include({ to: STRANGER, amountUsdc: "0.500000", creditUsdc: "1.500001" });
    const rest = await json("wallet", "withdraw", "all");
    expect(rest.result).to.include({ to: address, amountUsdc: "1.500001", creditUsdc: "0.000000" });
    const { result: stranger } = await json("wallet", "balance", "--address", STRANGER);
    expect(stranger.walletUsdc).to.equal("0.500000");
  });

  it("refuses to deposit or withdraw more than there is, with exit code 3", async () => {
    expect((await json("wallet", "deposit", "1000")).exitCode).to.equal(3);
    expect((await json("wallet", "withdraw", "0.000001")).exitCode).to.equal(3);
    expect((await json("wallet", "withdraw", "all")).exitCode).to.equal(3);
  });

  it("ends with 8 when the passphrase is wrong", async () => {
    const { exitCode, stderr } = await user.run(["wallet", "withdraw", "all"], {
      env: { INFERNET_PASSPHRASE: "battery staple" },
    });
    expect(exitCode).to.equal(8);
    expect(stderr).to.contain("passphrase").and.to.not.contain("battery");
  });

  it("refuses a chain that is not the one asked for", async () => {
    const { exitCode, stderr } = await json("wallet", "balance", "--chain-id", "8453");
    expect(exitCode).to.equal(7);
    expect(JSON.parse(stderr).error.code).to.equal("wrong-chain");
  });

  it("lists nothing on an empty Registry, as an empty list", async () => {
    expect((await json("nodes")).result).to.deep.equal({ nodes: [] });
    expect((await json("models")).result).to.deep.equal({ models: [] });
    expect((await user.run(["nodes"])).stdout).to.equal("No node is registered that fits.\n");
  });
});
