// Owns which addresses a stranger's host name may lead to: resolved addresses are judged, not names.
import { type LookupAddress, lookup } from "node:dns";
import { isIP, type LookupFunction } from "node:net";
import ipaddr from "ipaddr.js";
import { InfernetError } from "../protocol/errors.ts";

/** `public` keeps connections out of this machine and its networks; `any` is for endpoints that the user vouches for. */
export type Reach = "public" | "any";

/** Whether an address is one of the open internet: neither loopback, private, link-local, reserved nor a tunnel to one. */
export function isPublicAddress(address: string): boolean {
  return ipaddr.isValid(address) && ipaddr.process(address).range() === "unicast";
}

/** Throws `node-unreachable` for a literal address that is out of reach; names are judged when they are resolved. */
export function checkReach(host: string, reach: Reach): void {
  if (reach === "public" && isIP(host) !== 0 && !isPublicAddress(host)) throw outOfReach(host);
}

/** A resolver that gives only public addresses, so that no name can be bound again between look and connection. */
export const lookupPublic: LookupFunction = (hostname, options, callback) => {
  lookup(hostname, { ...options, all: true }, (error, found) => {
    const [first, ...others] = (error ? [] : found).filter(({ address }) => isPublicAddress(address));
    if (first === undefined) callback(error ?? outOfReach(hostname), []);
    else if (options.all) callback(null, [first, ...others] satisfies LookupAddress[]);
    else callback(null, first.address, first.family);
  });
};

function outOfReach(host: string): InfernetError {
  return new InfernetError(
    "node-unreachable",
    `${host} is an address of this machine or of a private network`,
    {
      hint: "Strangers' endpoints must be public. For nodes in your own network: --allow-private.",
    },
  );
}
