import { chmodSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "chai";
import { encryptKeystoreJsonSync, Wallet } from "ethers";
import { loadKey, readKeystoreAddress, saveKey } from "../../../runtime/signers/keystore.ts";
import { addressOf, generatePrivateKey } from "../../../runtime/signers/secp256k1.ts";
import { failureOf, temporaryFolder } from "../../support/machine.ts";

const QUICK = { scryptN: 1024 };

/** The test vector of the Web3 Secret Storage definition (its other one has scrypt figures outside RFC 7914). */
const VECTOR = {
  address: "008aeeda4d805471df9b2a5b0f38a0c3bcba786b",
  crypto: {
    cipher: "aes-128-ctr",
    cipherparams: { iv: "6087dab2f9fdbbfaddc31a909735c1e6" },
    ciphertext: "5318b4d5bcd28de64ee5559e671353e16f075ecae9f99c7a79a38af5f869aa46",
    kdf: "pbkdf2",
    kdfparams: {
      c: 262144,
      dklen: 32,
      prf: "hmac-sha256",
      salt: "ae3cd4e7013836a3df6bd7241b12db061dbe2c6785853cce422d148a624ce0bd",
    },
    mac: "517ead924a9d0dc3124507e3393d175ce3ff7c1e96529c6c555ce9e51205e9b2",
  },
  id: "3198bc9c-6672-5ab3-d995-4942343ae5b6",
  version: 3,
} as const;

describe("keystore", () => {
  let path: string;
  const key = generatePrivateKey();

  beforeEach(() => {
    path = join(temporaryFolder(), "keys", "wallet.json");
  });

  const write = (contents: unknown, mode = 0o600) => {
    path = join(temporaryFolder(), "wallet.json");
    writeFileSync(path, typeof contents === "string" ? contents : JSON.stringify(contents), { mode });
  };

  it("gives back the key that it was given, to the passphrase in any Unicode form", async () => {
    await saveKey(path, key, "pässword", QUICK);
    expect(await loadKey(path, "pa\u0308ssword")).to.equal(key);
    expect(readKeystoreAddress(path)).to.equal(addressOf(key));
  });

  it("costs a guesser 128 MiB a try unless told otherwise, and holds no key in the clear", async function () {
    this.timeout(20_000);
    await saveKey(path, key, "passphrase");
    const text = readFileSync(path, "utf8");
    expect(JSON.parse(text).Crypto.kdfparams).to.include({ n: 131_072, r: 8, p: 1 });
    expect(text).to.not.contain(key.slice(2));
    expect(await loadKey(path, "passphrase")).to.equal(key);
  });

  it("is read by another wallet, and reads another wallet's", async () => {
    await saveKey(path, key, "passphrase", QUICK);
    const wallet = Wallet.fromEncryptedJsonSync(readFileSync(path, "utf8"), "passphrase");
    expect((wallet as Wallet).privateKey).to.equal(key);
    const theirs = encryptKeystoreJsonSync({ address: wallet.address, privateKey: key }, "theirs", {
      scrypt: { N: 512 },
    });
    write(theirs);
    expect(await loadKey(path, "theirs")).to.equal(key);
  });

  it("opens the published test vector", async () => {
    write(VECTOR);
    expect(await loadKey(path, "testpassword")).to.equal(
      "0x7a28b5ba57c53603b0b07b56bba752f7784bf506fa95edc395f5cf6c7514fe9d",
    );
    expect(readKeystoreAddress(path)).to.equal(`0x${VECTOR.address}`);
  });

  it("is a file of its owner's alone, whole or absent", async () => {
    await saveKey(path, key, "passphrase", QUICK);
    expect(statSync(path).mode & 0o777).to.equal(0o600);
    expect(readdirSync(join(path, ".."))).to.deep.equal(["wallet.json"]);
  });

  it("never overwrites a key", async () => {
    await saveKey(path, key, "passphrase", QUICK);
    const error = await failureOf(() => saveKey(path, generatePrivateKey(), "other", QUICK));
    expect(error.code).to.equal("bad-config");
    expect(await loadKey(path, "passphrase")).to.equal(key);
  });

  it("lets one of two writers at the same time win", async () => {
    const outcomes = await Promise.allSettled([
      saveKey(path, key, "passphrase", QUICK),
      saveKey(path, key, "passphrase", QUICK),
    ]);
    expect(outcomes.map(({ status }) => status).sort()).to.deep.equal(["fulfilled", "rejected"]);
    expect(await loadKey(path, "passphrase")).to.equal(key);
  });

  it("tells a wrong passphrase, without repeating it", async () => {
    await saveKey(path, key, "passphrase", QUICK);
    const error = await failureOf(() => loadKey(path, "wrong horse"));
    expect(error.code).to.equal("wrong-passphrase");
    expect(`${error.message} ${error.hint} ${error.cause}`).to.not.contain("wrong horse");
  });

  it("tells a missing file", async () => {
    expect((await failureOf(() => loadKey(path, "passphrase"))).code).to.equal("wallet-missing");
    expect((await failureOf(() => readKeystoreAddress(path))).code).to.equal("wallet-missing");
  });

  it("refuses a file that others can read, and says the command that mends it", async () => {
    await saveKey(path, key, "passphrase", QUICK);
    for (const mode of [0o640, 0o604, 0o644]) {
      chmodSync(path, mode);
      for (const act of [() => loadKey(path, "passphrase"), () => readKeystoreAddress(path)]) {
        const error = await failureOf(act);
        expect(error.code).to.equal("bad-config");
        expect(error.hint).to.equal(`Run: chmod 600 ${path}`);
      }
    }
  });

  it("refuses what is no key file", async () => {
    const broken = [
      "",
      "not JSON",
      "[]",
      { version: 1 },
      { ...VECTOR, crypto: {} },
      { ...VECTOR, crypto: { ...VECTOR.crypto, cipher: "rot13" } },
    ];
    for (const contents of broken) {
      write(contents);
      const error = await failureOf(() => loadKey(path, "testpassword"));
      expect(error.code, JSON.stringify(contents)).to.equal("bad-config");
    }
    for (const contents of ["", "not JSON", "[]", { address: 5 }, { address: "xyz" }]) {
      write(contents);
      expect((await failureOf(() => readKeystoreAddress(path))).code).to.equal("bad-config");
    }
  });

  it("refuses a file whose address was exchanged", async () => {
    await saveKey(path, key, "passphrase", QUICK);
    const forged = { ...JSON.parse(readFileSync(path, "utf8")), address: "00".repeat(20) };
    write(forged);
    expect((await failureOf(() => loadKey(path, "passphrase"))).code).to.equal("bad-config");
  });

  it("says when the folder cannot be written", async () => {
    write("a file");
    const error = await failureOf(() => saveKey(join(path, "wallet.json"), key, "passphrase", QUICK));
    expect(error.code).to.equal("bad-config");
  });
});
