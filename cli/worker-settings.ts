// Owns how a worker's flags and the node's entry in the Registry become the provider's settings.
import type { NodeListing } from "../chain/chain.ts";
import { InfernetError } from "../protocol/errors.ts";
import type { Prices } from "../protocol/price.ts";
import type { ProviderConfig } from "../provider/config.ts";
import { isLoopbackHost } from "../runtime/loopback.ts";
import { readEndpoint } from "./registration.ts";
import { formatPrice, type PricedModel } from "./values.ts";

export type WorkerFlags = {
  host?: string;
  port?: number;
  endpoint?: string;
  plainHttp?: boolean;
  price?: PricedModel[];
  settle?: "always" | "worth";
  payout?: "always" | "worth";
  capacity?: number;
  maxTokens?: number;
  minDeposit?: bigint;
  openingFee?: bigint;
  relayFee?: bigint;
  nativeUsdc?: bigint;
  metricsListen?: { host: string; port: number };
};

type Defaults = Omit<ProviderConfig, "listen" | "endpoint">;

/** The provider's settings. Throws `bad-config` where the flags contradict the Registry, each other or safety. */
export function providerConfigOf(
  flags: WorkerFlags,
  listing: NodeListing,
  defaults: Defaults,
): ProviderConfig {
  const endpoint = endpointOf(flags, listing);
  const { capacity, maxTokens, minDeposit, openingFee, relayFee, metricsListen } = flags;
  return {
    ...defaults,
    endpoint,
    listen: listenOf(flags, endpoint),
    prices: { ...defaults.prices, byModel: pricesOf(flags.price ?? [], listing) },
    ...(capacity === undefined ? {} : { capacity }),
    ...(maxTokens === undefined ? {} : { maxCompletionTokens: maxTokens }),
    ...(minDeposit === undefined ? {} : { minDeposit }),
    ...(openingFee === undefined ? {} : { openingFee }),
    ...(relayFee === undefined ? {} : { relayFee }),
    ...(metricsListen === undefined ? {} : { metricsListen }),
    settle: settlementOf(flags, defaults.settle),
  };
}

function endpointOf({ endpoint, plainHttp = false }: WorkerFlags, listing: NodeListing): string {
  if (endpoint !== undefined && readEndpoint(endpoint) !== listing.endpoint) {
    throw new InfernetError("bad-config", `the Registry lists this node at ${listing.endpoint}`, {
      hint: "Requesters go where the Registry says. Change it: infernet register --endpoint URL.",
    });
  }
  const isHttp = new URL(listing.endpoint).protocol === "http:";
  if (isHttp !== plainHttp) {
    throw new InfernetError("bad-config", `the Registry lists this node at ${listing.endpoint}`, {
      hint: isHttp
        ? "Give --plain-http if you mean that, or register an https:// endpoint."
        : "Leave --plain-http out, or register an http:// endpoint of this machine.",
    });
  }
  return listing.endpoint;
}

function listenOf({ host, port, plainHttp }: WorkerFlags, endpoint: string): ProviderConfig["listen"] {
  const url = new URL(endpoint);
  const listen = {
    host: host ?? (isLoopbackHost(url.hostname) ? "127.0.0.1" : "0.0.0.0"),
    port: port ?? Number(url.port || (url.protocol === "https:" ? 443 : 80)),
  };
  if (plainHttp && !isLoopbackHost(listen.host)) {
    throw new InfernetError("bad-config", `plain HTTP on ${listen.host} would show prompts to the network`, {
      hint: "Listen on 127.0.0.1, or leave --plain-http out.",
    });
  }
  return listen;
}

/** The Registry's prices, undercut where flags say so. */
function pricesOf(given: readonly PricedModel[], { models }: NodeListing): Record<string, Prices> {
  const prices = Object.fromEntries(
    models.map(({ name, inputPrice, outputPrice }) => [name, { inputPrice, outputPrice }]),
  );
  for (const { name, inputPrice, outputPrice } of given) {
    const ceiling = prices[name];
    if (!ceiling) {
      throw new InfernetError("bad-config", `the Registry does not list the model "${name}" for this node`, {
        hint: `It lists: ${Object.keys(prices).join(", ")}. List another: infernet register.`,
      });
    }
    if (inputPrice > ceiling.inputPrice || outputPrice > ceiling.outputPrice) {
      const highest = `${formatPrice(ceiling.inputPrice)}:${formatPrice(ceiling.outputPrice)}`;
      throw new InfernetError("bad-config", `the price of "${name}" is above the Registry's ceiling`, {
        hint: `Ask at most ${highest}, or raise the ceiling: infernet register --model NAME=IN:OUT.`,
      });
    }
    prices[name] = { inputPrice, outputPrice };
  }
  return prices;
}

function settlementOf(
  { settle, payout, nativeUsdc }: WorkerFlags,
  defaults: ProviderConfig["settle"],
): ProviderConfig["settle"] {
  const isAlways = payout === "always";
  return {
    ...defaults,
    ...(settle ? { when: settle } : {}),
    ...(payout ? { payOutAtStop: isAlways } : {}),
    ...(isAlways ? { payOutFeeMultiple: 0n } : {}),
    ...(nativeUsdc === undefined ? {} : { nativeUsdPrice: nativeUsdc }),
  };
}
