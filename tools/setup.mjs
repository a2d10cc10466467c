// Owns "install what is missing": plain JavaScript that runs on an old system Node and needs no package.
// Puts the pinned Node in front where the machine's own is too old, then installs what the lock file says.
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { delimiter, dirname, join, resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { isNodeNewEnough } from "../cli/node-version.cjs";

const root = resolve(dirname(fileURLToPath(import.meta.url)), "..");
function npm(args, cwd, path) {
  // npm's own variables of an outer `npm start` would leak its folder and flags into this one.
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^npm_/i.test(name)));
  const skips = { NODE_LLAMA_CPP_SKIP_DOWNLOAD: "true" };
  // The pinned Node does not read the certificates that the machine's own npm is set up with; it knows the system's.
  if (path !== process.env.PATH)
    skips.NODE_OPTIONS = `${process.env.NODE_OPTIONS ?? ""} --use-system-ca`.trim();
  // What npm prints goes to stderr: stdout belongs to the results of the command that set up.
  execFileSync("npm", args, {
    cwd,
    stdio: ["ignore", process.stderr, "inherit"],
    env: { ...env, ...skips, PATH: path },
  });
}

/** The folder of the Node that runs this project: this machine's own, or the pinned one (installed if missing). */
function nodeFolder() {
  if (isNodeNewEnough()) return dirname(process.execPath);
  if (process.platform !== "linux" || !["x64", "arm64"].includes(process.arch)) {
    throw new Error(
      `infernet needs a current Node 24, this is ${process.versions.node}: install one from https://nodejs.org`,
    );
  }
  const folder = join(root, "tools", "node", "node_modules", `node-linux-${process.arch}`, "bin");
  if (!existsSync(join(folder, "node"))) {
    console.error(
      `infernet: Node ${process.versions.node} is too old; fetching Node 24 for this checkout alone`,
    );
    npm(["ci", "--no-audit", "--no-fund", "--ignore-scripts"], join(root, "tools", "node"), process.env.PATH);
  }
  return folder;
}

/** Installs what is missing and returns the environment in which every later step runs. Idempotent; silent when done. */
export function setUp() {
  const folder = nodeFolder();
  const modules = join(root, "node_modules");
  const stamp = join(modules, ".infernet-setup");
  const wanted = createHash("sha256")
    .update(readFileSync(join(root, "package-lock.json")))
    .update(folder)
    .digest("hex");
  const path = [folder, process.env.PATH].join(delimiter);
  if (!existsSync(stamp) || readFileSync(stamp, "utf8") !== wanted) {
    console.error("infernet: installing packages (about a minute the first time)");
    npm(["ci", "--no-audit", "--no-fund", "--ignore-scripts"], root, path);
    writeFileSync(stamp, wanted);
  }
  // npm and npx put node_modules/.bin first in PATH: a `node` there is the Node that all of them run.
  const link = join(modules, ".bin", "node");
  if (!isNodeNewEnough() && !existsSync(link)) {
    mkdirSync(dirname(link), { recursive: true });
    rmSync(link, { force: true });
    symlinkSync(join(folder, "node"), link);
  }
  return {
    ...process.env,
    PATH: [join(modules, ".bin"), path].join(delimiter),
    HARDHAT_DISABLE_TELEMETRY: "true",
  };
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) setUp();
