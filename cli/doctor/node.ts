// Owns the checks of the node that this home sells with: its entry, its models, its server, and its TLS identity.
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { Chain, NodeListing } from "../../chain/chain.ts";
import { type Address, type Hex, ZERO_WORD } from "../../protocol/bytes.ts";
import { InfernetError } from "../../protocol/errors.ts";
import { checkPriceCeiling } from "../../protocol/offer.ts";
import { OFFER_PATH } from "../../protocol/wire.ts";
import type { UpstreamModel } from "../../provider/upstreams/upstream.ts";
import { checkServedOffer } from "../../requester/offer-check.ts";
import { loadOrCreateCertificate } from "../../runtime/certificate.ts";
import { homePaths } from "../../runtime/home.ts";
import { fetchUnpinned } from "../../runtime/http-client.ts";
import type { Context } from "../context.ts";
import { modelsOfUpstreams, namesUpstream, type UpstreamFlags } from "../upstream-flags.ts";
import { type Finding, fail, failOf, ok, tryLook, warn } from "./finding.ts";

const OFFER_TIMEOUT_MS = 5_000;

type NodeCheck = {
  context: Context;
  chain: Chain;
  node: Address;
  home: string;
  flags: UpstreamFlags;
  isRunning: boolean;
};

export async function checkNode(deps: NodeCheck): Promise<Finding[]> {
  let listing: NodeListing | undefined;
  try {
    listing = await deps.chain.getNode(deps.node);
  } catch (error) {
    return [failOf("registry", error)];
  }
  if (!listing)
    return [warn("registry", `the Registry does not list ${deps.node}`, "List it: infernet register.")];
  const entry = `${listing.endpoint}, ${listing.models.length} models, earns for ${listing.payee}`;
  return [
    listing.active
      ? ok("registry", entry)
      : warn("registry", `${entry}, switched off`, "To take new jobs: infernet node retire --undo."),
    ...checkLlama(deps.flags),
    await checkUpstream(deps, listing),
    ...(await checkServer(deps, listing)),
  ];
}

function checkLlama({ upstream = [], modelFile }: UpstreamFlags): Finding[] {
  if (modelFile === undefined && !upstream.some(({ kind }) => kind === "embedded")) return [];
  try {
    import.meta.resolve("node-llama-cpp");
    return [ok("llama.cpp", "node-llama-cpp is installed")];
  } catch {
    const message = "node-llama-cpp, which runs --model-file, is not installed";
    return [
      fail("llama.cpp", "bad-config", message, "Install it beside infernet: npm install node-llama-cpp."),
    ];
  }
}

async function checkUpstream(
  { context, flags, isRunning }: NodeCheck,
  listing: NodeListing,
): Promise<Finding> {
  let models: UpstreamModel[];
  try {
    models = await modelsOfUpstreams(context, flags);
  } catch (error) {
    const finding = failOf("upstream", error);
    // The worker may have been told of an upstream that no search finds.
    if (!isRunning || (await namesUpstream(context, flags))) return finding;
    return warn(
      "upstream",
      finding.message,
      "Give doctor the upstream flags that the worker was started with.",
    );
  }
  const lacking = listing.models.filter(({ name }) => !models.some((model) => model.name === name));
  if (lacking.length > 0) {
    const names = lacking.map(({ name }) => name).join(", ");
    const hint = "Give it to the upstream, or sell it no more: infernet node update --remove-model NAME.";
    return fail("upstream", "model-not-found", `the Registry lists what the upstream lacks: ${names}`, hint);
  }
  const other = listing.models.find(({ name, digest }) =>
    models.some((model) => model.name === name && isOther(model.digest, digest)),
  );
  if (!other) return ok("upstream", `has all ${listing.models.length} models of the Registry`);
  const message = `the upstream's "${other.name}" is another model than the Registry says`;
  return fail("upstream", "bad-config", message, "Say which: infernet node update --model NAME=IN:OUT.");
}

function isOther(one: Hex, other: Hex): boolean {
  return one !== ZERO_WORD && other !== ZERO_WORD && one !== other;
}

/** The server at the endpoint as a requester judges it, and its TLS key against the one in this home. */
async function checkServer(deps: NodeCheck, listing: NodeListing): Promise<Finding[]> {
  const { chain, isRunning } = deps;
  let shown: Awaited<ReturnType<typeof fetchUnpinned>>;
  try {
    shown = await fetchUnpinned(listing.endpoint, OFFER_PATH, { timeoutMs: OFFER_TIMEOUT_MS });
  } catch (error) {
    const finding = failOf("endpoint", error);
    if (isRunning) return [finding];
    return [
      warn("endpoint", `no worker runs from this home: ${finding.message}`, "Start it: infernet worker."),
    ];
  }
  const offer = await tryLook("offer", () => {
    const now = Math.floor(Date.now() / 1000);
    const { offer } = checkServedOffer(shown, { chain, listing, now });
    for (const model of offer.models) checkPriceCeiling(model, listing.models);
    if (offer.models.length === 0) {
      const hint = "See the worker's log for what it says of its upstreams.";
      return warn("offer", "signed by the node, but it offers nothing: no model is up", hint);
    }
    return ok("offer", `signed by the node, valid until ${new Date(offer.expires * 1000).toISOString()}`);
  });
  return [
    ok("endpoint", `${listing.endpoint} answers, as seen from this machine`),
    offer,
    ...(await checkTls(deps, shown.tlsKeyHash)),
  ];
}

async function checkTls({ home }: NodeCheck, shown: Hex | null): Promise<Finding[]> {
  const { tlsFolder } = homePaths(home);
  if (shown === null || !existsSync(join(tlsFolder, "key.pem"))) return [];
  return [
    await tryLook("tls", async () => {
      const { keyHash } = await loadOrCreateCertificate(tlsFolder, []);
      if (keyHash === shown) return ok("tls", "the server shows the key of this home");
      throw new InfernetError(
        "node-key-mismatch",
        "the server at the endpoint shows another TLS key than this home has",
        {
          hint: "Another worker answers there: stop it, or correct the endpoint with infernet node update.",
        },
      );
    }),
  ];
}
