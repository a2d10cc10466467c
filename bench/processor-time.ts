// Owns how much processor time a process has used, as Linux tells it.
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";

/** Milliseconds of user and system time of a process and all its threads; undefined where that cannot be read. */
export function processorMs(pid: number): number | undefined {
  if (process.platform !== "linux") return undefined;
  const ticksPerSecond = Number(execFileSync("getconf", ["CLK_TCK"], { encoding: "utf8" }));
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  // The name in parentheses may hold spaces; user and system time are fields 14 and 15.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return ((Number(fields[11]) + Number(fields[12])) * 1000) / ticksPerSecond;
}
