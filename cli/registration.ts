// Owns what has to change in the Registry for a node to stand there as wanted.
import type { Calls } from "../chain/calls.ts";
import type { Call, NodeListing } from "../chain/chain.ts";
import type { Address } from "../protocol/bytes.ts";
import { InfernetError } from "../protocol/errors.ts";
import type { ListedModel } from "../protocol/offer.ts";
import { isLoopbackHost } from "../runtime/loopback.ts";

export type Registration = { payee: Address; endpoint: string; models: readonly ListedModel[] };

/** The calls by the node key, none when all is as wanted. Throws `bad-request` for what only the payee may change. */
export function planRegistration(
  calls: Pick<Calls, "register" | "setEndpoint" | "setModels" | "setActive">,
  existing: NodeListing | undefined,
  wanted: Registration,
): Call[] {
  const { payee, endpoint, models } = wanted;
  if (!existing) return [calls.register(payee, endpoint, models)];
  if (existing.payee !== payee) {
    throw new InfernetError(
      "bad-request",
      `the node's payee is ${existing.payee}, which only that account may change`,
      {
        hint: "Leave --payee out, or call Registry.setPayee from the payee's wallet.",
      },
    );
  }
  return [
    ...(existing.endpoint === endpoint ? [] : [calls.setEndpoint(endpoint)]),
    ...(areSameModels(existing.models, models) ? [] : [calls.setModels(models)]),
    ...(existing.active ? [] : [calls.setActive(true)]),
  ];
}

/** An endpoint as the Registry keeps it: scheme, host and port. Throws `bad-request`. */
export function readEndpoint(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const refuse = (why: string) =>
    new InfernetError("bad-request", `"${text}" cannot be an endpoint: ${why}`, {
      hint: "Write it like https://node.example:8443.",
    });
  if (!url || !/^https?:$/.test(url.protocol)) throw refuse("it is no https:// URL");
  if (url.username || url.password) throw refuse("it is public, so it holds no user name or password");
  if (url.pathname !== "/" || url.search || url.hash) throw refuse("it ends after the port");
  if (url.protocol === "http:" && !isLoopbackHost(url.hostname)) {
    throw refuse("plain HTTP is for this machine only");
  }
  return url.origin;
}

function areSameModels(some: readonly ListedModel[], others: readonly ListedModel[]): boolean {
  const inOrder = (models: readonly ListedModel[]) =>
    models
      .map(({ name, digest, inputPrice, outputPrice }) =>
        JSON.stringify([name, digest, `${inputPrice}`, `${outputPrice}`]),
      )
      .sort()
      .join();
  return inOrder(some) === inOrder(others);
}
