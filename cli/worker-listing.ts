// Owns what a worker needs of the Registry before it serves: its node's entry, made with a person's answers if need be.
import type { NodeListing } from "../chain/chain.ts";
import { InfernetError } from "../protocol/errors.ts";
import type { Context } from "./context.ts";
import type { Identity } from "./identity.ts";
import type { UpstreamFlags } from "./upstream-flags.ts";

/** `model` are those that the container of --docker is to have. */
export type WantedModels = UpstreamFlags & { model?: string[] };

/** Leads a person who has not registered yet through it: then one command is enough. */
export async function registerNow(
  context: Context,
  node: Identity,
  { model, ...flags }: WantedModels & { endpoint?: string },
): Promise<NodeListing> {
  const { registerNode } = await import("./registering.ts");
  context.output.hint("This node is not in the Registry yet: a few questions, then it serves.");
  const { needed: _all, ...others } = flags;
  const named = model ? { needed: model } : {};
  const { listing } = await registerNode(context, node, { ...others, ...named, check: true });
  return listing;
}

/** Tells where nobody can be asked which command does it. */
export function notRegistered(node: Identity, { docker, model = ["NAME"] }: WantedModels): InfernetError {
  const models = model.map((name) => ` --model ${name}=0.05:0.20`).join("");
  const command = docker ? `infernet register --docker${models}` : "infernet register";
  return new InfernetError("not-registered", `the Registry does not list the node ${node.address}`, {
    hint: `List it, with the prices and the endpoint that you want: ${command} --endpoint https://HOST:PORT.`,
  });
}

/** Refuses to fetch what nobody could buy, and --model without --docker. */
export function checkWanted({ docker, model = [] }: WantedModels, { models }: NodeListing): void {
  if (model.length > 0 && !docker) {
    throw new InfernetError("bad-request", "--model belongs to --docker: it is fetched into the container", {
      hint: "A worker sells what its upstreams have and the Registry lists: infernet node update --model NAME=IN:OUT.",
    });
  }
  const unlisted = model.filter((name) => !models.some((listed) => listed.name === name));
  if (unlisted.length === 0) return;
  const flags = unlisted.map((name) => ` --model ${name}=0.05:0.20`).join("");
  throw new InfernetError("bad-config", `the Registry does not list ${unlisted.join(", ")} for this node`, {
    hint: `List it: infernet node update --docker${flags}.`,
  });
}

export function warnIfSwitchedOff({ output }: Context, { node, active }: NodeListing): void {
  if (active) return;
  output.progress(
    { event: "inactive", node },
    "The node is switched off in the Registry: only old jobs are served. Switch it on: infernet node retire --undo",
  );
}
