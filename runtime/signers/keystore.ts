// Owns private keys at rest: Web3 Secret Storage files, which every Ethereum wallet reads, behind a passphrase.
import { scrypt } from "node:crypto";
import { type Address, type Hex, toAddress } from "../../protocol/bytes.ts";
import { InfernetError } from "../../protocol/errors.ts";
import { createPrivateFile, readPrivateFile } from "../private-file.ts";
import { addressOf } from "./secp256k1.ts";

/** The work factor of scrypt: 128 MiB and about half a second for whoever guesses one passphrase. */
const SCRYPT_N = 131_072;

/** Writes a new key file of mode 0600. `bad-config` when the path is taken or the key is none. */
export async function saveKey(
  path: string,
  privateKey: Hex,
  passphrase: string,
  options: { scryptN?: number } = {},
): Promise<void> {
  const { encryptKeystoreJson } = await loadKeystoreCode();
  const account = { address: addressOf(privateKey), privateKey };
  const scryptCost = { N: options.scryptN ?? SCRYPT_N };
  await createPrivateFile(
    path,
    `${await encryptKeystoreJson(account, passphrase, { scrypt: scryptCost })}\n`,
  );
}

/** The private key in a key file. `wallet-missing`, `wrong-passphrase`, `bad-config`. */
export async function loadKey(path: string, passphrase: string): Promise<Hex> {
  return decryptKeystore(readKeystore(path), passphrase, path);
}

/** The private key in a key file's text; `name` says in errors what it is. `wrong-passphrase`, `bad-config`. */
export async function decryptKeystore(json: string, passphrase: string, name: string): Promise<Hex> {
  const { decryptKeystoreJson, isKeystoreJson } = await loadKeystoreCode();
  if (!isKeystoreJson(json)) throw notAKeystore(name);
  try {
    return (await decryptKeystoreJson(json, passphrase)).privateKey as Hex;
  } catch (cause) {
    if (!(cause instanceof Error) || !cause.message.startsWith("incorrect password")) {
      throw notAKeystore(name, cause);
    }
    // The cause is left out: it carries the passphrase.
    throw new InfernetError("wrong-passphrase", `the passphrase does not open ${name}`, {
      hint: "Try again, or set INFERNET_PASSPHRASE or INFERNET_PASSPHRASE_FILE.",
    });
  }
}

/** The address in a key file, without opening it. Whoever writes the file can forge it: `loadKey` proves it. */
export function readKeystoreAddress(path: string): Address {
  try {
    const { address } = JSON.parse(readKeystore(path)) as { address: string };
    return toAddress(address.startsWith("0x") ? address : `0x${address}`);
  } catch (cause) {
    throw cause instanceof InfernetError ? cause : notAKeystore(path, cause);
  }
}

/** The text of a key file, encrypted as it is. `wallet-missing`, `bad-config`. */
export function readKeystore(path: string): string {
  const json = readPrivateFile(path);
  if (json !== undefined) return json;
  throw new InfernetError("wallet-missing", `there is no key file at ${path}`, {
    hint: "Create one with `infernet wallet`, or set INFERNET_HOME to the folder that holds yours.",
  });
}

function notAKeystore(path: string, cause?: unknown): InfernetError {
  return new InfernetError("bad-config", `${path} is not a key file`, {
    hint: "A key file is Web3 Secret Storage JSON, version 3.",
    cause,
  });
}

/** ethers' keystore code, loaded on first use because it is slow to load, with Node's scrypt, which is faster. */
async function loadKeystoreCode() {
  const [wallet, crypto] = await Promise.all([import("ethers/wallet"), import("ethers/crypto")]);
  crypto.scrypt.register(deriveKey);
  return wallet;
}

function deriveKey(
  passphrase: Uint8Array,
  salt: Uint8Array,
  N: number,
  r: number,
  p: number,
  length: number,
): Promise<Hex> {
  return new Promise((resolve, reject) => {
    // scrypt needs 128 * N * r bytes: Node asks to be told that so much is meant.
    scrypt(passphrase, salt, length, { N, r, p, maxmem: 256 * N * r }, (error, key) => {
      if (error) reject(error);
      else resolve(`0x${key.toString("hex")}`);
    });
  });
}
