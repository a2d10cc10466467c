import { createHash, X509Certificate } from "node:crypto";
import { chmodSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "chai";
import { loadOrCreateCertificate } from "../../runtime/certificate.ts";
import { failureOf, temporaryFolder } from "../support/machine.ts";

describe("certificate", () => {
  let folder: string;
  const load = (hostnames = ["node.example", "203.0.113.7"]) => loadOrCreateCertificate(folder, hostnames);

  beforeEach(() => {
    folder = join(temporaryFolder(), "tls");
  });

  it("is made once, in files of their owner's alone", async () => {
    const made = await load();
    expect(await load(["other.example"])).to.deep.equal(made);
    expect(readdirSync(folder).sort()).to.deep.equal(["certificate.pem", "key.pem"]);
    for (const file of readdirSync(folder)) expect(statSync(join(folder, file)).mode & 0o777).to.equal(0o600);
  });

  it("is for its host names and addresses and for ten years, on P-256, signed with SHA-256", async () => {
    const certificate = new X509Certificate((await load()).certificatePem);
    for (const name of ["node.example", "localhost"]) expect(certificate.checkHost(name)).to.equal(name);
    for (const ip of ["203.0.113.7", "127.0.0.1"]) expect(certificate.checkIP(ip)).to.equal(ip);
    const years = (Date.parse(certificate.validTo) - Date.now()) / (365.25 * 24 * 3600 * 1000);
    expect(years).to.be.closeTo(10, 0.02);
    expect(certificate.ca).to.equal(false);
    expect(certificate.publicKey.asymmetricKeyDetails).to.include({ namedCurve: "prime256v1" });
    const ecdsaWithSha256 = Buffer.from("06082a8648ce3d040302", "hex");
    expect(certificate.raw.includes(ecdsaWithSha256)).to.equal(true);
  });

  it("names the SHA-256 of the public key's DER SubjectPublicKeyInfo", async () => {
    const { certificatePem, keyHash } = await load();
    const { x, y } = new X509Certificate(certificatePem).publicKey.export({ format: "jwk" });
    // RFC 5480: what every P-256 key begins with, then the uncompressed point.
    const prefix = Buffer.from("3059301306072a8648ce3d020106082a8648ce3d03010703420004", "hex");
    const der = Buffer.concat([prefix, Buffer.from(x!, "base64url"), Buffer.from(y!, "base64url")]);
    expect(keyHash).to.equal(`0x${createHash("sha256").update(der).digest("hex")}`);
  });

  it("keeps the key when only the certificate is lost", async () => {
    const before = await load();
    rmSync(join(folder, "certificate.pem"));
    const after = await load(["moved.example"]);
    expect(after.keyHash).to.equal(before.keyHash);
    expect(after.keyPem).to.equal(before.keyPem);
    expect(new X509Certificate(after.certificatePem).checkHost("moved.example")).to.equal("moved.example");
    expect(await load()).to.deep.equal(after);
  });

  it("differs from node to node", async () => {
    const first = await load();
    folder = join(temporaryFolder(), "tls");
    expect((await load()).keyHash).to.not.equal(first.keyHash);
  });

  it("refuses a key without its certificate's, a stranger's, and one that is none", async () => {
    await load();
    rmSync(join(folder, "key.pem"));
    expect((await failureOf(load)).code).to.equal("bad-config");
    const other = join(temporaryFolder(), "tls");
    const stranger = await loadOrCreateCertificate(other, []);
    for (const keyPem of [stranger.keyPem, "", "not a key"]) {
      writeFileSync(join(folder, "key.pem"), keyPem, { mode: 0o600 });
      const error = await failureOf(load);
      expect(error.code).to.equal("bad-config");
      expect(error.hint).to.contain("remove both");
    }
  });

  it("refuses a key that others can read", async () => {
    await load();
    chmodSync(join(folder, "key.pem"), 0o644);
    expect((await failureOf(load)).hint).to.contain("chmod 600");
  });
});
