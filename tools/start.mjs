// Owns `npm start`: installs what is missing, builds, and hands over to the trip in tools/demo/.
import { spawn, spawnSync } from "node:child_process";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { setUp } from "./setup.mjs";

const root = resolve(dirname(fileURLToPath(import.meta.url)), "..");
const env = setUp();
// What the build prints goes to stderr: stdout belongs to the answer, or to --json.
const build = spawnSync("npm", ["run", "--silent", "build"], {
  cwd: root,
  env,
  stdio: ["ignore", process.stderr, "inherit"],
});
if (build.status !== 0) {
  console.error("infernet: the build failed; its errors are above");
  process.exit(1);
}

const args = [
  "--use-system-ca",
  "--import=tsx",
  join(root, "tools", "demo", "main.ts"),
  ...process.argv.slice(2),
];
const trip = spawn("node", args, { cwd: root, env, stdio: "inherit" });
// A terminal sends Ctrl-C to the whole group, so the trip cleans up by itself; a plain kill must be passed on.
process.on("SIGINT", () => {});
process.on("SIGTERM", () => trip.kill("SIGTERM"));
trip.on("close", (code) => {
  process.exitCode = code ?? 1;
});
