// Owns the real Ollama that tests run: one pinned version, built once from its sources and kept in the user's cache.
import { execFileSync, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import envPaths from "env-paths";
import { findProgram, installPackages, lastLine, NotHere, type Permission } from "./packages.ts";

export const OLLAMA_VERSION = "0.17.4";
/** One header of this sound library is included by Ollama's sources and left out of its Go module. */
const MINIAUDIO = {
  version: "1.71",
  hash: "ff51e2887bb673e2e757752b586b3dc924d59aa5fbcae9bbc45f4a111bd3262b",
};
const HEADER_PACKAGES = ["nlohmann-json3-dev", "libstb-dev"];
const HEADERS = ["/usr/include/nlohmann/json.hpp", "/usr/include/stb/stb_image.h"];
const REPORT_EVERY_MS = 15_000;

/** Where the built program is kept. */
export function cachedOllama(): string {
  return join(envPaths("infernet", { suffix: "" }).cache, `ollama-${OLLAMA_VERSION}`, "ollama");
}

/** The path of the program: INFERNET_OLLAMA_BIN, the kept one, or built now. Throws `NotHere` where it cannot be had. */
export async function fetchOllama(permission: Permission = {}): Promise<string> {
  const kept = [process.env.INFERNET_OLLAMA_BIN, cachedOllama()].find((path) => path && existsSync(path));
  return kept ?? buildOllama(permission);
}

async function buildOllama(permission: Permission): Promise<string> {
  const missing = ["go", "g++", "python3"].filter((name) => findProgram(name) === undefined);
  if (missing.length > 0) {
    throw new NotHere(
      `Ollama ${OLLAMA_VERSION} is built from its sources, and ${missing.join(", ")} is missing: install it, or name ` +
        "a built program in INFERNET_OLLAMA_BIN",
    );
  }
  if (!HEADERS.every((path) => existsSync(path))) {
    installPackages(HEADER_PACKAGES, "headers that Ollama is built with are missing", permission);
  }
  const target = cachedOllama();
  mkdirSync(join(target, ".."), { recursive: true });
  // Beside its place, so that the finished program gets there at once, whoever else builds it meanwhile.
  const folder = mkdtempSync(`${target}-build-`);
  try {
    const sound = fetchMiniaudio(folder);
    await compile(folder, sound, permission.report ?? (() => {}));
    renameSync(join(folder, "bin", "ollama"), target);
  } catch (cause) {
    if (cause instanceof NotHere) throw cause;
    throw new NotHere(`Ollama ${OLLAMA_VERSION} could not be built: ${lastLine(cause)}`, { cause });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  return target;
}

/** The folder with the header, from the source package on PyPI. */
function fetchMiniaudio(folder: string): string {
  const { version, hash } = MINIAUDIO;
  const choice = ["--no-deps", "--no-binary", ":all:", `miniaudio==${version}`];
  execFileSync("python3", ["-m", "pip", "download", "--quiet", "-d", folder, ...choice], { stdio: "pipe" });
  const name = readdirSync(folder).find((file) => file.endsWith(".tar.gz"));
  const archive = join(folder, name ?? "");
  const found = createHash("sha256").update(readFileSync(archive)).digest("hex");
  if (found !== hash) throw new Error(`miniaudio ${version} has the hash ${found}, not ${hash}`);
  execFileSync("tar", ["-xzf", archive, "-C", folder]);
  return join(folder, `miniaudio-${version}`);
}

async function compile(folder: string, sound: string, report: (line: string) => void): Promise<void> {
  const version = `-X github.com/ollama/ollama/version.Version=${OLLAMA_VERSION}`;
  const optimize = ["-O2", ...vectorFlags()].join(" ");
  const child = spawn(
    findProgram("go")!,
    ["install", "-ldflags", `-s -w ${version}`, `github.com/ollama/ollama@v${OLLAMA_VERSION}`],
    {
      stdio: ["ignore", "ignore", "pipe"],
      env: {
        ...process.env,
        CGO_ENABLED: "1",
        CGO_CPPFLAGS: `-I${sound}`,
        CGO_CFLAGS: optimize,
        CGO_CXXFLAGS: optimize,
        GOBIN: join(folder, "bin"),
      },
    },
  );
  let stderr = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    stderr = (stderr + text).slice(-4_000);
  });
  const started = Date.now();
  report(`building Ollama ${OLLAMA_VERSION} from its sources, once: 3 to 5 minutes on two cores`);
  const timer = setInterval(
    () => report(`building Ollama: ${Math.round((Date.now() - started) / 1000)} s so far`),
    REPORT_EVERY_MS,
  );
  try {
    const [code] = (await once(child, "close")) as [number | null];
    if (code !== 0) throw Object.assign(new Error(`go install ended with ${code}`), { stderr });
  } finally {
    clearInterval(timer);
  }
}

/** What makes a model on this processor fast enough; the program then runs on processors like it. */
function vectorFlags(): string[] {
  if (process.arch !== "x64" || !existsSync("/proc/cpuinfo")) return [];
  const flags = new Set(/^flags\s*:(.*)$/m.exec(readFileSync("/proc/cpuinfo", "utf8"))?.[1]?.split(" "));
  return ["avx2", "fma", "f16c"].every((flag) => flags.has(flag)) ? ["-mavx2", "-mfma", "-mf16c"] : [];
}
