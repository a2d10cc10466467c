// Owns how a person is asked for money: address, network, amount, and a QR code that wallets on phones read.
import type { Address } from "../protocol/bytes.ts";
import { formatUsdc } from "../protocol/price.ts";
import { networkOf } from "./network.ts";

/** Money that is to come to `address`; without an amount, any. `usdc` names the token's contract, for `asset` usdc. */
export type PaymentRequest = { address: Address; chainId: number; amount?: bigint } & (
  | { asset: "usdc"; usdc: Address }
  | { asset: "native" }
);

/** The request as wallets read it from a link or a QR code (ERC-681). */
export function paymentUri(request: PaymentRequest): string {
  const { address, chainId, amount } = request;
  if (request.asset === "native") {
    return `ethereum:${address}@${chainId}${amount === undefined ? "" : `?value=${amount}`}`;
  }
  const query = `address=${address}${amount === undefined ? "" : `&uint256=${amount}`}`;
  return `ethereum:${request.usdc}@${chainId}/transfer?${query}`;
}

/** The request as JSON tells it. */
export function describePayment(request: PaymentRequest): Record<string, unknown> {
  const { address, chainId, asset, amount } = request;
  const named =
    asset === "usdc"
      ? { amountUsdc: amount === undefined ? null : formatUsdc(amount) }
      : { amountWei: amount === undefined ? null : amount };
  return { address, chainId, network: networkOf(chainId).name, asset, ...named, uri: paymentUri(request) };
}

/** The request as a person reads it; the QR code where a terminal shows it. */
export async function renderPayment(request: PaymentRequest, options: { qr: boolean }): Promise<string> {
  const { address, chainId } = request;
  const { name } = networkOf(chainId);
  const lines = [
    `  send     ${amountOf(request)}`,
    `  to       ${address}`,
    `  network  ${name} (chain id ${chainId}), and no other: on another one it would be lost`,
  ];
  if (request.asset === "usdc") lines.push(`  USDC is  ${request.usdc}`);
  if (!options.qr) return lines.join("\n");
  const { renderUnicodeCompact } = await import("uqr");
  return `${lines.join("\n")}\n\n${renderUnicodeCompact(paymentUri(request), { border: 2 })}`;
}

/** What is missing, in the words of the one who sends it. */
function amountOf({ asset, amount, chainId }: PaymentRequest): string {
  if (asset === "usdc") return amount === undefined ? "USDC" : `at least ${formatUsdc(amount)} USDC`;
  const { coin } = networkOf(chainId);
  return amount === undefined ? `${coin}, for gas` : `at least ${formatCoin(amount)} ${coin}, for gas`;
}

/** Wei as a decimal text of whole coins: 1500000000000000000n is "1.5". */
function formatCoin(wei: bigint): string {
  const digits = wei.toString().padStart(19, "0");
  return `${digits.slice(0, -18)}.${digits.slice(-18)}`.replace(/\.?0+$/, "");
}
