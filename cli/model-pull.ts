// Owns `worker --pull`: has Ollama fetch the listed models that nothing on this machine has yet, and shows how far it is.
import { InfernetError } from "../protocol/errors.ts";
import type { UpstreamEntry } from "../provider/dispatch.ts";
import type { PullProgress } from "../provider/upstreams/upstream.ts";
import type { Context } from "./context.ts";

const MEGABYTE = 1_000_000;

/** Throws `bad-request` where no upstream can fetch models, and what a failed pull throws. */
export async function pullMissing(
  { output, signal }: Pick<Context, "output" | "signal">,
  entries: readonly UpstreamEntry[],
  names: readonly string[],
): Promise<void> {
  const lists = await Promise.all(entries.map(({ upstream }) => upstream.listModels()));
  const present = new Set(lists.flat().map(({ name }) => name));
  const missing = names.filter((name) => !present.has(name));
  if (missing.length === 0) return;
  const upstream = entries.find((entry) => entry.upstream.pull)?.upstream;
  if (!upstream?.pull) {
    throw new InfernetError("bad-request", `--pull needs an Ollama to fetch ${missing.join(", ")}`, {
      hint: "Name one with --upstream ollama, or take the flag away.",
    });
  }
  for (const model of missing) {
    let shown = "";
    await upstream.pull(
      model,
      (progress) => {
        const text = describe(progress);
        if (text === shown) return;
        shown = text;
        output.progress({ event: "modelPull", model, ...progress }, `${model}: ${text}`);
      },
      signal,
    );
  }
}

/** In steps of five in a hundred, so that a log stays readable. */
function describe({ status, receivedBytes, totalBytes }: PullProgress): string {
  if (totalBytes === 0 || status !== "pulling") return status;
  const percent = Math.floor((20 * receivedBytes) / totalBytes) * 5;
  return `${status} ${percent}% of ${Math.ceil(totalBytes / MEGABYTE)} MB`;
}
