// Owns the two keys of a home folder: the wallet that pays and asks, and the node that sells.
import { Option } from "commander";
import type { Address, Hex } from "../protocol/bytes.ts";
import { InfernetError } from "../protocol/errors.ts";
import type { Signer } from "../runtime/signers/secp256k1.ts";
import type { Context } from "./context.ts";
import { choosePassphrase, readPassphrase } from "./passphrase.ts";

export type Role = "wallet" | "node";

/** An unlocked key: signs, and derives secrets that only its owner can derive again. */
export type Identity = { address: Address; signer: Signer; deriveSecret(label: string): Hex };

/** For commands that are about the wallet unless told otherwise. */
export type RoleFlags = { nodeKey?: true };

export const NODE_KEY_OPTION = new Option("--node-key", "the node's key instead of the wallet's");

export function roleOf({ nodeKey }: RoleFlags): Role {
  return nodeKey ? "node" : "wallet";
}

const NAMES: Record<Role, string> = { wallet: "the wallet key", node: "the node key" };

/** Where a role's key file lies. */
export async function keyPathOf(context: Context, role: Role): Promise<string> {
  const { homePaths } = await import("../runtime/home.ts");
  const { walletKey, nodeKey } = homePaths((await context.config()).home);
  return role === "wallet" ? walletKey : nodeKey;
}

/** The address of a role's key, without its passphrase; undefined when there is no key yet. */
export async function findAddress(context: Context, role: Role): Promise<Address | undefined> {
  const { readKeystoreAddress } = await import("../runtime/signers/keystore.ts");
  try {
    return readKeystoreAddress(await keyPathOf(context, role));
  } catch (error) {
    if (error instanceof InfernetError && error.code === "wallet-missing") return undefined;
    throw error;
  }
}

/** The address of a role's key. Throws `wallet-missing` with what to do. */
export async function needAddress(context: Context, role: Role): Promise<Address> {
  const address = await findAddress(context, role);
  if (address) return address;
  const what = role === "wallet" ? "wallet" : "node key";
  throw new InfernetError("wallet-missing", `there is no ${what} at ${await keyPathOf(context, role)}`, {
    hint: `Make one: infernet ${role === "wallet" ? "wallet create" : "register"}.`,
  });
}

/** The address of the wallet. Throws `wallet-missing` with what to do. */
export function walletAddress(context: Context): Promise<Address> {
  return needAddress(context, "wallet");
}

/** Unlocks a role's key. Throws `wallet-missing` or `wrong-passphrase`. */
export async function unlock(context: Context, role: Role): Promise<Identity> {
  return identityOf(await revealPrivateKey(context, role));
}

/** A role's private key itself: only for who takes it elsewhere. Throws `wallet-missing` or `wrong-passphrase`. */
export async function revealPrivateKey(context: Context, role: Role): Promise<Hex> {
  await needAddress(context, role);
  const passphrase = await readPassphrase(passphraseSources(context), NAMES[role]);
  const { loadKey } = await import("../runtime/signers/keystore.ts");
  return loadKey(await keyPathOf(context, role), passphrase);
}

/** The text of a role's key file, encrypted as it is. Throws `wallet-missing`. */
export async function readKeyFile(context: Context, role: Role): Promise<string> {
  const { readKeystore } = await import("../runtime/signers/keystore.ts");
  return readKeystore(await keyPathOf(context, role));
}

/** Makes a role's key and its file. Throws `bad-config` when there is one already. */
export async function createIdentity(context: Context, role: Role): Promise<Identity> {
  const path = await freeKeyPath(context, role);
  const passphrase = await choosePassphrase(passphraseSources(context), NAMES[role]);
  const { generatePrivateKey } = await import("../runtime/signers/secp256k1.ts");
  return save(context, { role, path, passphrase, privateKey: generatePrivateKey(), verb: "Made" });
}

/**
 * Takes over a key from a text: 64 hex digits, or the JSON of a key file, which keeps its passphrase. `readText` is not
 * called when there is a key already (`bad-config`). Throws `bad-request` for a text that is neither.
 */
export async function importIdentity(
  context: Context,
  role: Role,
  readText: () => Promise<string>,
): Promise<Identity> {
  const path = await freeKeyPath(context, role);
  const text = (await readText()).trim();
  if (text.startsWith("{")) {
    const { decryptKeystore } = await import("../runtime/signers/keystore.ts");
    const passphrase = await readPassphrase(passphraseSources(context), "the imported key");
    const privateKey = await decryptKeystore(text, passphrase, "what was imported");
    return save(context, { role, path, passphrase, privateKey, verb: "Imported" });
  }
  const digits = /^(?:0x)?([0-9a-fA-F]{64})$/.exec(text)?.[1];
  if (digits === undefined) {
    throw new InfernetError("bad-request", "this is neither a private key nor a keystore JSON", {
      hint: "A private key is 64 hex digits; a keystore is Web3 Secret Storage JSON, version 3.",
    });
  }
  const privateKey: Hex = `0x${digits.toLowerCase()}`;
  const { addressOf } = await import("../runtime/signers/secp256k1.ts");
  addressOf(privateKey); // Refuses what is no key before anybody chooses a passphrase for it.
  const passphrase = await choosePassphrase(passphraseSources(context), NAMES[role]);
  return save(context, { role, path, passphrase, privateKey, verb: "Imported" });
}

/** Where a role's key file will lie. Throws `bad-config` when there is one already. */
async function freeKeyPath(context: Context, role: Role): Promise<string> {
  const path = await keyPathOf(context, role);
  if (!(await findAddress(context, role))) return path;
  throw new InfernetError("bad-config", `there is already a key at ${path}`, {
    hint: "It is never overwritten. Choose another folder with --home.",
  });
}

type NewKey = { role: Role; path: string; passphrase: string; privateKey: Hex; verb: "Made" | "Imported" };

async function save(context: Context, key: NewKey): Promise<Identity> {
  const { role, path, passphrase, privateKey, verb } = key;
  const { saveKey } = await import("../runtime/signers/keystore.ts");
  await saveKey(path, privateKey, passphrase);
  const identity = await identityOf(privateKey);
  const { address } = identity;
  context.output.progress(
    { event: verb === "Made" ? "keyCreated" : "keyImported", role, address, path },
    `${verb} ${NAMES[role]} ${address} at ${path}`,
  );
  return identity;
}

/** Unlocks a role's key, or makes it: who needs one for the first time has to know of no other command. */
export async function unlockOrCreate(context: Context, role: Role): Promise<Identity> {
  if (await findAddress(context, role)) return unlock(context, role);
  const identity = await createIdentity(context, role);
  context.output.hint(`Keep a copy of ${await keyPathOf(context, role)} and its passphrase.`);
  return identity;
}

async function identityOf(privateKey: Hex): Promise<Identity> {
  const { createSigner, deriveSecret } = await import("../runtime/signers/secp256k1.ts");
  const signer = createSigner(privateKey);
  return { address: signer.address, signer, deriveSecret: (label) => deriveSecret(privateKey, label) };
}

function passphraseSources(context: Context) {
  return { env: context.terminal.env, prompter: context.prompter };
}
