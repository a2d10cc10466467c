// Owns `npm run test:deep [runs] [depth]`: all invariants in one long campaign, and what it reached.
import { mkdirSync, readFileSync, rmSync } from "node:fs";
import { resolve } from "node:path";
import hre from "hardhat";

const CAMPAIGN = "test/contracts/invariants/Campaign.t.sol";
const FOLDER = "cache/deep";
const REACH = `${FOLDER}/reach-${process.pid}.txt`;

type Metrics = Record<string, { calls: bigint; reverts: bigint }>;
type Kind = { runs: bigint; calls: bigint; reverts: bigint; metrics: Metrics };

const [runs = 10_000, depth = 100] = process.argv.slice(2).map(Number);
const profile = hre.config.test.solidity.profiles.default!;
profile.invariant = { ...profile.invariant, runs, depth };
profile.fsPermissions = { dangerouslyReadWriteDirectory: [resolve(FOLDER)] };
process.env.INFERNET_REACH_FILE = resolve(REACH);
mkdirSync(FOLDER, { recursive: true });
rmSync(REACH, { force: true });

const started = Date.now();
console.log(`one campaign of ${runs} runs x depth ${depth}: invariants asserted after every call`);
await hre.tasks.getTask(["build"]).run({ quiet: true });
const result = await hre.tasks.getTask(["test", "solidity"]).run({ testFiles: [CAMPAIGN], noCompile: true });
const results = result.value.suiteResults.flatMap(
  ({ testResults }: { testResults: unknown[] }) => testResults,
);
for (const { name, kind } of results as { name: string; kind: Kind }[]) print(name, kind);
printReach();
console.log(`${Math.round((Date.now() - started) / 1000)} seconds`);
process.exitCode = result.success ? 0 : 1;

function print(name: string, { runs, calls, reverts, metrics }: Kind): void {
  console.log(`${name}: ${runs} runs, ${calls} calls, ${reverts} reverts`);
  for (const [action, count] of Object.entries(metrics).sort()) {
    console.log(`  ${count.calls.toString().padStart(9)}  ${action.replace(/^.*:/, "")}`);
  }
}

/** Adds up what the handlers wrote after each run: how often each branch of theirs was taken. */
function printReach(): void {
  const totals = new Map<string, number>();
  for (const line of readFileSync(REACH, "utf8").trim().split("\n")) {
    const [handler, ...counts] = line.trim().split(" ");
    for (const count of counts) {
      const [branch, times] = count.split("=");
      const key = `${handler} ${branch}`;
      totals.set(key, (totals.get(key) ?? 0) + Number(times));
    }
  }
  console.log("branches that the handlers reached:");
  for (const [branch, times] of [...totals].sort())
    console.log(`  ${times.toString().padStart(9)}  ${branch}`);
}
