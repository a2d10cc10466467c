// Owns the flags of the gateway's commands: where it is, and who may ask it.
import { Option } from "commander";

export type GatewayPlaceFlags = { host?: string; port?: string; tokenFile?: string };

/** Where the gateway listens: for the one that starts it and for those that ask it. Read by `gateway-settings`. */
export const GATEWAY_PLACE_OPTIONS = [
  new Option("--host <address>", "address of the gateway (default: 127.0.0.1)"),
  new Option("--port <port>", "port of the gateway (default: 8402)"),
  new Option(
    "--token-file <path>",
    "file with the token that requests must carry; else INFERNET_GATEWAY_TOKEN, else none",
  ),
] as const;
