import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { rm } from "node:fs/promises";
import { createServer, type Server } from "node:net";
import { join } from "node:path";
import { expect } from "chai";
import { type CommandLine, createCommandLine } from "../support/command-line.ts";
import { type LocalChain, startLocalChain } from "../support/local-chain.ts";
import { tinyModelFile } from "../support/tiny-model.ts";
import { workerEvents } from "../support/worker-events.ts";

const MODEL = ["--model-file", tinyModelFile(), "--model-name", "tiny", "--threads", "1"];

describe("infernet worker and job, on a real chain with a real model", function () {
  this.timeout(60_000);
  this.bail(true);
  let chain: LocalChain;
  let seller: CommandLine;
  let buyer: CommandLine;
  let worker: ChildProcess;
  let events: ReturnType<typeof workerEvents>;
  let port = 0;
  let squatter: Server;

  const json = async (user: CommandLine, ...args: string[]) => {
    const { exitCode, stdout, stderr } = await user.run([...args, "--json"]);
    if (exitCode !== 0) throw new Error(`${args.join(" ")}: ${exitCode} ${stderr}`);
    return JSON.parse(stdout);
  };
  const submit = (...args: string[]) => ["job", "submit", "--model", "tiny", "--max-tokens", "40", ...args];

  before(async () => {
    chain = await startLocalChain();
    [seller, buyer] = await Promise.all([createCommandLine(chain), createCommandLine(chain)]);
    squatter = createServer().listen(0, "127.0.0.1");
    await once(squatter, "listening");
    port = (squatter.address() as { port: number }).port;
    await json(seller, "wallet", "create");
    await chain.fundNative((await json(seller, "node", "create")).address, 10n ** 18n);
    const { address } = await json(buyer, "wallet", "create");
    await chain.mintUsdc(address, 5_000_000n);
    await chain.fundNative(address, 10n ** 18n);
  });
  after(async () => {
    worker?.kill("SIGKILL");
    squatter.close();
    await Promise.all([seller.remove(), buyer.remove()]);
    await chain.stop();
  });

  it("a worker that is not registered ends with 7 and says what to do", async () => {
    const { exitCode, stderr } = await seller.run(["worker", ...MODEL]);
    expect(exitCode).to.equal(7);
    expect(stderr).to.contain("infernet register");
  });

  it("a worker whose port is taken ends with 8", async () => {
    const endpoint = `https://127.0.0.1:${port}`;
    await json(seller, "register", ...MODEL, "--endpoint", endpoint, "--model", "tiny=10:40");
    const { exitCode, stderr } = await seller.run(["worker", ...MODEL, "--json"]);
    expect(exitCode, stderr).to.equal(8);
  });

  it("a worker tells in one JSON line that it is live", async () => {
    squatter.close();
    await once(squatter, "close");
    worker = seller.start(["worker", "--json", "--log-level", "error", ...MODEL]);
    worker.stderr!.pipe(process.stderr);
    events = workerEvents(worker);
    const live = await events.until("live");
    expect(live.models).to.deep.equal(["tiny"]);
    expect(live.url).to.equal(`https://127.0.0.1:${port}`);
  });

  it("a second worker on the same home folder ends with 8", async () => {
    const { exitCode, stderr } = await seller.run(["worker", "--json", "--port", "0", ...MODEL]);
    expect(exitCode, stderr).to.equal(8);
    expect(stderr).to.contain("store-locked");
  });

  it("a job's bill adds up to the base unit once it is settled", async () => {
    const bill = await json(buyer, ...submit("--prompt", "Hello", "--wait", "60s"));
    expect(bill).to.include({ model: "tiny", estimated: false });
    const cost = BigInt(bill.promptTokens) * 10n + BigInt(bill.completionTokens) * 40n;
    expect(BigInt(bill.chargeUsdc.replace(".", ""))).to.equal(cost);
    expect(bill.settled.chargeUsdc).to.equal(bill.chargeUsdc);
    expect(bill.text).to.not.equal("");
    const settled = await events.until("settled");
    expect(settled).to.include({ jobId: bill.jobId, claimedUsdc: bill.chargeUsdc });
    const status = await json(buyer, "job", "status", bill.jobId);
    expect(status).to.include({ phase: "closed", chargeUsdc: bill.chargeUsdc });
    const { jobs } = await json(buyer, "job", "list");
    expect(jobs.map(({ jobId }: { jobId: string }) => jobId)).to.deep.equal([bill.jobId]);
  });

  it("a job's answer is given again at no new charge, and waiting for a closed job ends at once", async () => {
    const { jobs } = await json(buyer, "job", "list");
    const { jobId, chargeUsdc, delivery } = jobs[0];
    const result = await json(buyer, "job", "result", jobId);
    expect(result).to.deep.include({ jobId, missing: null });
    expect(result.delivery.transcript).to.equal(delivery.transcript);
    expect(result.text).to.not.equal("");
    const { stdout } = await buyer.run(["job", "result", jobId]);
    expect(stdout.trim()).to.not.equal("");
    const waited = await json(buyer, "job", "wait", jobId, "--timeout", "10s");
    expect(waited).to.include({ phase: "closed", chargeUsdc });
  });

  it("the answer goes to stdout alone and the bill to stderr, the prompt from a pipe", async () => {
    const { exitCode, stdout, stderr } = await buyer.run(submit("--temperature", "0"), {
      stdin: "Hello there",
    });
    expect(exitCode, stderr).to.equal(0);
    expect(stdout.endsWith("\n")).to.equal(true);
    expect(stderr)
      .to.match(/opened job 0x[0-9a-f]{64}/)
      .and.to.match(/tokens for 0\.\d{6} USDC/);
    expect(stderr).to.not.contain(stdout.trim().slice(0, 20));
  });

  it("an interrupted job ends with 130, closed, and what was not used comes back", async () => {
    const child = buyer.start(submit("--prompt", "Tell me everything", "--max-tokens", "900"));
    await once(child.stdout!, "data");
    child.stdout!.resume();
    child.kill("SIGINT");
    const [exitCode] = await once(child, "close");
    expect(exitCode).to.equal(130);
    const { jobs } = await json(buyer, "job", "list");
    const settled = await events.until("settled").then((line) => {
      return line.jobId === jobs[0].jobId ? line : events.until("settled");
    });
    const status = await json(buyer, "job", "status", jobs[0].jobId);
    expect(status.phase).to.equal("closed");
    expect(status.chargeUsdc).to.equal(settled.claimedUsdc);
  });

  it("a job whose reader goes away ends quietly, closed", async () => {
    const child = buyer.start(submit("--prompt", "Tell me more", "--max-tokens", "900", "--quiet"));
    let stderr = "";
    child.stderr!.on("data", (part) => {
      stderr += part;
    });
    await once(child.stdout!, "data");
    child.stdout!.destroy();
    const [exitCode] = await once(child, "close");
    expect([exitCode, stderr]).to.deep.equal([0, ""]);
    await events.until("settled");
    const { jobs } = await json(buyer, "job", "list");
    expect((await json(buyer, "job", "status", jobs[0].jobId)).phase).to.equal("closed");
  });

  it("a job that would cost more than --max-usdc opens nothing and ends with 3", async () => {
    const { creditUsdc, walletUsdc } = await json(buyer, "wallet", "balance");
    const { exitCode, stderr } = await buyer.run(
      submit("--prompt", "Hi", "--max-usdc", "0.000001", "--json"),
    );
    expect(exitCode, stderr).to.equal(3);
    expect(await json(buyer, "wallet", "balance")).to.include({ creditUsdc, walletUsdc });
  });

  it("a model that nobody sells ends with 5", async () => {
    const { exitCode } = await buyer.run(["job", "submit", "--model", "none", "--prompt", "Hi"]);
    expect(exitCode).to.equal(5);
  });

  it("a closed job has nothing to refund, and an unknown one ends with 4", async () => {
    const { jobs } = await json(buyer, "job", "list");
    const { refunded, tx } = await json(buyer, "job", "refund", jobs[0].jobId);
    expect({ refunded, tx }).to.deep.equal({ refunded: false, tx: null });
    const { exitCode } = await buyer.run(["job", "refund", `0x${"5e".repeat(32)}`]);
    expect(exitCode).to.equal(4);
  });

  it("SIGTERM stops the worker with 0, everything paid out to the payee", async () => {
    worker.kill("SIGTERM");
    const [exitCode] = await once(worker, "close");
    expect(exitCode).to.equal(0);
    const { walletUsdc, earnedUsdc } = await json(seller, "wallet", "balance");
    expect(earnedUsdc).to.equal("0.000000");
    expect(walletUsdc).to.not.equal("0.000000");
  });

  it("a job whose node died is refunded from its deadline on, not before, even when the ledger was lost", async () => {
    worker = seller.start(["worker", "--json", "--log-level", "error", ...MODEL]);
    events = workerEvents(worker);
    await events.until("live");
    const child = buyer.start(submit("--prompt", "Tell me all", "--max-tokens", "900", "--deadline", "30m"));
    child.stderr!.resume();
    await once(child.stdout!, "data");
    worker.kill("SIGKILL");
    child.kill("SIGINT");
    child.stdout!.resume();
    expect((await once(child, "close"))[0]).to.equal(130);
    const { jobId, depositUsdc } = (await json(buyer, "job", "list")).jobs[0];
    const ledger = ["requester.db", "requester.db-wal", "requester.db-shm"];
    await Promise.all(ledger.map((name) => rm(join(buyer.home, name), { force: true })));
    const { found } = await json(buyer, "job", "recover");
    expect(found.map((job: { jobId: string }) => job.jobId)).to.deep.equal([jobId]);
    const early = await buyer.run(["job", "refund", jobId]);
    expect(early.exitCode, early.stderr).to.equal(4);
    await chain.increaseTime(3600);
    const { creditUsdc } = await json(buyer, "wallet", "balance");
    const { refunded, job } = await json(buyer, "job", "refund", jobId);
    expect({ refunded, phase: job.phase }).to.deep.equal({ refunded: true, phase: "refunded" });
    const after = await json(buyer, "wallet", "balance");
    const inUnits = (usdc: string) => BigInt(usdc.replace(".", ""));
    expect(inUnits(after.creditUsdc) - inUnits(creditUsdc)).to.equal(inUnits(depositUsdc));
  });
});
