// Every example of every command's --help is run as it stands: by a seller, a buyer and a newcomer on one real market.
import { copyFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "chai";
import { openUpstream } from "../../provider/upstreams/open.ts";
import type { Upstream } from "../../provider/upstreams/upstream.ts";
import { generatePrivateKey } from "../../runtime/signers/secp256k1.ts";
import { freePort } from "../../tools/demo/processes.ts";
import { type CommandLine, createCommandLine, type Ended } from "../support/command-line.ts";
import { DOCKER_EXAMPLES } from "../support/docker-examples.ts";
import { JSON_FORMS } from "../support/json-forms.ts";
import type { LoopbackServer } from "../support/loopback-server.ts";
import { type Market, openMarket } from "../support/market.ts";
import { startOllamaServer } from "../support/ollama-server.ts";
import { tinyModelFile } from "../support/tiny-model.ts";

const SOLD = "llama3.2:1b";
const SOME_JOB = `0x${"5e".repeat(32)}`;
const SOME_NODE = "node show 0x70997970C51812dc3A010C7d01b50e0d17dc79C8";

type Who = "seller" | "buyer" | "newcomer" | "importer";
/** An example as it stands in the help, who runs it, and how it ends there: well, unless another exit code is named. */
type Scene = [who: Who, example: string, exitCode?: number];

/** In an order in which each is possible: first the seller, then the buyer, last what changes the seller for good. */
const SCENES: readonly Scene[] = [
  ["newcomer", "node create"],
  ["newcomer", "node create --home ./seller --json"],
  ["newcomer", "wallet create"],
  ["newcomer", "wallet create --home ./buyer --json"],
  ["importer", "wallet import < private-key.txt"],
  ["importer", "wallet import --file UTC--2026-11-30.json"],
  ["newcomer", "config set rpcUrl https://mainnet.base.org"],
  ["newcomer", "config set requester.maxUsdcPerDay 2.50"],
  ["newcomer", "config get rpcUrl"],
  ["newcomer", "config get requester.maxUsdcPerDay --json"],
  ["newcomer", "config list"],
  ["newcomer", "config list --json"],
  ["newcomer", "config path"],
  ["newcomer", "config unset rpcUrl"],
  ["newcomer", "completion bash"],
  ["newcomer", "completion zsh"],
  ["newcomer", "completion fish"],
  ["seller", "register"],
  ["seller", "node show"],
  ["seller", `${SOME_NODE} --json`],
  ["seller", "worker"],
  ["seller", "worker --upstream ollama --price llama3.2:1b=0.04:0.15 --settle worth"],
  [
    "seller",
    "worker --upstream ollama,slots=2 --upstream openai=http://127.0.0.1:8000/v1,slots=8 --capacity 6",
  ],
  ["seller", "register && infernet worker"],
  ["seller", "worker --print-service > infernet.service"],
  ["seller", "worker stop"],
  ["seller", "worker stop --leave-container"],
  // From here on a worker serves.
  ["seller", "doctor"],
  ["seller", "doctor --upstream ollama --json"],
  ["buyer", "models"],
  ["buyer", "models --search llama"],
  ["buyer", "models --search llama --json"],
  ["buyer", "models --features"],
  ["buyer", "nodes"],
  ["buyer", "nodes --model llama3.2:1b --json"],
  ["buyer", "nodes --features"],
  ["buyer", "wallet address"],
  ["seller", "wallet address --node-key"],
  ["buyer", "wallet balance"],
  ["buyer", "wallet balance --json"],
  ["buyer", "wallet fund"],
  ["buyer", "wallet fund --amount 5"],
  ["buyer", "wallet fund --amount 5 --wait-funds 30m --json"],
  ["buyer", "wallet deposit 5"],
  ["buyer", "wallet deposit 5 --wait-funds 30m"],
  ["buyer", "wallet deposit all --gas node --json"],
  ["buyer", 'job submit --model llama3.2:1b --prompt "Why is the sky blue?" --max-usdc 0.01'],
  ["buyer", "job submit --model llama3.2:1b --file notes.txt --max-tokens 200 --json"],
  ["buyer", 'job submit --model llama3.2:1b --prompt "Hello" --wait-funds 30m'],
  ["buyer", "session open --model llama3.2:1b"],
  ["buyer", "session open --model llama3.2:1b --deposit 0.10 --json"],
  ["buyer", 'job submit --session --model llama3.2:1b --prompt "Hello again"'],
  ["buyer", "session list"],
  ["buyer", "session list --json"],
  ["buyer", `session close ${SOME_JOB}`],
  ["buyer", "session close"],
  ["buyer", "session close --json"],
  ["buyer", "job list"],
  ["buyer", "job list --json"],
  ["buyer", "spending"],
  ["buyer", "spending --since 2026-11-30 --model llama3.2:1b --json"],
  ["buyer", "spending --csv"],
  ["buyer", "gateway"],
  ["buyer", "gateway --model-alias gpt-4o=llama3.2:1b --max-price 0.50:1.50"],
  ["buyer", "gateway status"],
  ["buyer", "gateway status --json"],
  ["buyer", `job wait ${SOME_JOB} --timeout 2m`],
  ["buyer", `job status ${SOME_JOB}`],
  ["buyer", `job result ${SOME_JOB}`],
  ["buyer", `job close ${SOME_JOB}`],
  ["buyer", `job refund ${SOME_JOB}`],
  ["buyer", "job recover"],
  ["buyer", "job recover --json"],
  ["buyer", "wallet withdraw 2.5 --to 0x70997970C51812dc3A010C7d01b50e0d17dc79C8"],
  ["buyer", "wallet withdraw all"],
  ["buyer", "wallet export --out wallet-copy.json"],
  // Without a terminal nobody can confirm: it asks for --yes.
  ["buyer", "wallet export --private-key", 2],
  ["buyer", "backup infernet-backup"],
  ["seller", "backup infernet-backup --json"],
  ["buyer", "restore infernet-backup --home ./new-home"],
  ["seller", "node earnings"],
  ["seller", "node earnings --json"],
  ["seller", "node payout"],
  ["seller", "node payout --json"],
  ["seller", "node retire"],
  ["seller", "node retire --undo"],
  ["seller", "node update --model llama3.2:1b=0.04:0.15 --no-check"],
  ["seller", "node update --endpoint https://node.example:8443"],
  ["seller", "register --endpoint https://node.example:8443 --model llama3.2:1b=0.05:0.20 --upstream ollama"],
];

/** Commands whose examples name no --json: run once more with it, for the form of their documents. */
const JSON_SCENES: readonly Scene[] = [
  ["newcomer", "completion bash --json"],
  ["newcomer", "config set logLevel warn --json"],
  ["newcomer", "config unset logLevel --json"],
  ["newcomer", "config path --json"],
  ["importer", "wallet import --file UTC--2026-11-30.json --json"],
  ["buyer", "wallet address --json"],
  ["buyer", "wallet export --json"],
  ["buyer", "wallet deposit 1 --json"],
  ["buyer", "wallet withdraw 0.5 --json"],
  ["buyer", "job submit --session --model llama3.2:1b --prompt Hello --json"],
  ["buyer", `job status ${SOME_JOB} --json`],
  ["buyer", `job wait ${SOME_JOB} --json`],
  ["buyer", `job result ${SOME_JOB} --json`],
  ["buyer", `job close ${SOME_JOB} --json`],
  ["buyer", `job refund ${SOME_JOB} --json`],
  ["buyer", "restore infernet-backup --home ./other-home --json"],
  ["seller", "register --json"],
  ["seller", "node retire --json"],
  ["seller", "node retire --undo --json"],
  ["seller", "node update --model llama3.2:1b=0.03:0.10 --no-check --json"],
  // The worker that has served until now.
  ["seller", "worker stop --json"],
];
/** Until the seller leaves its endpoint, and nobody finds it any more. */
const LAST_SCENES = SCENES.findIndex(([, example]) => example.startsWith("node update --endpoint"));

describe("the examples of every command's help", function () {
  this.timeout(120_000);
  let upstream: Upstream;
  let ollama: LoopbackServer;
  let market: Market;
  let newcomer: CommandLine;
  let jobId = SOME_JOB;

  before(async () => {
    upstream = await openUpstream({
      kind: "embedded",
      modelFile: tinyModelFile(),
      modelName: SOLD,
      threads: 1,
    });
    ollama = await startOllamaServer(upstream, [SOLD]);
    market = await openMarket({
      model: SOLD,
      prices: "0.05:0.20",
      upstream: ["--upstream", "ollama"],
      sellerEnv: { OLLAMA_HOST: ollama.url },
      allowance: 20_000_000n,
    });
    newcomer = await createCommandLine();
    await writeFile(join(market.buyer.home, "notes.txt"), "Notes on the sky.");
    // The gateway's own port may be taken where tests run.
    const gateway = { port: await freePort() };
    await writeFile(join(market.buyer.home, "config.json"), JSON.stringify({ gateway }));
  });
  after(async () => {
    await newcomer?.remove();
    await market?.close();
    await ollama?.close();
    await upstream?.close();
  });

  it("are these, and no other", async () => {
    const told = await examplesBelow(newcomer, []);
    const played = [...SCENES.map(([, example]) => example), ...DOCKER_EXAMPLES];
    expect(told.sort()).to.deep.equal(played.sort());
  });

  it("have a form for the JSON of every command", () => {
    const written = [...SCENES, ...JSON_SCENES].filter(([, example]) => example.endsWith("--json"));
    const named = new Set(written.map(([, example]) => commandOf(example)));
    expect([...named].sort()).to.deep.equal(Object.keys(JSON_FORMS).sort());
  });

  const scenes = [...SCENES.slice(0, LAST_SCENES), ...JSON_SCENES, ...SCENES.slice(LAST_SCENES)];
  for (const [who, example, exitCode = 0] of scenes) {
    it(`${who}: infernet ${example}`, async () => {
      if (example === "doctor") await market.startWorker("--log-level", "error");
      const ended = await play(who, example);
      expect(ended.exitCode, ended.stderr).to.equal(exitCode);
      if (example.endsWith("--json")) JSON_FORMS[commandOf(example)]!.parse(JSON.parse(ended.stdout));
      if (example === "job list --json") {
        const { jobs } = JSON.parse(ended.stdout);
        ({ jobId } = jobs.find(({ kind }: { kind: string }) => kind === "single"));
      }
      if (example === "session list --json") [{ jobId }] = JSON.parse(ended.stdout).sessions;
    });
  }

  /** Runs an example; a worker is ended once it is live, and money comes to whoever waits for it. */
  async function play(who: Who, example: string): Promise<Ended> {
    const words = wordsOf(
      example
        .replace(SOME_JOB, jobId)
        .replace(SOME_NODE, `node show ${market.node}`)
        .replace(/^register && infernet /, ""),
    );
    const shellOutput = words.indexOf(">");
    if (shellOutput >= 0) return market.watch("seller", words.slice(0, shellOutput)).ended;
    if (words[0] === "worker" && words[1] !== "stop") return live("seller", words, "your node is live");
    if (words[0] === "gateway") return besideGateway(words);
    if (who === "importer") return importKey(words);
    if (who === "newcomer") return newcomer.run(words);
    const running = market.watch(who, words);
    if (example.startsWith("wallet fund") && words.includes("--wait-funds")) {
      await running.until(({ stderr }) => stderr.includes("fundsAwaited"));
      await market.chain.mintUsdc(market.requester, 5_000_000n);
    }
    return running.ended;
  }

  /** Imports by somebody who has no wallet yet, from the files that the examples name. */
  async function importKey(words: string[]): Promise<Ended> {
    const importer = await createCommandLine();
    try {
      await copyFile(join(newcomer.home, "wallet.json"), join(importer.home, "UTC--2026-11-30.json"));
      const shellInput = words.indexOf("<");
      if (shellInput === -1) return await importer.run(words);
      return await importer.run(words.slice(0, shellInput), { stdin: `${generatePrivateKey()}\n` });
    } finally {
      await importer.remove();
    }
  }

  /** Starts what runs until it is stopped, does something beside it, and stops it. */
  async function live(
    side: "seller" | "buyer",
    words: string[],
    sign: string,
    beside?: () => Promise<Ended>,
  ): Promise<Ended> {
    const running = market.watch(side, words);
    await running.until(({ stdout }) => stdout.includes(sign));
    const result = await beside?.();
    running.child.kill("SIGTERM");
    const ended = await running.ended;
    return result ?? ended;
  }

  async function besideGateway(words: string[]): Promise<Ended> {
    const sign = "the gateway listens at";
    if (words[1] !== "status") return live("buyer", words, sign);
    return live("buyer", ["gateway"], sign, () => market.watch("buyer", words).ended);
  }
});

/** The EXAMPLE lines of a command and of all commands below it, read from what --help prints. */
async function examplesBelow(user: CommandLine, command: readonly string[]): Promise<string[]> {
  const { stdout } = await user.run([...command, "--help"]);
  const own = [...stdout.matchAll(/^ {2}\$ infernet (.+)$/gm)].map(([, example]) => example!);
  const [, list = ""] = stdout.split("\nCommands:\n");
  const names = [...list.split("\n\n")[0]!.matchAll(/^ {2}(\S+)/gm)].map(([, name]) => name!);
  const below = await Promise.all(names.map((name) => examplesBelow(user, [...command, name])));
  return [...new Set([...own, ...below.flat()])];
}

/** The command of an example: its first word, and the second where the first is a group. */
function commandOf(example: string): string {
  const [first, second] = example.split(" ");
  if (example.startsWith("job submit --session")) return "job submit --session";
  const isGroup =
    ["node", "wallet", "job", "session", "config"].includes(first!) || ["status", "stop"].includes(second!);
  return isGroup ? `${first} ${second}` : first!;
}

/** The words of a shell line with double quotes. */
function wordsOf(line: string): string[] {
  return [...line.matchAll(/"([^"]*)"|(\S+)/g)].map(([, quoted, plain]) => quoted ?? plain!);
}
