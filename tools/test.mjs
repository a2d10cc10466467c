// Owns `npm test`: installs what is missing, runs every suite in order, and ends with "N passed, N failed".
import { spawn } from "node:child_process";
import { resolve } from "node:path";
import { setUp } from "./setup.mjs";

const root = resolve(import.meta.dirname ?? new URL(".", import.meta.url).pathname, "..");
const mocha = (...paths) => ["mocha", "--import=tsx", "--forbid-only", ...paths];

/** `minutes` is when a hung suite is ended; `counts: false` marks a step that passes or fails as one. */
const SUITES = [
  { name: "build", command: ["npm", "run", "--silent", "build"], minutes: 10, counts: false },
  { name: "check", command: ["npm", "run", "--silent", "check"], minutes: 5, counts: false },
  { name: "contracts", command: ["tsx", "tools/coverage.ts"], minutes: 8 },
  { name: "fuzz and invariants", command: ["hardhat", "test", "solidity", "--no-compile"], minutes: 10 },
  {
    name: "units",
    command: mocha("test/{protocol,chain,runtime,provider,requester,cli,docs}/**/*.test.ts"),
    minutes: 10,
  },
  { name: "end to end", command: mocha("test/e2e/**/*.test.ts"), minutes: 15 },
];

/** Whether somebody wants an end: nothing more is started. */
let interrupted = false;

/** Runs one suite in a process group of its own, shows what it prints, and reads mocha's own counts from it. */
function runSuite({ name, command, minutes, counts = true }, env) {
  return new Promise((done) => {
    const started = Date.now();
    console.log(`\n== ${name}`);
    const [program, ...args] = command;
    const child = spawn(program, args, { cwd: root, env, stdio: ["ignore", "pipe", "pipe"], detached: true });
    let tail = "";
    const totals = { passing: 0, failing: 0, pending: 0 };
    const read = (stream, out) =>
      stream.setEncoding("utf8").on("data", (text) => {
        out.write(text);
        tail += text;
        const lines = tail.split("\n");
        tail = lines.pop();
        for (const line of lines) {
          const match = /^\s*(\d+) (passing|failing|pending)\b/.exec(line);
          if (match) totals[match[2]] += Number(match[1]);
        }
      });
    read(child.stdout, process.stdout);
    read(child.stderr, process.stderr);
    const endGroup = (signal) => {
      try {
        process.kill(-child.pid, signal);
      } catch {
        // The group is gone already.
      }
    };
    const limit = setTimeout(() => {
      console.error(`infernet: "${name}" did not end in ${minutes} minutes; ending it`);
      endGroup("SIGKILL");
    }, minutes * 60_000);
    const interrupt = () => {
      interrupted = true;
      endGroup("SIGTERM");
    };
    process.once("SIGINT", interrupt).once("SIGTERM", interrupt);
    child.on("error", (error) => console.error(`infernet: ${error.message}`));
    child.on("close", (code) => {
      clearTimeout(limit);
      process.off("SIGINT", interrupt).off("SIGTERM", interrupt);
      const ran = totals.passing + totals.failing > 0;
      // A suite that ends badly without a failing test, or runs no test at all, is itself a failure.
      const broken = code !== 0 ? totals.failing === 0 : counts && !ran;
      done({
        name,
        seconds: Math.round((Date.now() - started) / 1000),
        passed: counts ? totals.passing : Number(code === 0),
        failed: counts ? totals.failing + Number(broken) : Number(code !== 0),
        pending: totals.pending,
        stop: name === "build" && code !== 0,
      });
    });
  });
}

const env = setUp();
const asked = process.argv.slice(2);
const chosen = SUITES.filter(({ name }) => asked.length === 0 || name === "build" || asked.includes(name));
const results = [];
for (const suite of chosen) {
  const result = await runSuite(suite, env);
  results.push(result);
  if (result.stop || interrupted) break;
}

console.log("\n== seconds per suite");
for (const { name, seconds, passed, failed, pending } of results) {
  console.log(
    `${String(seconds).padStart(5)}  ${name}: ${passed} passed, ${failed} failed${pending ? `, ${pending} pending` : ""}`,
  );
}
const sum = (key) => results.reduce((total, result) => total + result[key], 0);
console.log(`${sum("passed")} passed, ${sum("failed")} failed`);
process.exitCode = sum("failed") > 0 ? 1 : 0;
