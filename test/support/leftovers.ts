// Owns looking for what a command left behind: processes that it started, known by a mark in their environment.
import { readdirSync, readFileSync } from "node:fs";

/** A setting that every process of a run inherits. */
export type Mark = Record<string, string>;

/** A mark that nothing else on this machine has. */
export function createMark(): Mark {
  return { INFERNET_TEST_MARK: crypto.randomUUID() };
}

/** Command lines of the processes that carry the mark; Linux tells them in /proc. */
export function markedProcesses(mark: Mark): string[] {
  const [setting] = Object.entries(mark).map(([name, value]) => `${name}=${value}`);
  const ids = readdirSync("/proc").filter((name) => /^\d+$/.test(name));
  return ids.flatMap((id) => {
    try {
      if (!readFileSync(`/proc/${id}/environ`, "utf8").includes(setting!)) return [];
      return [readFileSync(`/proc/${id}/cmdline`, "utf8").replaceAll("\0", " ")];
    } catch {
      // It has ended meanwhile, or is somebody else's.
      return [];
    }
  });
}
