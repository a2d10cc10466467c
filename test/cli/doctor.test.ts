// What `infernet doctor` finds, on real chains, keys, ledgers and workers, and with which exit code it ends.
import type { ChildProcess } from "node:child_process";
import { chmodSync, mkdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "chai";
import { judgeClock } from "../../cli/doctor/chain.ts";
import type { Finding } from "../../cli/doctor/finding.ts";
import { loadOrCreateCertificate } from "../../runtime/certificate.ts";
import { freePort } from "../../tools/demo/processes.ts";
import { type CommandLine, createCommandLine } from "../support/command-line.ts";
import { type LocalChain, startLocalChain } from "../support/local-chain.ts";
import { temporaryFolder } from "../support/machine.ts";
import { tinyModelFile } from "../support/tiny-model.ts";
import { workerEvents } from "../support/worker-events.ts";

const MODEL = ["--model-file", tinyModelFile(), "--model-name", "tiny", "--threads", "1"];

/** Trying a passphrase takes long on purpose; only the test of passphrases does. */
const NO_PASSPHRASE = { INFERNET_PASSPHRASE: "" };

describe("infernet doctor", function () {
  this.timeout(120_000);
  let chain: LocalChain;
  let user: CommandLine;
  let seller: CommandLine;
  let worker: ChildProcess | undefined;
  let node = "";
  let endpoint = "";

  const json = async (who: CommandLine, ...args: string[]) => {
    const { exitCode, stdout, stderr } = await who.run([...args, "--json"]);
    if (exitCode !== 0) throw new Error(`${args.join(" ")}: ${exitCode} ${stderr}`);
    return JSON.parse(stdout);
  };
  /** Its findings by the name of their check. Every one that is not ok says what to do. */
  const examine = async (who: CommandLine, args: string[] = [], env: Record<string, string> = {}) => {
    const options = { env: { ...NO_PASSPHRASE, ...env } };
    const { exitCode, stdout, stderr } = await who.run(["doctor", "--json", ...args], options);
    const { healthy, findings } = JSON.parse(stdout) as { healthy: boolean; findings: Finding[] };
    expect(healthy, stderr).to.equal(exitCode === 0);
    for (const { check, status, hint } of findings) expect(hint === "", check).to.equal(status === "ok");
    const statuses = Object.fromEntries(findings.map(({ check, status }) => [check, status]));
    return { exitCode, statuses, findings, stderr };
  };

  before(async () => {
    chain = await startLocalChain();
    [user, seller] = await Promise.all([createCommandLine(chain), createCommandLine(chain)]);
    const { address: payee } = await json(seller, "wallet", "create");
    node = (await json(seller, "node", "create")).address;
    await chain.fundNative(node as `0x${string}`, 10n ** 18n);
    endpoint = `https://127.0.0.1:${await freePort()}`;
    const flags = ["--endpoint", endpoint, "--payee", payee, "--model", "tiny=10:40"];
    await json(seller, "register", ...MODEL, ...flags);
  });
  after(async () => {
    worker?.kill("SIGKILL");
    await Promise.all([user.remove(), seller.remove()]);
    await chain.stop();
  });

  it("says where to begin in a home without keys, and that nothing is broken", async () => {
    const { exitCode, statuses } = await examine(user);
    expect(exitCode).to.equal(0);
    expect(statuses).to.include({ "node.js": "ok", keys: "warn", chain: "ok", rpc: "ok", clock: "ok" });
  });

  it("ends with 7 when no chain answers, after looking at all that needs none", async () => {
    const env = { INFERNET_RPC_URL: "http://127.0.0.1:9" };
    const { exitCode, statuses, stderr } = await examine(seller, [], env);
    expect(exitCode).to.equal(7);
    expect(statuses).to.include({ "node.js": "ok", "wallet key": "ok", "node key": "ok", chain: "fail" });
    expect(JSON.parse(stderr.trim().split("\n").at(-1)!).error.code).to.equal("chain-unreachable");
  });

  it("ends with 8 for a passphrase that opens nothing, and with 2 for a key that others can read", async () => {
    const wrong = await examine(seller, [], { INFERNET_PASSPHRASE: "wrong" });
    expect(wrong.exitCode).to.equal(8);
    expect(wrong.statuses).to.include({ "wallet key": "fail", "node key": "fail" });
    chmodSync(join(seller.home, "wallet.json"), 0o644);
    const open = await examine(seller);
    chmodSync(join(seller.home, "wallet.json"), 0o600);
    expect([open.exitCode, open.statuses["wallet key"]]).to.deep.equal([2, "fail"]);
  });

  it("tells a node whose worker is not running, and models that the upstream lacks", async () => {
    await json(seller, "node", "update", "--model", "large=1:2", "--no-check");
    const lacking = await examine(seller, MODEL);
    await json(seller, "node", "update", "--remove-model", "large");
    expect(lacking.exitCode).to.equal(6);
    expect(lacking.statuses).to.include({ "llama.cpp": "ok", upstream: "fail", endpoint: "warn" });
    expect(lacking.findings.find(({ check }) => check === "upstream")!.message).to.contain("large");
  });

  it("finds nothing wrong with a worker that serves, as a person reads it, too", async () => {
    worker = seller.start(["worker", "--json", "--log-level", "error", ...MODEL]);
    worker.stderr!.pipe(process.stderr);
    await workerEvents(worker).until("live");
    const { exitCode, statuses, stderr } = await examine(seller, MODEL);
    expect(exitCode, stderr).to.equal(0);
    const served = {
      registry: "ok",
      upstream: "ok",
      endpoint: "ok",
      offer: "ok",
      tls: "ok",
      "node gas": "ok",
    };
    expect(statuses).to.include({ ...served, "worker ledger": "ok", "wallet usdc": "warn" });
    const { stdout } = await seller.run(["doctor"], { env: NO_PASSPHRASE });
    expect(stdout)
      .to.match(/^ok {4}node\.js: /)
      .and.to.contain("in use by a running worker");
  });

  it("ends with 5 when the server at the endpoint has another TLS key than this home", async () => {
    const [folder, kept] = [join(seller.home, "tls"), join(seller.home, "tls-kept")];
    renameSync(folder, kept);
    await loadOrCreateCertificate(folder, ["127.0.0.1"]);
    const { exitCode, statuses } = await examine(seller);
    rmSync(folder, { recursive: true });
    renameSync(kept, folder);
    expect(exitCode).to.equal(5);
    expect(statuses).to.include({ offer: "ok", tls: "fail" });
  });

  it("ends with 3 when a registered node cannot pay the gas of its settlements", async () => {
    await chain.rpc("hardhat_setBalance", [node, "0x0"]);
    const { exitCode, statuses, findings } = await examine(seller);
    expect([exitCode, statuses["node gas"]]).to.deep.equal([3, "fail"]);
    expect(findings.find(({ check }) => check === "node gas")!.hint).to.contain(node);
  });

  it("ends with 8 for a ledger that is none", async () => {
    mkdirSync(user.home, { recursive: true });
    writeFileSync(join(user.home, "requester.db"), "nonsense".repeat(1000), { mode: 0o600 });
    const { exitCode, statuses } = await examine(user);
    rmSync(join(user.home, "requester.db"));
    expect([exitCode, statuses["requester ledger"]]).to.deep.equal([8, "fail"]);
  });

  it("asks npm for a newer release only when told to", async () => {
    const folder = temporaryFolder();
    const answer = (text: string) =>
      writeFileSync(join(folder, "npm"), `#!/bin/sh\n[ "$*" = "view infernet version" ] && ${text}\n`, {
        mode: 0o755,
      });
    const env = { PATH: `${folder}:${process.env.PATH}` };
    answer("echo 999.0.0");
    expect((await examine(user, [], env)).statuses).to.not.have.property("release");
    const newer = await examine(user, ["--check-updates"], env);
    expect([newer.exitCode, newer.statuses.release]).to.deep.equal([0, "warn"]);
    expect(newer.findings.at(-1)!.message).to.contain("999.0.0");
    answer("echo 0.0.1");
    expect((await examine(user, ["--check-updates"], env)).statuses.release).to.equal("ok");
    answer("exit 1");
    expect((await examine(user, ["--check-updates"], env)).statuses.release).to.equal("warn");
  });

  it("judges the newest block's age by what the chain is", () => {
    const status = (age: number, chainId: number) => judgeClock(age, chainId).status;
    expect([0, 60, 300, 700].map((age) => status(age, 8453))).to.deep.equal(["ok", "ok", "warn", "fail"]);
    expect([-60, -300, -700].map((age) => status(age, 8453))).to.deep.equal(["ok", "warn", "fail"]);
    expect([700, -700].map((age) => status(age, 31337))).to.deep.equal(["ok", "fail"]);
  });
});
