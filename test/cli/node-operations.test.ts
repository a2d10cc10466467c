// What an operator does with a node beside `infernet worker`: look, change, pay out, retire, back up, move.
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "chai";
import { openChain } from "../../chain/chain.ts";
import { type Address, ZERO_WORD } from "../../protocol/bytes.ts";
import { jobIdOf } from "../../protocol/job.ts";
import { receiptDigest } from "../../protocol/receipt.ts";
import { createSigner, toCompactSignature } from "../../runtime/signers/secp256k1.ts";
import { freePort } from "../../tools/demo/processes.ts";
import { type CommandLine, createCommandLine } from "../support/command-line.ts";
import { type LocalChain, startLocalChain } from "../support/local-chain.ts";
import { killProcess } from "../support/machine.ts";
import { tinyModelFile } from "../support/tiny-model.ts";
import { workerEvents } from "../support/worker-events.ts";

const MODEL = ["--model-file", tinyModelFile(), "--model-name", "tiny", "--threads", "1"];
const unitsOf = (usdc: string) => BigInt(usdc.replace(".", ""));

describe("infernet node, backup and restore, beside a worker on a real chain", function () {
  this.timeout(60_000);
  this.bail(true);
  let chain: LocalChain;
  let seller: CommandLine;
  let buyer: CommandLine;
  let elsewhere: CommandLine;
  let worker: ChildProcess;
  let events: ReturnType<typeof workerEvents>;
  let charged = 0n;

  const json = async (user: CommandLine, ...args: string[]) => {
    const { exitCode, stdout, stderr } = await user.run([...args, "--json"]);
    if (exitCode !== 0) throw new Error(`${args.join(" ")}: ${exitCode} ${stderr}`);
    return JSON.parse(stdout);
  };
  const startWorker = async (user: CommandLine) => {
    worker = user.start(["worker", "--json", "--log-level", "error", "--payout", "worth", ...MODEL]);
    worker.stderr!.pipe(process.stderr);
    events = workerEvents(worker);
    await events.until("live");
  };
  const submit = (...args: string[]) => ["job", "submit", "--model", "tiny", ...args];

  before(async () => {
    chain = await startLocalChain();
    [seller, buyer, elsewhere] = await Promise.all([
      createCommandLine(chain),
      createCommandLine(chain),
      createCommandLine(chain),
    ]);
    const { address: payee } = await json(seller, "wallet", "create");
    await chain.fundNative((await json(seller, "node", "create")).address, 10n ** 18n);
    const { address } = await json(buyer, "wallet", "create");
    await chain.mintUsdc(address, 5_000_000n);
    await chain.fundNative(address, 10n ** 18n);
    const port = await freePort();
    const endpoint = ["--endpoint", `https://127.0.0.1:${port}`, "--payee", payee];
    await json(seller, "register", ...MODEL, ...endpoint, "--model", "tiny=10:40");
    await startWorker(seller);
  });
  after(async () => {
    worker?.kill("SIGKILL");
    await Promise.all([seller.remove(), buyer.remove(), elsewhere.remove()]);
    await chain.stop();
  });

  it("earnings beside a running worker add up, by day, by model and on the chain", async () => {
    for (const prompt of ["Hello", "Hello again"]) {
      const bill = await json(buyer, ...submit("--prompt", prompt, "--max-tokens", "20", "--wait", "60s"));
      charged += unitsOf(bill.chargeUsdc);
      await events.until("settled");
    }
    const earnings = await json(seller, "node", "earnings");
    expect(unitsOf(earnings.chargedUsdc)).to.equal(charged);
    expect(unitsOf(earnings.settledUsdc)).to.equal(charged);
    expect(unitsOf(earnings.earnedOnChainUsdc) + unitsOf(earnings.paidOutUsdc)).to.equal(charged);
    expect(earnings).to.deep.include({
      unsettledUsdc: "0.000000",
      jobs: { open: 0, settling: 0, closed: 2 },
    });
    const [day] = earnings.days;
    const [model] = earnings.models;
    expect(earnings.days).to.have.length(1);
    expect(day.day).to.equal(new Date().toISOString().slice(0, 10));
    expect(model).to.include({ model: "tiny", requests: 2, costUsdc: day.costUsdc });
    expect(unitsOf(model.costUsdc)).to.equal(charged * 1_000_000n);
    expect(unitsOf(day.settledUsdc)).to.equal(charged);
    const { stdout } = await seller.run(["node", "earnings"]);
    expect(stdout)
      .to.contain(earnings.settledUsdc)
      .and.to.match(/2 closed/);
  });

  it("payout sends the payee what the Escrow holds for it, and nothing a second time", async () => {
    const before = await json(seller, "wallet", "balance");
    await earnElsewhere(chain, before.address, 700n);
    const { paidOutUsdc, transactions } = await json(seller, "node", "payout");
    const after = await json(seller, "wallet", "balance");
    expect(unitsOf(paidOutUsdc)).to.equal(unitsOf(before.earnedUsdc) + 700n);
    expect(unitsOf(after.walletUsdc) - unitsOf(before.walletUsdc)).to.equal(unitsOf(paidOutUsdc));
    expect(transactions.map(({ label }: { label: string }) => label)).to.deep.equal(["payOut"]);
    expect(await json(seller, "node", "payout")).to.deep.include({
      paidOutUsdc: "0.000000",
      transactions: [],
    });
  });

  it("update changes what is named and nothing else", async () => {
    const before = await json(seller, "node", "show");
    const changed = await json(seller, "node", "update", "--model", "tiny=10:50", "--no-check");
    expect(changed.transactions.map(({ label }: { label: string }) => label)).to.deep.equal(["setModels"]);
    expect(changed.models).to.deep.equal([{ ...before.models[0], outputPriceUsdc: "50.00" }]);
    expect(changed.endpoint).to.equal(before.endpoint);
    const again = await json(seller, "node", "update", ...MODEL, "--model", "tiny=10:50");
    expect(again.transactions).to.deep.equal([]);
    await json(seller, "node", "update", "--model", "small=1:2", "--no-check");
    const { models } = await json(seller, "node", "update", "--remove-model", "small");
    expect(models).to.deep.equal(changed.models);
  });

  it("update without anything to change, of an unlisted model, or of the last one ends with 2", async () => {
    for (const args of [
      [],
      ["--remove-model", "none"],
      ["--remove-model", "tiny"],
      ["--endpoint", "ftp://x"],
    ]) {
      const { exitCode, stderr } = await seller.run(["node", "update", ...args]);
      expect(exitCode, args.join(" ")).to.equal(2);
      expect(stderr).to.match(/\nhint: /);
    }
  });

  it("a node without a key, and one that is not registered, say so", async () => {
    for (const command of ["update", "retire", "earnings", "payout"]) {
      const args = command === "update" ? ["--endpoint", "https://node.example"] : [];
      const { exitCode, stderr } = await buyer.run(["node", command, ...args]);
      expect(exitCode, command).to.equal(8);
      expect(stderr).to.contain("infernet register");
    }
    await json(elsewhere, "node", "create");
    expect((await elsewhere.run(["node", "retire"])).exitCode).to.equal(7);
  });

  it("retire takes the node out of the choice, twice is once, and --undo brings it back", async () => {
    const retired = await json(seller, "node", "retire");
    expect(retired).to.deep.include({ active: false });
    expect(retired.remaining).to.deep.include({ openJobs: 0, settlingJobs: 0, unsettledUsdc: "0.000000" });
    expect((await json(seller, "node", "retire")).transactions).to.deep.equal([]);
    expect((await buyer.run(submit("--prompt", "Hi"))).exitCode).to.equal(5);
    await json(seller, "node", "update", "--model", "tiny=10:40", "--no-check");
    expect((await json(seller, "node", "show")).active).to.equal(false);
    expect(await json(seller, "node", "retire", "--undo")).to.include({ active: true });
  });

  it("a backup during a paid stream, restored elsewhere, settles what the receipts cover", async () => {
    const child = buyer.start(submit("--prompt", "Tell me everything", "--max-tokens", "900"));
    child.stderr!.resume();
    await once(child.stdout!, "data");
    // The buyer stands still, so the stream waits for its next receipt: the backup falls into its middle.
    child.kill("SIGSTOP");
    const folder = join(seller.home, "copies", "one");
    const { files } = await json(seller, "backup", folder);
    await killProcess(worker);
    child.kill("SIGKILL");
    expect(files.map(({ name }: { name: string }) => name)).to.include.members([
      "provider.db",
      "tls/key.pem",
      "node.json",
      "wallet.json",
    ]);
    expect(statSync(folder).mode & 0o777).to.equal(0o700);
    for (const name of readdirSync(folder, { recursive: true, encoding: "utf8" })) {
      expect(statSync(join(folder, name)).mode & 0o077, name).to.equal(0);
    }

    const home = join(elsewhere.home, "moved");
    const { next } = await json(elsewhere, "restore", folder, "--home", home);
    expect(next.join(" ")).to.contain("Stop `infernet worker` on the old machine");
    const { jobId } = (await json(buyer, "job", "list")).jobs[0];
    await startWorker({
      ...elsewhere,
      start: (args) => elsewhere.start(args, { env: { INFERNET_HOME: home } }),
    });
    const settled = await events.until("settled");
    expect(settled.jobId).to.equal(jobId);
    const job = await json(buyer, "job", "status", jobId);
    expect(job).to.include({ phase: "closed", chargeUsdc: settled.claimedUsdc });
    expect(unitsOf(job.chargeUsdc) > 0n && unitsOf(job.chargeUsdc) <= unitsOf(job.signedUsdc)).to.equal(true);
  });

  it("neither backup nor restore writes over anything", async () => {
    const folder = join(seller.home, "copies", "one");
    const taken = await seller.run(["backup", folder]);
    const full = await seller.run(["restore", folder]);
    for (const { exitCode, stderr } of [taken, full]) {
      expect(exitCode).to.equal(2);
      expect(stderr).to.contain("is not overwritten");
    }
    const empty = await seller.run([
      "backup",
      join(seller.home, "none"),
      "--home",
      join(seller.home, "nowhere"),
    ]);
    expect(empty.exitCode).to.equal(2);
    expect(readdirSync(join(seller.home, "copies"))).to.deep.equal(["one"]);
  });

  it("a log of an old ledger beside the place keeps a ledger from being restored", async () => {
    const home = join(elsewhere.home, "dirty");
    mkdirSync(home);
    writeFileSync(join(home, "provider.db-wal"), "old");
    const { exitCode, stderr } = await elsewhere.run([
      ...["restore", join(seller.home, "copies", "one"), "--home", home],
    ]);
    expect(exitCode).to.equal(2);
    expect(stderr).to.contain("provider.db-wal");
    expect(readdirSync(home)).to.deep.equal(["provider.db-wal"]);
  });

  it("a backup that was changed, or is none, restores nothing", async () => {
    const folder = join(seller.home, "copies", "one");
    const home = join(elsewhere.home, "never");
    const ledger = readFileSync(join(folder, "provider.db"));
    ledger[100] = ledger[100]! ^ 1;
    writeFileSync(join(folder, "provider.db"), ledger);
    const changed = await elsewhere.run(["restore", folder, "--home", home]);
    expect(changed.exitCode).to.equal(2);
    expect(changed.stderr).to.contain("provider.db");
    const manifest = JSON.parse(readFileSync(join(folder, "backup.json"), "utf8"));
    manifest.files[0].name = "../../escaped";
    writeFileSync(join(folder, "backup.json"), JSON.stringify(manifest));
    expect((await elsewhere.run(["restore", folder, "--home", home])).exitCode).to.equal(2);
    expect((await elsewhere.run(["restore", seller.home, "--home", home])).exitCode).to.equal(2);
    expect(existsSync(home)).to.equal(false);
  });
});

