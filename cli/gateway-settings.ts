// Owns how the gateway is set: flags, INFERNET_GATEWAY_ variables and the file's `gateway` section, and its token.
import { readFileSync } from "node:fs";
import { InvalidArgumentError } from "commander";
import { z } from "zod";
import { InfernetError } from "../protocol/errors.ts";
import type { Prices } from "../protocol/price.ts";
import {
  environmentSource,
  flagSource,
  readConfigFile,
  resolveSettings,
  type Source,
} from "../runtime/config.ts";
import { systemCode } from "../runtime/private-file.ts";
import { formatPrice, parsePrice } from "./values.ts";

/** The settings of the file's `gateway` section; each is a flag of `infernet gateway`, too. */
export const GATEWAY_SETTINGS = {
  host: z.string().regex(/^[\w.:-]+$/, "expected a name or an address"),
  port: z.coerce.number("expected a number").int().min(0).max(65_535),
  tokenFile: z.string().min(1).optional(),
  maxPrice: readWith((text) => formatPrices(parsePrices(text))).optional(),
};

export type GatewaySettings = {
  host: string;
  port: number;
  token: string | undefined;
  maxPrice: Prices | undefined;
};

const DEFAULTS = { host: "127.0.0.1", port: 8402 };
const LEAST_TOKEN_LENGTH = 16;

type Place = { home: string; env: NodeJS.ProcessEnv; flags?: Readonly<Record<string, unknown>> };

/** The settings that count. Throws `bad-config` that names the source and what is wrong with it. */
export function readGatewaySettings(place: Place): GatewaySettings {
  const { host, port, tokenFile, maxPrice } = resolveSettings(GATEWAY_SETTINGS, gatewaySources(place));
  return {
    ...{ host, port },
    token: readToken(tokenFile, place.env),
    maxPrice: maxPrice === undefined ? undefined : parsePrices(maxPrice),
  };
}

/** Where `GATEWAY_SETTINGS` come from, strongest first. Throws `bad-config` for a file that cannot be read. */
export function gatewaySources({ home, env, flags = {} }: Place): Source[] {
  const { gateway: section = {} } = readConfigFile(home);
  if (typeof section !== "object" || section === null) {
    throw new InfernetError("bad-config", '"gateway" in config.json must be an object');
  }
  return [
    flagSource(flags),
    environmentSource(env, Object.keys(GATEWAY_SETTINGS), "INFERNET_GATEWAY_"),
    { name: "config.json", values: section as Record<string, unknown>, nameOf: (key) => `gateway.${key}` },
    { name: "defaults", values: DEFAULTS },
  ];
}

/** A file that is named wins over INFERNET_GATEWAY_TOKEN. There is no flag: other users of a machine can read flags. */
function readToken(tokenFile: string | undefined, env: NodeJS.ProcessEnv): string | undefined {
  const token = tokenFile === undefined ? env.INFERNET_GATEWAY_TOKEN || undefined : readTokenFile(tokenFile);
  if (token === undefined || (/^[\x21-\x7e]+$/.test(token) && token.length >= LEAST_TOKEN_LENGTH))
    return token;
  throw new InfernetError(
    "bad-config",
    `the gateway's token must be ${LEAST_TOKEN_LENGTH} visible characters or more, without spaces`,
    { hint: "Make one: openssl rand -hex 24." },
  );
}

function readTokenFile(path: string): string {
  try {
    return readFileSync(path, "utf8").trim();
  } catch (cause) {
    throw new InfernetError(
      "bad-config",
      `cannot read the gateway's token from ${path}: ${systemCode(cause)}`,
      {
        cause,
      },
    );
  }
}

/** Prices of `IN:OUT`, in USDC per million tokens. */
function parsePrices(text: string): Prices {
  const match = /^([^:]+):([^:]+)$/.exec(text);
  if (!match)
    throw new InvalidArgumentError("Write it as IN:OUT in USDC per million tokens, like 0.50:1.50.");
  return { inputPrice: parsePrice(match[1]!), outputPrice: parsePrice(match[2]!) };
}

function formatPrices({ inputPrice, outputPrice }: Prices): string {
  return `${formatPrice(inputPrice)}:${formatPrice(outputPrice)}`;
}

/** A schema for how people write a value; what the parser throws is what is wrong with it. */
function readWith<Value>(parse: (text: string) => Value) {
  return z.coerce.string().transform((text, refinement) => {
    try {
      return parse(text);
    } catch (error) {
      refinement.addIssue((error as Error).message);
      return z.NEVER;
    }
  });
}
