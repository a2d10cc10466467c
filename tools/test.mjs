// Owns `npm test`: installs what is missing, runs every suite, and ends with "N passed, N failed".
import { spawn } from "node:child_process";
import { availableParallelism } from "node:os";
import { resolve } from "node:path";
import { setUp } from "./setup.mjs";

const root = resolve(import.meta.dirname ?? new URL(".", import.meta.url).pathname, "..");
const mocha = (...paths) => ["mocha", "--import=tsx", "--forbid-only", ...paths];

/**
 * What the others stand on. `minutes` is when a hung suite is ended; `counts: false` marks a step that passes or fails
 * as one; `mayBePending` one that this machine may lack the means for, so that all of its tests are skipped.
 */
const BUILD = { name: "build", command: ["npm", "run", "--silent", "build"], minutes: 10, counts: false };

/** Two lanes of about the same length: side by side where there are two cores, else one after the other. */
const LANES = [
  [
    // Builds an Ollama where none is kept, before the units that want it.
    { name: "real servers", command: ["tsx", "tools/docker/prepare.ts"], minutes: 15, counts: false },
    { name: "check", command: ["npm", "run", "--silent", "check"], minutes: 5, counts: false },
    { name: "contracts", command: ["tsx", "tools/coverage.ts"], minutes: 10 },
    { name: "fuzz and invariants", command: ["hardhat", "test", "solidity", "--no-compile"], minutes: 10 },
    {
      name: "units",
      command: mocha("test/{protocol,chain,runtime,provider,requester,cli,docs}/**/*.test.ts"),
      minutes: 15,
    },
  ],
  [
    { name: "end to end", command: mocha("test/e2e/**/*.test.ts"), minutes: 20 },
    // Where no engine or no Ollama can be had, its tests are pending, and say why: the only ones that may be.
    { name: "docker", command: mocha("test/docker/**/*.test.ts"), minutes: 12, mayBePending: true },
  ],
];

/** Allows the suites to install Debian packages (a Docker engine), as INFERNET_TEST_MAY_INSTALL=1 does. */
const MAY_INSTALL = "--may-install";

/** Whether somebody wants an end: nothing more is started. */
let interrupted = false;

/** Runs one suite in a process group of its own, and reads mocha's own counts from what it prints to `out`. */
function runSuite({ name, command, minutes, counts = true, mayBePending = false }, env, out) {
  return new Promise((done) => {
    const started = Date.now();
    out.write(`\n== ${name}\n`);
    const [program, ...args] = command;
    const child = spawn(program, args, { cwd: root, env, stdio: ["ignore", "pipe", "pipe"], detached: true });
    let tail = "";
    const totals = { passing: 0, failing: 0, pending: 0 };
    const read = (stream) =>
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
    read(child.stdout);
    read(child.stderr);
    const endGroup = (signal) => {
      try {
        process.kill(-child.pid, signal);
      } catch {
        // The group is gone already.
      }
    };
    const limit = setTimeout(() => {
      out.write(`infernet: "${name}" did not end in ${minutes} minutes; ending it\n`);
      endGroup("SIGKILL");
    }, minutes * 60_000);
    const interrupt = () => {
      interrupted = true;
      endGroup("SIGTERM");
    };
    process.once("SIGINT", interrupt).once("SIGTERM", interrupt);
    child.on("error", (error) => out.write(`infernet: ${error.message}\n`));
    child.on("close", (code) => {
      clearTimeout(limit);
      process.off("SIGINT", interrupt).off("SIGTERM", interrupt);
      const ran = totals.passing + totals.failing + (mayBePending ? totals.pending : 0) > 0;
      // A suite that ends badly without a failing test, or runs no test at all, is itself a failure.
      const broken = code !== 0 ? totals.failing === 0 : counts && !ran;
      done({
        name,
        seconds: Math.round((Date.now() - started) / 1000),
        passed: counts ? totals.passing : Number(code === 0),
        failed: counts ? totals.failing + Number(broken) : Number(code !== 0),
        pending: totals.pending,
      });
    });
  });
}

/** Runs a lane's suites in order, until somebody wants an end. `outOf` gives where a suite's words go. */
async function runLane(suites, env, outOf) {
  const results = [];
  for (const suite of suites) {
    if (interrupted) break;
    results.push(await runSuite(suite, env, outOf(suite)));
  }
  return results;
}

/** Whole lines, each with the suite's name in front, so that lanes can be told apart. */
function labelled(name) {
  let unfinished = "";
  return {
    write(text) {
      const lines = (unfinished + text).split("\n");
      unfinished = lines.pop();
      for (const line of lines) process.stdout.write(`${name} | ${line}\n`);
    },
  };
}

const env = setUp();
const asked = process.argv.slice(2).filter((word) => word !== MAY_INSTALL);
if (process.argv.includes(MAY_INSTALL)) env.INFERNET_TEST_MAY_INSTALL = "1";
const isAsked = ({ name }) => asked.length === 0 || asked.includes(name);
const lanes = LANES.map((suites) => suites.filter(isAsked)).filter((suites) => suites.length > 0);
const sideBySide = lanes.length > 1 && availableParallelism() > 1;

const built = await runSuite(BUILD, env, process.stdout);
const results = [built];
if (built.failed === 0 && sideBySide) {
  const ended = await Promise.all(lanes.map((suites) => runLane(suites, env, ({ name }) => labelled(name))));
  results.push(...ended.flat());
} else if (built.failed === 0) {
  results.push(...(await runLane(lanes.flat(), env, () => process.stdout)));
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
