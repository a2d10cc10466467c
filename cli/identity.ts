// Owns the two keys of a home folder: the wallet that pays and asks, and the node that sells.
import type { Address, Hex } from "../protocol/bytes.ts";
import { InfernetError } from "../protocol/errors.ts";
import type { Signer } from "../runtime/signers/secp256k1.ts";
import type { Context } from "./context.ts";
import { choosePassphrase, readPassphrase } from "./passphrase.ts";

export type Role = "wallet" | "node";

/** An unlocked key: signs, and derives secrets that only its owner can derive again. */
export type Identity = { address: Address; signer: Signer; deriveSecret(label: string): Hex };

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

/** The address of the wallet. Throws `wallet-missing` with what to do. */
export async function walletAddress(context: Context): Promise<Address> {
  const address = await findAddress(context, "wallet");
  if (address) return address;
  throw new InfernetError("wallet-missing", `there is no wallet at ${await keyPathOf(context, "wallet")}`, {
    hint: "Make one: infernet wallet create.",
  });
}

/** Unlocks a role's key. Throws `wallet-missing` or `wrong-passphrase`. */
export async function unlock(context: Context, role: Role): Promise<Identity> {
  if (role === "wallet") await walletAddress(context);
  const path = await keyPathOf(context, role);
  const passphrase = await readPassphrase(passphraseSources(context), NAMES[role]);
  const { loadKey } = await import("../runtime/signers/keystore.ts");
  return identityOf(await loadKey(path, passphrase));
}

/** Makes a role's key and its file. Throws `bad-config` when there is one already. */
export async function createIdentity(context: Context, role: Role): Promise<Identity> {
  const path = await keyPathOf(context, role);
  if (await findAddress(context, role)) {
    throw new InfernetError("bad-config", `there is already a key at ${path}`, {
      hint: "It is never overwritten. Choose another folder with --home.",
    });
  }
  const passphrase = await choosePassphrase(passphraseSources(context), NAMES[role]);
  const [{ saveKey }, { generatePrivateKey }] = await Promise.all([
    import("../runtime/signers/keystore.ts"),
    import("../runtime/signers/secp256k1.ts"),
  ]);
  const privateKey = generatePrivateKey();
  await saveKey(path, privateKey, passphrase);
  const identity = await identityOf(privateKey);
  context.output.progress(
    { event: "keyCreated", role, address: identity.address, path },
    `Made ${NAMES[role]} ${identity.address} at ${path}`,
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
