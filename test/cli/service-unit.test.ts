import { execFileSync, spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "chai";
import { renderServiceUnit, type ServiceCall } from "../../cli/service-unit.ts";
import { longestStopSeconds, PROVIDER_DEFAULTS } from "../../provider/config.ts";
import { type CommandLine, createCommandLine } from "../support/command-line.ts";
import { temporaryFolder } from "../support/machine.ts";

/** A unit's settings by section and name, each with its values in order. Throws on a line that is none. */
function readUnit(text: string): Record<string, Record<string, string[]>> {
  const unit: Record<string, Record<string, string[]>> = {};
  let section = "";
  for (const line of text.split("\n")) {
    const header = /^\[(\w+)\]$/.exec(line);
    const setting = /^(\w+)=(.*)$/.exec(line);
    if (header) {
      section = header[1]!;
      unit[section] = {};
    } else if (setting) {
      const values = unit[section]![setting[1]!] ?? [];
      unit[section]![setting[1]!] = [...values, setting[2]!];
    } else if (line !== "" && !line.startsWith("#")) throw new Error(`not a line of a unit: ${line}`);
  }
  return unit;
}

const CALL: ServiceCall = {
  program: "/usr/bin/node",
  script: "/usr/lib/node_modules/infernet/dist/infernet.js",
  args: ["worker", "--print-service"],
  env: {},
  cwd: "/srv/node",
  user: "ann",
  stopSeconds: 60,
};
const textOf = (changes: Partial<ServiceCall> = {}) => renderServiceUnit({ ...CALL, ...changes });
const serviceOf = (changes: Partial<ServiceCall> = {}) => readUnit(textOf(changes)).Service!;
const commandOf = (...args: string[]) => serviceOf({ args: ["worker", ...args] }).ExecStart![0]!;
const systemdAnalyze = spawnSync("systemd-analyze", ["--version"]).status === 0;

describe("worker --print-service", function () {
  this.timeout(20_000);
  let user: CommandLine;

  before(async () => {
    user = await createCommandLine();
  });
  after(() => user.remove());

  it("prints a unit that systemd takes, made from the flags as given, without chain or keys", async () => {
    const flags = ["--port", "8443", "--price", "llama3.2:1b=0.04:0.15", "--settle", "worth"];
    const { exitCode, stdout, stderr } = await user.run(["worker", ...flags, "--print-service"], {
      env: { INFERNET_HOME: "" },
    });
    expect([exitCode, stderr]).to.deep.equal([0, ""]);
    const service = readUnit(stdout).Service!;
    expect(service.ExecStart![0]).to.match(
      /infernet\.js worker --port 8443 --price llama3\.2:1b=0\.04:0\.15 --settle worth$/,
    );
    expect(Number(service.TimeoutStopSec![0])).to.be.greaterThan(longestStopSeconds(PROVIDER_DEFAULTS));
    const document = JSON.parse((await user.run(["worker", "--print-service", "--json"])).stdout);
    expect(Object.keys(document)).to.deep.equal(["unit"]);
    if (!systemdAnalyze) return; // Elsewhere the parsing above has to do.
    const path = join(temporaryFolder(), "infernet.service");
    writeFileSync(path, stdout);
    expect(
      execFileSync("systemd-analyze", ["verify", "--man=no", path], { encoding: "utf8", stdio: "pipe" }),
    ).to.equal("");
  });

  it("gives the service a user, a home and a passphrase that nobody else can read", () => {
    const service = serviceOf();
    expect(service).to.deep.include({
      DynamicUser: ["yes"],
      StateDirectory: ["infernet"],
      LoadCredential: ["passphrase:/etc/infernet/passphrase"],
      ProtectSystem: ["strict"],
      ProtectHome: ["yes"],
      Restart: ["on-failure"],
      KillSignal: ["SIGINT"],
      TimeoutStopSec: ["90"],
    });
    expect(service.Environment).to.deep.equal([
      "INFERNET_HOME=%S/infernet",
      "INFERNET_PASSPHRASE_FILE=%d/passphrase",
    ]);
    expect(service.MemoryDenyWriteExecute).to.equal(undefined);
  });

  it("uses a home that was named, by its user", () => {
    const service = serviceOf({ args: ["worker", "--home", "keys", "--print-service"] });
    expect(service.User).to.deep.equal(["ann"]);
    expect(service.ReadWritePaths).to.deep.equal(["/srv/node/keys"]);
    expect(service.Environment).to.include("INFERNET_HOME=/srv/node/keys");
    expect(service.DynamicUser).to.equal(undefined);
    expect(serviceOf({ env: { INFERNET_HOME: "/home/ann/.infernet" } }).ProtectHome).to.deep.equal([
      "read-only",
    ]);
  });

  it("makes paths absolute, and keeps what systemd would read otherwise from being read so", () => {
    expect(commandOf("--model-file", "m.gguf")).to.match(/ --model-file \/srv\/node\/m\.gguf$/);
    expect(commandOf("--upstream", "embedded=m.gguf,slots=2")).to.match(
      / embedded=\/srv\/node\/m\.gguf,slots=2$/,
    );
    expect(commandOf("--deployment=d")).to.match(/ --deployment \/srv\/node\/d$/);
    expect(commandOf("--model-name", 'a "b" 5%$x\\')).to.match(/ --model-name "a \\"b\\" 5%%\$\$x\\\\"$/);
  });

  it("may take a port below 1024 only where it could need one", () => {
    expect(serviceOf().AmbientCapabilities).to.deep.equal(["CAP_NET_BIND_SERVICE"]);
    expect(serviceOf({ args: ["worker", "--port", "443"] }).AmbientCapabilities![0]).to.equal(
      "CAP_NET_BIND_SERVICE",
    );
    expect(serviceOf({ args: ["worker", "--port", "8443"] }).CapabilityBoundingSet).to.deep.equal([""]);
  });

  it("names the settings of the environment and copies none of them", () => {
    const env = {
      INFERNET_RPC_URL: "https://rpc.example/secret-key",
      INFERNET_PASSPHRASE: "correct horse",
      INFERNET_PASSPHRASE_FILE: "pass.txt",
    };
    const text = textOf({ env });
    expect(text).to.contain("# Set in /etc/infernet/environment what is set now: INFERNET_RPC_URL\n");
    expect(text).to.not.contain("secret-key");
    expect(text).to.not.contain("correct horse");
    expect(serviceOf({ env }).LoadCredential).to.deep.equal(["passphrase:/srv/node/pass.txt"]);
  });

  it("lets a worker with --docker speak to Docker", () => {
    const service = serviceOf({ args: ["worker", "--docker"] });
    expect(service.SupplementaryGroups).to.deep.equal(["docker"]);
    expect(serviceOf().SupplementaryGroups).to.equal(undefined);
  });
});
