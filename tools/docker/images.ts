// Owns images built on the spot, with no registry: programs of this machine, the libraries they load, and nothing else.
import { execFileSync } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import type { Engine } from "./engine.ts";

const MAX_IMAGE_BYTES = 1 << 30;
const USERS = "root:x:0:0:root:/root:/bin/false\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n";

export type ImagePlan = {
  name: string;
  /** Where files of this machine go in the image; the libraries that a program loads come along by themselves. */
  programs: Readonly<Record<string, string>>;
  /** Other files and folders of this machine, and their places. */
  copies?: Readonly<Record<string, string>>;
  /** Empty folders. */
  folders?: readonly string[];
  /** Lines of a Dockerfile: ENV, ENTRYPOINT, CMD, EXPOSE, USER, LABEL, VOLUME, WORKDIR. */
  changes: readonly string[];
};

/** Builds an image of one layer and returns its id. */
export async function buildImage(engine: Engine, plan: ImagePlan): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), "infernet-image-"));
  try {
    stage(folder, plan);
    const archive = execFileSync("tar", ["-C", folder, "--owner=0", "--group=0", "-c", "."], {
      maxBuffer: MAX_IMAGE_BYTES,
    });
    const changes = plan.changes.flatMap((change) => ["--change", change]);
    return await engine.docker(["import", ...changes, "-", plan.name], archive);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/**
 * An image that is used as `ollama/ollama` is: it serves on its port 11434, and keeps models below /root/.ollama. An
 * empty folder of its own makes it another image than the next one.
 */
export function buildOllamaImage(
  engine: Engine,
  program: string,
  name: string,
  ...ownFolders: string[]
): Promise<string> {
  return buildImage(engine, {
    name,
    programs: { "/bin/ollama": program },
    folders: ["/root", ...ownFolders],
    changes: [
      "ENV PATH=/bin",
      "ENV HOME=/root",
      "ENV OLLAMA_HOST=0.0.0.0:11434",
      "EXPOSE 11434",
      'ENTRYPOINT ["/bin/ollama"]',
      'CMD ["serve"]',
    ],
  });
}

function stage(folder: string, { programs, copies = {}, folders = [] }: ImagePlan): void {
  for (const path of ["/etc", "/tmp", ...folders]) mkdirSync(join(folder, path), { recursive: true });
  execFileSync("chmod", ["1777", join(folder, "tmp")]);
  writeFileSync(join(folder, "etc/passwd"), USERS);
  const libraries = Object.values(programs).flatMap(listLibraries);
  const files = [...Object.entries(programs), ...libraries.map((path) => [path, path] as const)];
  for (const [to, from] of files) {
    const place = join(folder, to);
    mkdirSync(dirname(place), { recursive: true });
    copyFileSync(realpathSync(from), place);
  }
  for (const [to, from] of Object.entries(copies)) {
    const place = join(folder, to);
    mkdirSync(dirname(place), { recursive: true });
    execFileSync("cp", ["-aL", from, place]);
  }
}

/** Paths of the shared libraries that a program loads, the loader included; none for a static one. */
function listLibraries(program: string): string[] {
  let told: string;
  try {
    told = execFileSync("ldd", [program], { encoding: "utf8", stdio: "pipe" });
  } catch {
    return []; // ldd says in this way that it is no dynamic executable.
  }
  return [...told.matchAll(/(?:=> )?(\/\S+) \(0x/g)].map(([, path]) => path!);
}
