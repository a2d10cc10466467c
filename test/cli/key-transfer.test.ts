import { existsSync, statSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "chai";
import { Wallet } from "ethers";
import { loadKey } from "../../runtime/signers/keystore.ts";
import { addressOf } from "../../runtime/signers/secp256k1.ts";
import { type CommandLine, createCommandLine } from "../support/command-line.ts";

const KEY = `0x${"4c".repeat(32)}` as const;
const ADDRESS = addressOf(KEY);

describe("infernet wallet import and export", function () {
  this.timeout(60_000);
  let user: CommandLine;
  const walletFile = () => join(user.home, "wallet.json");

  beforeEach(async () => {
    user = await createCommandLine();
  });
  afterEach(() => user.remove());

  it("takes a private key from standard input into a key file that only its owner reads", async () => {
    const { exitCode, stdout, stderr } = await user.run(["wallet", "import", "--json"], {
      stdin: `${KEY}\n`,
    });
    expect(exitCode, stderr).to.equal(0);
    expect(JSON.parse(stdout)).to.deep.equal({ address: ADDRESS, path: walletFile() });
    expect(statSync(walletFile()).mode & 0o777).to.equal(0o600);
    expect(await loadKey(walletFile(), "correct horse")).to.equal(KEY);
    expect(stderr).to.not.contain(KEY.slice(2));
  });

  it("takes a keystore of another wallet, which keeps its passphrase", async () => {
    const keystore = join(user.home, "UTC--other.json");
    await writeFile(keystore, new Wallet(KEY).encryptSync("correct horse"));
    const wrong = await user.run(["wallet", "import", "--file", keystore], {
      env: { INFERNET_PASSPHRASE: "battery staple" },
    });
    expect([wrong.exitCode, existsSync(walletFile())]).to.deep.equal([8, false]);
    const right = await user.run(["wallet", "import", "--file", keystore]);
    expect(right.exitCode, right.stderr).to.equal(0);
    expect(right.stdout).to.contain(ADDRESS);
    expect(await loadKey(walletFile(), "correct horse")).to.equal(KEY);
  });

  it("refuses what is no key, and never tells it on", async () => {
    const wrongs = ["", "hello", `${KEY}4c`, "{}", "{", `0x${"00".repeat(32)}`, `0x${"ff".repeat(32)}`];
    for (const stdin of wrongs) {
      const { exitCode, stdout, stderr } = await user.run(["wallet", "import"], { stdin });
      expect([exitCode, stdout], stdin).to.deep.equal([2, ""]);
      if (stdin.length > 2) expect(stderr, stdin).to.not.contain(stdin);
    }
    expect(existsSync(walletFile())).to.equal(false);
  });

  it("never overwrites a key, and has no flag for one", async () => {
    await user.run(["wallet", "create"]);
    const before = await readFile(walletFile(), "utf8");
    expect((await user.run(["wallet", "import"], { stdin: KEY })).exitCode).to.equal(2);
    expect((await user.run(["wallet", "import", KEY])).exitCode).to.equal(2);
    expect(await readFile(walletFile(), "utf8")).to.equal(before);
  });

  it("exports the encrypted file to standard output, or to a new file of mode 0600", async () => {
    await user.run(["wallet", "import"], { stdin: KEY });
    const piped = await user.run(["wallet", "export"], { env: { INFERNET_PASSPHRASE: "" } });
    expect(piped.exitCode, piped.stderr).to.equal(0);
    expect((await Wallet.fromEncryptedJson(piped.stdout, "correct horse")).privateKey).to.equal(KEY);
    const out = join(user.home, "copy.json");
    const written = await user.run(["wallet", "export", "--out", out, "--json"]);
    expect(JSON.parse(written.stdout)).to.deep.equal({ address: ADDRESS, path: out });
    expect(statSync(out).mode & 0o777).to.equal(0o600);
    expect(await readFile(out, "utf8")).to.equal(await readFile(walletFile(), "utf8"));
    expect((await user.run(["wallet", "export", "--out", out])).exitCode).to.equal(2);
  });

  it("gives out the bare key only to who says --yes where nobody can be asked", async () => {
    await user.run(["wallet", "import"], { stdin: KEY });
    const asked = await user.run(["wallet", "export", "--private-key"]);
    expect([asked.exitCode, asked.stdout]).to.deep.equal([2, ""]);
    expect(asked.stderr).to.contain("--yes");
    const sure = await user.run(["wallet", "export", "--private-key", "--yes", "--log-level", "debug"]);
    expect([sure.exitCode, sure.stdout, sure.stderr]).to.deep.equal([0, `${KEY}\n`, ""]);
    const wrong = await user.run(["wallet", "export", "--private-key", "--yes"], {
      env: { INFERNET_PASSPHRASE: "battery staple" },
    });
    expect([wrong.exitCode, wrong.stdout]).to.deep.equal([8, ""]);
  });

  it("imports, shows and exports the node's key with --node-key", async () => {
    await user.run(["wallet", "import", "--node-key"], { stdin: KEY });
    expect(existsSync(walletFile())).to.equal(false);
    expect((await user.run(["wallet", "address", "--node-key"])).stdout).to.equal(`${ADDRESS}\n`);
    const { stdout } = await user.run(["wallet", "export", "--node-key", "--private-key", "--yes"]);
    expect(stdout).to.equal(`${KEY}\n`);
    expect((await user.run(["wallet", "export"])).exitCode).to.equal(8);
  });

  it("asks in a terminal: the key unseen, a passphrase twice, and the end of the address before it shows a key", async () => {
    const env = { INFERNET_PASSPHRASE: "" };
    const importing = user.startInTerminal(["wallet", "import"], { env });
    await importing.sees("Private key or keystore JSON");
    importing.type(`${KEY}\r`);
    await importing.sees("Choose a passphrase");
    importing.type("correct horse\r");
    await importing.sees("again");
    importing.type("correct horse\r");
    const imported = await importing.end();
    expect(imported.exitCode, imported.shown).to.equal(0);
    expect(imported.shown).to.contain(ADDRESS).and.not.contain(KEY.slice(2));

    const refused = user.startInTerminal(["wallet", "export", "--private-key"], { env });
    await refused.sees("to go on");
    refused.type("yes\r");
    expect((await refused.end()).exitCode).to.equal(2);

    const exporting = user.startInTerminal(["wallet", "export", "--private-key"], { env });
    await exporting.sees("to go on");
    exporting.type(`${ADDRESS.slice(-6)}\r`);
    await exporting.sees("Passphrase of the wallet key");
    exporting.type("correct horse\r");
    const exported = await exporting.end();
    expect(exported.exitCode, exported.shown).to.equal(0);
    expect(exported.shown).to.contain(KEY);
  });
});
