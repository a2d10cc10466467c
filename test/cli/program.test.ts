import { once } from "node:events";
import { readdir, readFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { expect } from "chai";
import { type CommandLine, createCommandLine } from "../support/command-line.ts";

const COMMANDS = [
  [],
  ["register"],
  ["worker"],
  ["nodes"],
  ["completion"],
  ["config", "list"],
  ["config", "get"],
  ["config", "set"],
  ["config", "unset"],
  ["config", "path"],
  ["models"],
  ["node", "create"],
  ["node", "show"],
  ["job", "submit"],
  ["job", "status"],
  ["job", "list"],
  ["job", "close"],
  ["job", "refund"],
  ["job", "recover"],
  ["wallet", "create"],
  ["wallet", "import"],
  ["wallet", "export"],
  ["wallet", "address"],
  ["wallet", "balance"],
  ["wallet", "fund"],
  ["wallet", "deposit"],
  ["wallet", "withdraw"],
];

describe("the command line, as a process without a terminal", function () {
  this.timeout(60_000);
  let user: CommandLine;
  before(async () => {
    user = await createCommandLine();
  });
  after(() => user.remove());

  it("shows help with an example for every command, on stdout", async () => {
    const shown = await Promise.all(COMMANDS.map((command) => user.run([...command, "--help"])));
    for (const [index, { exitCode, stdout, stderr }] of shown.entries()) {
      const line = ["infernet", ...COMMANDS[index]!].join(" ");
      expect(exitCode, line).to.equal(0);
      expect(stderr, line).to.equal("");
      expect(stdout, line).to.contain("EXAMPLE\n  $ infernet ");
      expect(stdout, line).to.contain("--rpc-url");
    }
  });

  it("loads no heavy package for --help and --version", async () => {
    const dist = resolve(import.meta.dirname, "../../dist");
    const entry = await readFile(join(dist, "infernet.js"), "utf8");
    const eager = [...entry.matchAll(/^import .*"\.\/parts\/(.+)";$/gm)].map(([, name]) => name!);
    const parts = await Promise.all(eager.map((name) => readFile(join(dist, "parts", name), "utf8")));
    for (const text of [entry, ...parts])
      expect(text).to.not.match(/node_modules\/(ethers|fastify|zod|undici)\//);
  });

  it("prints its version", async () => {
    const packageJson = JSON.parse(
      await readFile(resolve(import.meta.dirname, "../../package.json"), "utf8"),
    );
    expect((await user.run(["--version"])).stdout).to.equal(`${packageJson.version}\n`);
  });

  it("ends a wrong command line with 2 and a hint, on stderr", async () => {
    const lines = [
      ["wallet"],
      ["walet"],
      ["wallet", "crate"],
      ["nodes", "--moddel", "m"],
      ["wallet", "deposit"],
      ["wallet", "deposit", "much"],
      ["wallet", "withdraw", "1", "--to", "0x70997970C51812dc3A010C7d01b50e0d17dc79C9"],
      ["nodes", "extra"],
      ["nodes", "--chain-id", "0"],
    ];
    const ends = await Promise.all(lines.map((line) => user.run(line)));
    for (const [index, { exitCode, stdout, stderr }] of ends.entries()) {
      const line = lines[index]!.join(" ");
      expect([exitCode, stdout], line).to.deep.equal([2, ""]);
      expect(stderr, line).to.match(/^error: .+\nhint: See infernet .*--help\.\n$/);
    }
  });

  it("tells a wrong command line as JSON when asked for JSON", async () => {
    const { exitCode, stderr } = await user.run(["nodes", "--json", "--moddel", "m"]);
    expect(exitCode).to.equal(2);
    expect(JSON.parse(stderr).error).to.include({ code: "bad-request", exitCode: 2 });
  });

  it("ends with 7 when no chain answers, with the error as JSON on stderr and nothing on stdout", async () => {
    const env = { INFERNET_RPC_URL: "http://127.0.0.1:9" };
    const { exitCode, stdout, stderr } = await user.run(["nodes", "--json"], { env });
    expect([exitCode, stdout]).to.deep.equal([7, ""]);
    expect(JSON.parse(stderr).error.code).to.equal("chain-unreachable");
  });

  it("ends with 8 and says how to make one when there is no wallet", async () => {
    const { exitCode, stderr } = await user.run(["wallet", "address"]);
    expect(exitCode).to.equal(8);
    expect(stderr).to.contain("infernet wallet create");
  });

  it("never waits for a passphrase that nobody can type: ends with 2, nothing made", async () => {
    const { exitCode, stderr } = await user.run(["wallet", "create"], { env: { INFERNET_PASSPHRASE: "" } });
    expect(exitCode).to.equal(2);
    expect(stderr).to.contain("INFERNET_PASSPHRASE_FILE");
    expect(await readdir(user.home)).to.deep.equal([]);
  });

  it("has no flag for a passphrase", async () => {
    const { exitCode } = await user.run(["wallet", "create", "--passphrase", "correct horse"]);
    expect(exitCode).to.equal(2);
  });

  it("is quiet when the reader of its output has gone", async () => {
    const child = user.start(["--help"]);
    child.stdout!.destroy();
    let stderr = "";
    child.stderr!.on("data", (part) => {
      stderr += part;
    });
    const [exitCode] = await once(child, "close");
    expect([exitCode, stderr]).to.deep.equal([0, ""]);
  });

  it("ends with 130 when it is interrupted while it waits for input", async () => {
    const child = user.start(["job", "submit", "--model", "m"], { stdin: null });
    // More than a pipe holds: the write ends once the command reads.
    await new Promise((resolve) => child.stdin!.write("a".repeat(1 << 18), resolve));
    child.kill("SIGINT");
    const [exitCode] = await once(child, "close");
    expect(exitCode).to.equal(130);
  });

  it("ends with 2 when a prompt is given twice, empty, not text, or not there", async () => {
    const submit = ["job", "submit", "--model", "m"];
    const runs = [
      user.run([...submit, "--prompt", "a", "--file", "b"]),
      user.run([...submit, "--prompt", " "]),
      user.run(submit),
      user.run([...submit, "--file", process.execPath]),
      user.run([...submit, "--file", join(user.home, "nothing")]),
    ];
    for (const { exitCode, stdout, stderr } of await Promise.all(runs)) {
      expect([exitCode, stdout], stderr).to.deep.equal([2, ""]);
    }
  });

  it("makes no wallet for a job that no chain could take", async () => {
    const env = { INFERNET_RPC_URL: "http://127.0.0.1:9" };
    const { exitCode } = await user.run(["job", "submit", "--model", "m", "--prompt", "hello"], { env });
    expect(exitCode).to.equal(7);
    expect(await readdir(user.home)).to.deep.equal([]);
  });
});
