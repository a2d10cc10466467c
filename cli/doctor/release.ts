// Owns the question whether npm has a newer release, asked only when a person wants it asked.
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { type Finding, ok, warn } from "./finding.ts";

const NPM_TIMEOUT_MS = 20_000;
const VERSION = /^(\d+)\.(\d+)\.(\d+)$/;

/** Asks the npm client, which knows its registry. An answer that does not come is a warning, no failure. */
export async function checkRelease(current: string, env: NodeJS.ProcessEnv): Promise<Finding> {
  try {
    const { stdout } = await promisify(execFile)("npm", ["view", "infernet", "version"], {
      env,
      timeout: NPM_TIMEOUT_MS,
    });
    const newest = stdout.trim();
    if (!VERSION.test(newest)) return warn("release", "npm names no release of infernet", "Try again later.");
    if (!isNewer(newest, current)) return ok("release", `${current} is the newest`);
    return warn(
      "release",
      `${newest} is out, this is ${current}`,
      "See its changelog, then: npm install -g infernet.",
    );
  } catch {
    return warn(
      "release",
      "npm could not be asked for the newest release",
      "Try: npm view infernet version.",
    );
  }
}

function isNewer(candidate: string, current: string): boolean {
  const [one, other] = [candidate, current].map(
    (text) => VERSION.exec(text)?.slice(1).map(Number) ?? [0, 0, 0],
  );
  const index = one!.findIndex((part, at) => part !== other![at]);
  return index >= 0 && one![index]! > other![index]!;
}
