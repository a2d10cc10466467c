// Owns what the Docker test ground needs of Debian's packages: installed where the caller allowed it, asked for elsewhere.
import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";

/** Why real Docker or a real Ollama cannot be had here, and what to do about it: the one reason to skip their tests. */
export class NotHere extends Error {
  override readonly name = "NotHere";
}

export type Permission = {
  /** Whether Debian packages may be installed on this machine; INFERNET_TEST_MAY_INSTALL unless told otherwise. */
  mayInstall?: boolean;
  /** Told each step that takes long. */
  report?: (line: string) => void;
};

/** Whether the caller of the tests allows them to install packages: `.ci/run` and `npm run test:docker` do. */
export function isInstallingAllowed(env: NodeJS.ProcessEnv = process.env): boolean {
  return env.INFERNET_TEST_MAY_INSTALL === "1";
}

export function isRoot(): boolean {
  return process.getuid?.() === 0;
}

/** The path of a program, also in the folders that only root has in PATH. */
export function findProgram(name: string, env: NodeJS.ProcessEnv = process.env): string | undefined {
  const folders = [...(env.PATH ?? "").split(delimiter), "/usr/sbin", "/sbin", "/usr/local/go/bin"];
  return folders.map((folder) => join(folder, name)).find((path) => existsSync(path));
}

/** Installs packages, or throws `NotHere` that names them. */
export function installPackages(
  names: readonly string[],
  why: string,
  { mayInstall = isInstallingAllowed(), report = () => {} }: Permission,
): void {
  const command = `apt-get install -y ${names.join(" ")}`;
  const canInstall = isRoot() && findProgram("apt-get") !== undefined;
  if (!canInstall) throw new NotHere(`${why}; on Debian, as root: ${command}`);
  if (!mayInstall) {
    throw new NotHere(`${why}; ${command}, or let the tests do it with INFERNET_TEST_MAY_INSTALL=1`);
  }
  report(`${why}: ${command}`);
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
  const options = { env, stdio: ["ignore", "ignore", "pipe"] as ["ignore", "ignore", "pipe"] };
  try {
    execFileSync("apt-get", ["update", "-qq"], options);
    execFileSync("apt-get", ["install", "-y", "-qq", "--no-install-recommends", ...names], options);
  } catch (cause) {
    throw new NotHere(`${why}, and ${command} failed: ${lastLine(cause)}`, { cause });
  }
}

/** The last line that a failed program said. */
export function lastLine(error: unknown): string {
  const { stderr, message } = error as { stderr?: Buffer | string; message: string };
  return (
    String(stderr ?? "")
      .trim()
      .split("\n")
      .at(-1) || message
  );
}
