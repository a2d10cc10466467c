// The package as npm installs it in an empty folder: small, without hardhat or a compiler, and able to sell and buy.
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, readdir, stat, writeFile } from "node:fs/promises";
import { delimiter, join, resolve } from "node:path";
import { promisify } from "node:util";
import { expect } from "chai";
import { openUpstream } from "../../provider/upstreams/open.ts";
import type { Upstream } from "../../provider/upstreams/upstream.ts";
import { createCommandLine } from "../support/command-line.ts";
import { startLocalChain } from "../support/local-chain.ts";
import { temporaryFolder } from "../support/machine.ts";
import { MODEL, openMarket } from "../support/market.ts";
import { type OpenAiServer, startOpenAiServer } from "../support/openai-server.ts";
import { tinyModelFile } from "../support/tiny-model.ts";

const ROOT = resolve(import.meta.dirname, "../..");
const MOST_PACKAGES = 15;
const MOST_MEGABYTES = 15;
const run = promisify(execFile);
/** For npm under the pinned Node, which does not read the machine's npm settings. */
const env = { ...process.env, NODE_OPTIONS: "--use-system-ca" };

/** The Node of this machine behind those that the checkout puts in front: old on many machines. */
function systemNode(): string {
  const folders = (process.env.PATH ?? "").split(delimiter).filter((folder) => !folder.startsWith(ROOT));
  const found = folders.map((folder) => join(folder, "node")).find((path) => existsSync(path));
  return found ?? process.execPath;
}

describe("the npm package in an empty folder", function () {
  this.timeout(240_000);
  const folder = join(temporaryFolder(), "app");
  const launcher = join(folder, "node_modules", "infernet", "dist", "launcher.cjs");
  let upstream: Upstream;
  let server: OpenAiServer;

  before(async () => {
    await mkdir(folder);
    await writeFile(join(folder, "package.json"), '{ "private": true }');
    const { stdout } = await run("npm", ["pack", "--silent", "--pack-destination", folder], {
      cwd: ROOT,
      env,
    });
    const tarball = join(folder, stdout.trim().split("\n").at(-1)!);
    await run("npm", ["install", "--no-audit", "--no-fund", "--ignore-scripts", tarball], {
      cwd: folder,
      env,
    });
    upstream = await openUpstream({
      kind: "embedded",
      modelFile: tinyModelFile(),
      modelName: MODEL,
      threads: 1,
    });
    server = await startOpenAiServer(upstream);
  });
  after(async () => {
    await server?.close();
    await upstream?.close();
  });

  it("is small: few packages, few megabytes, no hardhat, no compiler, no model runtime", async () => {
    const entries = await readdir(join(folder, "node_modules"), { recursive: true, withFileTypes: true });
    const sizes = entries
      .filter((entry) => entry.isFile())
      .map((entry) => stat(join(entry.parentPath, entry.name)));
    const bytes = (await Promise.all(sizes)).reduce((sum, { size }) => sum + size, 0);
    const packages = (await readdir(join(folder, "node_modules"))).filter((name) => !name.startsWith("."));
    expect(packages.length).to.be.at.most(MOST_PACKAGES);
    expect(bytes / 1e6).to.be.at.most(MOST_MEGABYTES);
    for (const heavy of ["hardhat", "solc", "typescript", "node-llama-cpp"])
      expect(packages).to.not.include(heavy);
  });

  for (const [name, node] of [
    ["the Node that it wants", process.execPath],
    ["this machine's own Node", systemNode()],
  ] as const) {
    it(`registers, works and buys against a chain elsewhere, started by ${name}`, async () => {
      const market = await openMarket({
        command: [node, launcher],
        upstream: ["--upstream", "openai", "--upstream-url", server.url],
      });
      try {
        const worker = await market.startWorker("--log-level", "error");
        const ended = await market.submit("hello", "--max-tokens", "20", "--json", "--wait").ended;
        expect(ended.exitCode, ended.stderr).to.equal(0);
        const bill = JSON.parse(ended.stdout);
        expect(bill.settled.chargeUsdc).to.equal(bill.chargeUsdc);
        await worker.event("settled", bill.jobId);
        // A launcher that starts another Node can pass on every signal but SIGKILL.
        worker.child.kill("SIGTERM");
        expect((await worker.ended).exitCode).to.equal(0);
      } finally {
        await market.close();
      }
    });
  }

  it("says what to install when it is to run a model itself", async () => {
    const chain = await startLocalChain();
    const user = await createCommandLine(chain, [process.execPath, launcher]);
    try {
      const flags = [
        "--payee",
        `0x${"11".repeat(20)}`,
        "--endpoint",
        "https://127.0.0.1:1",
        "--upstream",
        "embedded",
      ];
      const ended = await user.run([
        "register",
        ...flags,
        "--model-file",
        tinyModelFile(),
        "--model",
        "m=1:1",
      ]);
      expect(ended.exitCode).to.equal(2);
      expect(ended.stderr).to.contain("npm install node-llama-cpp");
    } finally {
      await user.remove();
      await chain.stop();
    }
  });
});
