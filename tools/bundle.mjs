// Owns the build of dist/: the whole command line as ES modules that need no compiler and load in small parts.
import { chmodSync, copyFileSync, mkdirSync, rmSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const root = resolve(dirname(fileURLToPath(import.meta.url)), "..");
const outdir = join(root, "dist");

rmSync(outdir, { recursive: true, force: true });
await build({
  absWorkingDir: root,
  entryPoints: { infernet: "cli/main.ts" },
  outdir,
  bundle: true,
  format: "esm",
  platform: "node",
  target: "node22",
  // Shared parts and dynamic imports become files of their own: `infernet --help` reads neither ethers nor fastify.
  splitting: true,
  chunkNames: "parts/[name]-[hash]",
  // Native code stays where npm installed it for the machine at hand.
  external: ["node-llama-cpp", "secp256k1"],
  // CommonJS packages inside an ES module still call require.
  banner: {
    js: 'import { createRequire as infernetRequire } from "node:module"; const require = infernetRequire(import.meta.url);',
  },
  legalComments: "linked",
  logLevel: "warning",
});
for (const file of ["launcher.cjs", "node-version.cjs"])
  copyFileSync(join(root, "cli", file), join(outdir, file));
chmodSync(join(outdir, "launcher.cjs"), 0o755);
// The lock file by which the launcher fetches a current Node where there is none.
mkdirSync(join(outdir, "node"));
for (const file of ["package.json", "package-lock.json"]) {
  copyFileSync(join(root, "tools", "node", file), join(outdir, "node", file));
}
