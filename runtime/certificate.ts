// Owns a node's TLS identity: a key of its own and a certificate that nobody signs, because clients pin the key.
import { createHash, createPrivateKey, createPublicKey, type KeyObject, X509Certificate } from "node:crypto";
import { isIP } from "node:net";
import { join } from "node:path";
import { generate as generateCertificate } from "selfsigned";
import { type Hex, toHex } from "../protocol/bytes.ts";
import { InfernetError } from "../protocol/errors.ts";
import { createPrivateFile, readPrivateFile } from "./private-file.ts";

/** PEM texts, and the SHA-256 of the DER SubjectPublicKeyInfo, which the signed offer names. */
export type Certificate = { keyPem: string; certificatePem: string; keyHash: Hex };

const YEARS_VALID = 10;

/**
 * The key and certificate kept in `folder`, made on first use: EC P-256, valid for ten years, for these host names and
 * addresses. An operator may put `key.pem` and `certificate.pem` of a CA there. `bad-config` when they do not fit.
 */
export async function loadOrCreateCertificate(folder: string, hostnames: string[]): Promise<Certificate> {
  const keyPath = join(folder, "key.pem");
  const certificatePath = join(folder, "certificate.pem");
  const keyPem = readPrivateFile(keyPath);
  const certificatePem = readPrivateFile(certificatePath);
  if (keyPem !== undefined && certificatePem !== undefined) return checkPair(folder, keyPem, certificatePem);
  if (keyPem === undefined && certificatePem !== undefined) throw badPair(folder);
  const made = await generate(hostnames, keyPem);
  // The key goes first: a crash before the certificate is written keeps the identity that offers may have named.
  if (keyPem === undefined) await createPrivateFile(keyPath, made.keyPem);
  await createPrivateFile(certificatePath, made.certificatePem);
  return checkPair(folder, made.keyPem, made.certificatePem);
}

/** The SHA-256 of a public key's DER SubjectPublicKeyInfo. */
export function hashPublicKey(publicKey: KeyObject): Hex {
  const der = publicKey.export({ type: "spki", format: "der" });
  return toHex(createHash("sha256").update(der).digest());
}

function checkPair(folder: string, keyPem: string, certificatePem: string): Certificate {
  try {
    const key = createPrivateKey(keyPem);
    if (!new X509Certificate(certificatePem).checkPrivateKey(key)) throw badPair(folder);
    return { keyPem, certificatePem, keyHash: hashPublicKey(createPublicKey(key)) };
  } catch (cause) {
    throw cause instanceof InfernetError ? cause : badPair(folder, cause);
  }
}

function badPair(folder: string, cause?: unknown): InfernetError {
  return new InfernetError("bad-config", `key.pem and certificate.pem in ${folder} do not fit together`, {
    hint: "Put a PEM key and its certificate there, or remove both to have new ones made.",
    cause,
  });
}

async function generate(hostnames: string[], existingKeyPem: string | undefined) {
  // Loaded here only: a node that has its certificate never needs it.
  const notAfterDate = new Date();
  notAfterDate.setFullYear(notAfterDate.getFullYear() + YEARS_VALID);
  const names = [...new Set(["localhost", "127.0.0.1", ...hostnames])];
  const made = await generateCertificate([{ name: "commonName", value: hostnames[0] ?? "localhost" }], {
    keyType: "ec",
    curve: "P-256",
    algorithm: "sha256",
    notAfterDate,
    extensions: [
      { name: "basicConstraints", cA: false, critical: true },
      { name: "keyUsage", digitalSignature: true, critical: true },
      { name: "extKeyUsage", serverAuth: true },
      {
        name: "subjectAltName",
        altNames: names.map((name) => (isIP(name) ? { type: 7, ip: name } : { type: 2, value: name })),
      },
    ],
    ...(existingKeyPem === undefined ? {} : { keyPair: keyPairOf(existingKeyPem) }),
  });
  return { keyPem: made.private, certificatePem: made.cert };
}

function keyPairOf(keyPem: string): { privateKey: string; publicKey: string } {
  const key = createPrivateKey(keyPem);
  return {
    privateKey: key.export({ type: "pkcs8", format: "pem" }) as string,
    publicKey: createPublicKey(key).export({ type: "spki", format: "pem" }) as string,
  };
}
