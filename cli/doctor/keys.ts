// Owns the checks of the key files: there, readable by their owner alone, opened by the passphrase that is given.
import type { Address } from "../../protocol/bytes.ts";
import { readPassphraseSource } from "../../runtime/config.ts";
import { loadKey } from "../../runtime/signers/keystore.ts";
import type { Context } from "../context.ts";
import { findAddress, keyPathOf, type Role } from "../identity.ts";
import { type Finding, failOf, ok, tryLook, warn } from "./finding.ts";

export type CheckedKeys = { findings: Finding[]; addresses: Partial<Record<Role, Address>> };

export async function checkKeys(context: Context): Promise<CheckedKeys> {
  const findings: Finding[] = [];
  const addresses: CheckedKeys["addresses"] = {};
  for (const role of ["wallet", "node"] as const) {
    const check = `${role} key`;
    try {
      const address = await findAddress(context, role);
      if (!address) continue;
      addresses[role] = address;
      findings.push(await tryLook(check, () => checkPassphrase(context, role, address)));
    } catch (error) {
      findings.push(failOf(check, error));
    }
  }
  if (findings.length === 0) {
    const hint = "To buy: infernet wallet create. To sell: infernet register.";
    findings.push(warn("keys", "there is no key in this home folder yet", hint));
  }
  return { findings, addresses };
}

/** Nobody is asked for a passphrase: only one that the environment gives is tried. */
async function checkPassphrase(context: Context, role: Role, address: Address): Promise<Finding> {
  const passphrase = readPassphraseSource(context.terminal.env);
  if (passphrase === undefined) return ok(`${role} key`, `${address} (its passphrase was not tried)`);
  await loadKey(await keyPathOf(context, role), passphrase);
  return ok(`${role} key`, `${address}, which the given passphrase opens`);
}
