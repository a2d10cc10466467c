import { createRequire } from "node:module";
import { expect } from "chai";
import { computeAddress, SigningKey, Signature as WalletSignature } from "ethers";
import fc from "fast-check";
import { compactSignatureToSignature, parseCompactSignature, recoverAddress, serializeSignature } from "viem";
import { privateKeyToAccount, sign } from "viem/accounts";
import { concatBytes, fromHex, type Hex, keccak256, toAddress, toHex } from "../../../protocol/bytes.ts";
import {
  addressOf,
  createSigner,
  deriveSecret,
  generatePrivateKey,
  recoverSigner,
  toCompactSignature,
} from "../../../runtime/signers/secp256k1.ts";
import { failureOf } from "../../support/machine.ts";
import { hexOf, holds, holdsAsync } from "../../support/properties.ts";

const fallback = createRequire(import.meta.url)("secp256k1/elliptic") as typeof import("secp256k1");

const ORDER = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n;
const wordHex = (value: bigint): Hex => `0x${value.toString(16).padStart(64, "0")}`;
const privateKeys = fc.bigInt(1n, ORDER - 1n).map(wordHex);

/** The same signature with s and parity mirrored: as valid to plain ECDSA, refused by the Escrow. */
function withHighS(signature: Hex): Hex {
  const s = ORDER - BigInt(`0x${signature.slice(66, 130)}`);
  const v = signature.endsWith("1b") ? "1c" : "1b";
  return `0x${signature.slice(2, 66)}${wordHex(s).slice(2)}${v}`;
}

