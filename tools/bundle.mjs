// Owns the build of dist/: the whole command line as ES modules that need no compiler and load in small parts.
import { chmodSync, rmSync } from "node:fs";
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
  // Native code stays where npm installed it for the machine at hand; selfsigned, which is CommonJS and needed once in
  // a node's life, too: a bundled import() of it would lose its named exports.
  external: ["node-llama-cpp", "secp256k1", "selfsigned"],
  // CommonJS packages inside an ES module still call require.
  banner: {
    js: 'import { createRequire as infernetRequire } from "node:module"; const require = infernetRequire(import.meta.url);',
  },
  legalComments: "linked",
  logLevel: "warning",
});
chmodSync(join(outdir, "infernet.js"), 0o755);
