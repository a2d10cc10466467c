// Owns signing and recovering on secp256k1: native code, low s only, both Ethereum forms of a signature.
import { hkdfSync, randomBytes } from "node:crypto";
import secp256k1 from "secp256k1";
import {
  type Address,
  concatBytes,
  fromHex,
  type Hex,
  isHex,
  keccak256,
  toHex,
  utf8,
} from "../../protocol/bytes.ts";
import { InfernetError } from "../../protocol/errors.ts";

/** Signs 32-byte digests as `address`; the signature is r || s || v, 65 bytes, low s, v 27 or 28. */
export type Signer = { address: Address; signDigest(digest: Hex): Hex };

const HALF_ORDER = 0x7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0n;
/** EIP-2098 keeps v in the top bit of s, which a low s leaves free. */
const PARITY_BIT = 0x80;

/** The signer of a private key. `bad-config` when it is none. */
export function createSigner(privateKey: Hex): Signer {
  const address = addressOf(privateKey);
  const key = fromHex(privateKey);
  return {
    address,
    signDigest(digest) {
      const { signature, recid } = secp256k1.ecdsaSign(digestBytes(digest), key);
      return toHex(concatBytes(signature, Uint8Array.of(27 + recid)));
    },
  };
}

/** The address of a private key's account. `bad-config` when it is none. */
export function addressOf(privateKey: Hex): Address {
  if (!isHex(privateKey, 32) || !secp256k1.privateKeyVerify(fromHex(privateKey))) {
    throw new InfernetError("bad-config", "not a private key", {
      hint: "A private key is 0x and 64 lower-case hex digits.",
    });
  }
  return addressOfPublicKey(secp256k1.publicKeyCreate(fromHex(privateKey), false));
}

/**
 * Who signed a digest: undefined when the signature (64 bytes r || vs, or 65 bytes r || s || v) is malformed, has a high
 * s, or fits no key. Nobody has signed only because this answers: compare the address.
 */
export function recoverSigner(digest: Hex, signature: Hex): Address | undefined {
  const message = digestBytes(digest);
  const parts = splitSignature(signature);
  if (parts === undefined) return undefined;
  try {
    return addressOfPublicKey(secp256k1.ecdsaRecover(parts.rs, parts.parity, message, false));
  } catch {
    // r is no point's x coordinate, or r or s is out of range: no key made this.
    return undefined;
  }
}

/** r || s || v of 65 bytes as r || vs of 64 (EIP-2098). Throws a TypeError when it is malformed or has a high s. */
export function toCompactSignature(signature65: Hex): Hex {
  const parts = isHex(signature65, 65) ? splitSignature(signature65) : undefined;
  if (parts === undefined) throw new TypeError("not a signature of 65 bytes with a low s");
  const compact = Uint8Array.from(parts.rs);
  if (parts.parity === 1) compact[32]! |= PARITY_BIT;
  return toHex(compact);
}

export function generatePrivateKey(): Hex {
  const candidate = randomBytes(32);
  return secp256k1.privateKeyVerify(candidate) ? toHex(candidate) : generatePrivateKey();
}

/** 32 bytes that only the holder of `seed` can derive for `label` (HKDF-SHA256): salts and session keys. */
export function deriveSecret(seed: Hex, label: string): Hex {
  if (!isHex(seed, 32)) throw new TypeError("not a seed of 32 bytes");
  return toHex(new Uint8Array(hkdfSync("sha256", fromHex(seed), utf8("infernet"), utf8(label), 32)));
}

function splitSignature(signature: Hex): { rs: Uint8Array; parity: number } | undefined {
  const compact = isHex(signature, 64);
  if (!compact && !isHex(signature, 65)) return undefined;
  const bytes = fromHex(signature);
  const rs = bytes.slice(0, 64);
  const parity = compact ? bytes[32]! >> 7 : bytes[64]! - 27;
  if (compact) rs[32]! &= ~PARITY_BIT;
  if (parity !== 0 && parity !== 1) return undefined;
  return BigInt(toHex(rs.subarray(32))) > HALF_ORDER ? undefined : { rs, parity };
}

function addressOfPublicKey(publicKey: Uint8Array): Address {
  return `0x${keccak256(publicKey.subarray(1)).slice(-40)}`;
}

function digestBytes(digest: Hex): Uint8Array {
  if (!isHex(digest, 32)) throw new TypeError("not a digest of 32 bytes");
  return fromHex(digest);
}
