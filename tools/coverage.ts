// Owns the contracts' suite under coverage: passes when every test does and no line of a contract is left out.
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";

const REPORT = "coverage/lcov.info";

const { status } = spawnSync("hardhat", ["test", "mocha", "--coverage"], { stdio: "inherit" });
const missed = missedLines(readFileSync(REPORT, "utf8"));
for (const line of missed) console.error(`never run by a test: ${line}`);
// In mocha's form, so that the count of `npm test` has it.
console.log(
  missed.length === 0 ? "  1 passing: contracts at 100% lines" : "  1 failing: contracts below 100% lines",
);
process.exitCode = status !== 0 || missed.length > 0 ? 1 : 0;

/** `file:line` of each line of contracts/ that was not executed; the mocks are tests' own affair. */
function missedLines(lcov: string): string[] {
  const missed: string[] = [];
  let file = "";
  let counted = 0;
  for (const record of lcov.split("\n")) {
    if (record.startsWith("SF:")) file = record.slice(3);
    const match = /^DA:(\d+),(\d+)/.exec(record);
    if (!match || !/(^|\/)contracts\/(?!mocks\/)/.test(file)) continue;
    counted++;
    if (match[2] === "0") missed.push(`${file}:${match[1]}`);
  }
  if (counted === 0) throw new Error(`${REPORT} counts no line of contracts/`);
  return missed;
}
