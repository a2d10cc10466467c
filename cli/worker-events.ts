// Owns how a running worker's events read to a person.
import { formatUsdc } from "../protocol/price.ts";
import type { ProviderEvent } from "../provider/events.ts";
import { printable } from "./output.ts";

/** One line of an event; empty for those that come too often to be read. */
export function renderProviderEvent(event: ProviderEvent): string {
  const job = "jobId" in event && event.jobId ? ` ${event.jobId.slice(0, 10)}` : "";
  switch (event.type) {
    case "jobFunded":
      return `job${job} funded with ${formatUsdc(event.deposit)} USDC by ${event.requester}`;
    case "streamStarted":
      return `job${job} asks ${printable(event.model)}`;
    case "streamEnded": {
      const { promptTokens, completionTokens } = event.counts;
      return `job${job} took ${promptTokens} + ${completionTokens} tokens: ${formatUsdc(event.jobCharge)} USDC`;
    }
    case "claimed":
      return `job${job} claimed of: ${formatUsdc(event.gained)} USDC, ${formatUsdc(event.claimed)} so far`;
    case "settled":
      return `job${job} settled: ${formatUsdc(event.claimed)} USDC earned, ${formatUsdc(event.returned)} returned`;
    case "relayed":
      return `sent for a requester: ${event.kind}, ${event.tx}`;
    case "paidOut":
      return `paid out ${formatUsdc(event.amount)} USDC to the payee: ${event.tx}`;
    case "upstreamChanged": {
      const name = printable(event.name);
      if (event.state === "down") return `${name} is down: ${printable(event.reason ?? "")}`;
      return `${name} is up: ${event.models.map(printable).join(", ") || "no models"}`;
    }
    case "lightChanged":
      return event.live
        ? "your node is live"
        : `your node is not live: ${printable(event.reasons.join("; "))}`;
    case "refused":
      return `job${job} refused: ${printable(event.reason)}`;
    case "error":
      return `error${job}: ${printable(event.message)}`;
    case "tokensReleased":
    case "receiptAccepted":
    case "jobOver":
    case "queueChanged":
      return "";
  }
}