describe("secp256k1 signer", () => {
  it("has the address that ethers and viem give the key", () => {
    const same = fc.property(privateKeys, (key) => {
      expect(addressOf(key)).to.equal(toAddress(computeAddress(key)));
      expect(createSigner(key).address).to.equal(toAddress(privateKeyToAccount(key).address));
    });
    holds(same, 30);
  });

  it("signs byte for byte what ethers and viem sign", async () => {
    const same = fc.asyncProperty(privateKeys, hexOf(32), async (key, digest) => {
      const signature = createSigner(key).signDigest(digest);
      expect(signature).to.equal(new SigningKey(key).sign(digest).serialized);
      expect(signature).to.equal(await sign({ hash: digest, privateKey: key, to: "hex" }));
    });
    await holdsAsync(same, 30);
  });

  it("is recovered by viem and ethers from the compact form, and recovers both forms itself", async () => {
    const same = fc.asyncProperty(privateKeys, hexOf(32), async (key, hash) => {
      const signer = createSigner(key);
      const signature = signer.signDigest(hash);
      const compact = toCompactSignature(signature);
      expect(compact).to.equal(WalletSignature.from(signature).compactSerialized);
      const expanded = serializeSignature(compactSignatureToSignature(parseCompactSignature(compact)));
      expect(toAddress(await recoverAddress({ hash, signature: expanded }))).to.equal(signer.address);
      expect(recoverSigner(hash, signature)).to.equal(signer.address);
      expect(recoverSigner(hash, compact)).to.equal(signer.address);
    });
    await holdsAsync(same, 30);
  });

  it("does the same in the JavaScript that stands in where there is no native code", () => {
    const same = fc.property(privateKeys, hexOf(32), (key, digest) => {
      const { signature, recid } = fallback.ecdsaSign(fromHex(digest), fromHex(key));
      const whole = toHex(concatBytes(signature, Uint8Array.of(27 + recid)));
      expect(createSigner(key).signDigest(digest)).to.equal(whole);
      const publicKey = fallback.ecdsaRecover(signature, recid, fromHex(digest), false);
      expect(recoverSigner(digest, whole)).to.equal(`0x${keccak256(publicKey.subarray(1)).slice(-40)}`);
    });
    holds(same, 20);
  });

  it("signs with a low s, and takes no high s in any form", () => {
    const lowOnly = fc.property(privateKeys, hexOf(32), (key, digest) => {
      const signature = createSigner(key).signDigest(digest);
      expect(BigInt(`0x${signature.slice(66, 130)}`) <= ORDER / 2n).to.equal(true);
      const high = withHighS(signature);
      expect(recoverSigner(digest, high)).to.equal(undefined);
      expect(() => toCompactSignature(high)).to.throw("low s");
    });
    holds(lowOnly);
  });

  it("takes the largest low s and refuses the next", () => {
    const digest = wordHex(7n);
    const signed = (s: bigint): Hex => `0x${wordHex(1n).slice(2)}${wordHex(s).slice(2)}1b`;
    expect(recoverSigner(digest, signed(ORDER / 2n))).to.match(/^0x[0-9a-f]{40}$/);
    expect(recoverSigner(digest, signed(ORDER / 2n + 1n))).to.equal(undefined);
  });

  it("finds no signer in malformed signatures", () => {
    const digest = wordHex(7n);
    const valid = createSigner(wordHex(1n)).signDigest(digest);
    const rs = valid.slice(2, 130);
    const zero = "00".repeat(32);
    const malformed = [
      "0x",
      `0x${rs}`.slice(0, -2),
      `0x${rs}00`,
      `0x${rs}01`,
      `0x${rs}1d`,
      `0x${rs}1b1b`,
      `0x${zero}${rs.slice(64)}1b`,
      `0x${rs.slice(0, 64)}${zero}1b`,
      `0x${"ff".repeat(32)}${rs.slice(64)}1b`,
      valid.toUpperCase(),
      "hello",
    ];
    for (const signature of malformed)
      expect(recoverSigner(digest, signature as Hex), signature).to.equal(undefined);
  });

  it("finds another signer, or none, for any other digest", () => {
    const signer = createSigner(wordHex(1n));
    const other = fc.property(hexOf(32), (digest) => {
      expect(recoverSigner(digest, signer.signDigest(wordHex(7n)))).to.not.equal(signer.address);
    });
    holds(other);
  });

  it("refuses what is no private key, and does not repeat it", async () => {
    for (const key of ["0x", wordHex(0n), wordHex(ORDER), "0xabc", "not a key"]) {
      const error = await failureOf(() => createSigner(key as Hex));
      expect(error.code).to.equal("bad-config");
      expect(`${error.message} ${error.hint}`).to.not.contain(key.slice(2, 20) || "\0");
    }
  });

  it("refuses a digest that is not 32 bytes", () => {
    expect(() => createSigner(wordHex(1n)).signDigest("0x1234")).to.throw("32 bytes");
    expect(() => recoverSigner("0x1234", `0x${"11".repeat(64)}`)).to.throw("32 bytes");
  });

  it("generates keys that work and differ", () => {
    const keys = new Set(Array.from({ length: 20 }, generatePrivateKey));
    expect(keys.size).to.equal(20);
    for (const key of keys) expect(addressOf(key)).to.match(/^0x[0-9a-f]{40}$/);
  });
});

describe("derived secrets", () => {
  const seed = `0x${"0b".repeat(32)}` as const;

  it('are HKDF-SHA256 of the seed with salt "infernet" and the label as info', () => {
    // Made with: openssl kdf -keylen 32 -kdfopt digest:SHA256 -kdfopt hexkey:0b… -kdfopt salt:infernet -kdfopt info:label HKDF
    expect(deriveSecret(seed, "label")).to.equal(
      "0xd5b8f782ca9c7ce560d8a7a268c427cc4f2ef624862c777457019689037b51e9",
    );
  });

  it("differ by label and by seed", () => {
    const secrets = [
      deriveSecret(seed, "a"),
      deriveSecret(seed, "b"),
      deriveSecret(seed, ""),
      deriveSecret(`0x${"0c".repeat(32)}`, "a"),
    ];
    expect(new Set(secrets).size).to.equal(4);
    expect(deriveSecret(seed, "a")).to.equal(secrets[0]);
  });

  it("need a whole seed", () => {
    expect(() => deriveSecret("0x0b", "a")).to.throw("32 bytes");
  });
});