/** Another node earns for this payee: what stands in the Escrow then is nothing that the worker under test pays out. */
async function earnElsewhere(local: LocalChain, payee: Address, amount: bigint): Promise<void> {
  const { rpcUrl, chainId, deployment } = local;
  const { domain, calls, ...chain } = await openChain({ rpcUrl, chainId, sources: { override: deployment } });
  const [requester, node] = [local.accounts[5]!, local.accounts[6]!];
  const signer = createSigner(requester.privateKey);
  const deadline = (await chain.getBlock("latest")).timestamp + 3600;
  const job = {
    requester: requester.address,
    signer: signer.address,
    node: node.address,
    payee,
    jobHash: ZERO_WORD,
    deadline,
  };
  await local.mintUsdc(requester.address, amount);
  await local.sendAs(requester.address, calls.approveUsdc(amount));
  await local.sendAs(requester.address, calls.deposit(amount));
  await local.sendAs(requester.address, calls.open(job, amount));
  const unsigned = { jobId: jobIdOf(domain, job), amount, transcript: ZERO_WORD };
  const signature = toCompactSignature(signer.signDigest(receiptDigest(domain, unsigned)));
  await local.sendAs(node.address, calls.claim({ job, receipt: { ...unsigned, signature }, amount }));
  await chain.close();
}
