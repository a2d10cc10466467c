// Owns the moment of trust in a TLS connection: the server's key is looked at before the first byte of a request.
import { connect as connectPlain, isIP, type Socket } from "node:net";
import { connect as connectTls, type TLSSocket } from "node:tls";
import type { buildConnector } from "undici";
import type { Hex } from "../protocol/bytes.ts";
import { InfernetError } from "../protocol/errors.ts";
import { hashPublicKey } from "./certificate.ts";
import { checkReach, lookupPublic, type Reach } from "./reach.ts";

/** Judges the key hash that a server shows (undefined: it shows none); what it throws closes the connection. */
export type KeyJudge = (shown: Hex | undefined) => void;

/** Accepts exactly one key. */
export function expectKey(pinned: Hex): KeyJudge {
  return (shown) => {
    if (shown === pinned) return;
    throw new InfernetError("node-key-mismatch", "the server's TLS key is not the one that the offer names", {
      hint: "Fetch the node's offer again; if it stays so, something between you and the node reads along.",
    });
  };
}

/**
 * An undici connector that hands out a TLS socket only after `judge` accepted its key. Each connection makes a whole
 * handshake: a resumed session would prove only that the server holds the ticket's key.
 */
export function judgingConnector(judge: KeyJudge, timeoutMs: number, reach: Reach): buildConnector.connector {
  return ({ hostname, port, protocol }, callback) => {
    const host = hostname.replace(/^\[(.*)\]$/, "$1");
    try {
      checkReach(host, reach);
    } catch (error) {
      callback(error as Error, null);
      return;
    }
    const secure = protocol === "https:";
    const target = { host, ...(reach === "public" ? { lookup: lookupPublic } : {}) };
    const socket = secure
      ? connectTls({
          ...target,
          port: Number(port || 443),
          ...(isIP(host) ? {} : { servername: host }),
          // No authority vouches for a node's certificate: the judge does, below.
          rejectUnauthorized: false,
          minVersion: "TLSv1.2",
          ALPNProtocols: ["http/1.1"],
        })
      : connectPlain({ ...target, port: Number(port || 80) });
    const timer = setTimeout(() => {
      socket.destroy(new Error(`no connection within ${timeoutMs} ms`));
    }, timeoutMs);
    socket.setNoDelay(true);
    socket.once("error", fail);
    socket.once("close", fail);
    socket.once(secure ? "secureConnect" : "connect", () => {
      try {
        if (secure) judge(shownKey(socket as TLSSocket));
      } catch (error) {
        socket.destroy();
        fail(error as Error);
        return;
      }
      settle();
      callback(null, socket as Socket);
    });

    function settle(): void {
      clearTimeout(timer);
      socket.off("error", fail);
      socket.off("close", fail);
    }

    function fail(error: Error | boolean): void {
      settle();
      socket.on("error", () => {});
      callback(error instanceof Error ? error : new Error("the connection closed at once"), null);
    }
  };
}

function shownKey(socket: TLSSocket): Hex | undefined {
  const certificate = socket.getPeerX509Certificate();
  return certificate === undefined ? undefined : hashPublicKey(certificate.publicKey);
}
