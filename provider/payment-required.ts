// Owns what an unpaid request is told: x402 v2's PAYMENT-REQUIRED header, which names the Escrow as the only way to pay.

import type { SignedOffer } from "../protocol/offer.ts";
import { toJson } from "../protocol/schema.ts";
import { OFFER_PATH } from "../protocol/wire.ts";

export const PAYMENT_REQUIRED_HEADER = "payment-required";

/** The one scheme that a node accepts: a job opened in the Escrow and receipts for it. x402's own schemes are not. */
const SCHEME = "infernet-escrow";

/** The header's value for a request to this path: base64 of x402 v2's PaymentRequired. */
export function paymentRequiredHeader({ offer, offerHash }: SignedOffer, path: string): string {
  const { chainId, escrow, usdc, node, payee, minDeposit, longestRequestSeconds, endpoint } = offer;
  const offerUrl = new URL(OFFER_PATH, endpoint).href;
  const required = {
    x402Version: 2,
    error: "Open a job in the Escrow and send its headers with the request.",
    resource: { url: new URL(path, endpoint).href, mimeType: "application/json" },
    accepts: [
      {
        scheme: SCHEME,
        network: `eip155:${chainId}`,
        amount: minDeposit.toString(),
        asset: usdc,
        // The deposit goes to the Escrow, which pays the node's payee what receipts allow.
        payTo: escrow,
        maxTimeoutSeconds: longestRequestSeconds,
        extra: { node, payee, offerHash, offer: offerUrl },
      },
    ],
    extensions: { infernet: { protocol: offer.protocol, offer: offerUrl } },
  };
  return Buffer.from(toJson(required)).toString("base64");
}
