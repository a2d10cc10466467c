// Owns a real gateway process of a market's buyer, and OpenAI's own client pointed at it.
import OpenAI from "openai";
import type { Market } from "./market.ts";
import { jsonLines, type WatchedProcess } from "./watched-process.ts";

type GatewayLine = Record<string, unknown>;

export type GatewayProcess = WatchedProcess & {
  url: string;
  client: OpenAI;
  /** What it has told so far under this name. */
  events(name: string): GatewayLine[];
  /** The first event of this name that fits, told or to be told. */
  event(name: string, fits?: (line: GatewayLine) => boolean): Promise<GatewayLine>;
};

/** Starts `infernet gateway` on any free port, and resolves when it listens. Clients do not ask again by themselves. */
export async function startGatewayProcess(market: Market, ...flags: string[]): Promise<GatewayProcess> {
  const watched = market.watch("buyer", ["gateway", "--port", "0", "--json", ...flags]);
  const events = (name: string) => jsonLines(watched.said.stdout).filter((line) => line.event === name);
  const event: GatewayProcess["event"] = (name, fits = () => true) =>
    watched.until(() => events(name).find(fits));
  const { url } = await event("listening");
  const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0 });
  return { ...watched, url: String(url), client, events, event };
}
