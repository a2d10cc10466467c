// Owns the Python tools that some scripts need: each in an environment of its own under cache/, pinned by version.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync } from "node:fs";
import { resolve } from "node:path";

/** Installs the PyPI package `name` at `version` unless that was done before; the folder of its programs. */
export function installPythonTool(name: string, version: string): string {
  const environment = resolve("cache", "python", `${name}-${version}`);
  const programs = resolve(environment, "bin");
  const done = resolve(environment, "installed");
  if (existsSync(done)) return programs;
  console.log(`installing ${name} ${version} from PyPI`);
  run("python3", ["-m", "venv", environment]);
  run(resolve(programs, "pip"), ["install", "--quiet", "--disable-pip-version-check", `${name}==${version}`]);
  mkdirSync(done);
  return programs;
}

function run(program: string, args: string[]): void {
  const { status, error } = spawnSync(program, args, { stdio: "inherit" });
  if (error || status !== 0) throw new Error(`${program} ${args.join(" ")} failed: ${error ?? status}`);
}
