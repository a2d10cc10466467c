// Owns "you have no money yet": says what is missing and where to send it, waits for it, and goes on when it is there.
import { setTimeout as delay } from "node:timers/promises";
import { Option } from "commander";
import type { Chain } from "../chain/chain.ts";
import type { Address } from "../protocol/bytes.ts";
import { InfernetError } from "../protocol/errors.ts";
import type { Context } from "./context.ts";
import { describePayment, type PaymentRequest, renderPayment } from "./payment-request.ts";
import { parseDuration } from "./values.ts";

export type FundingFlags = { waitFunds?: number | true | undefined };

export const WAIT_FUNDS_OPTION = new Option(
  "--wait-funds [duration]",
  "when money is missing, wait for it to arrive and go on by itself (default: 1h)",
).argParser(parseDuration);

const DEFAULT_WAIT_SECONDS = 3600;
/** About a block of the chains that USDC moves on. */
const POLL_MS = 2_000;

/**
 * Does `work` for `owner`. When it fails for money that `owner` could be sent, tells a person how to send it; with
 * `waitFunds` it does the work again once the money is there, so `work` must leave nothing behind when it fails so.
 * Throws what `work` throws, `insufficient-funds` too when the wait is over.
 */
export async function whenFunded<Result>(
  context: Context,
  { owner, waitFunds }: FundingFlags & { owner: Address },
  work: () => Promise<Result>,
): Promise<Result> {
  const endsAt = performance.now() + waitMs(waitFunds);
  for (;;) {
    try {
      return await work();
    } catch (error) {
      const chain = await context.chain();
      const shortage = shortageOf(error);
      if (!shortage) throw error;
      await tell(context, requestOf(chain, owner, shortage));
      const arrived = await waitUntil(context, endsAt, () => isCovered(chain, owner, shortage));
      if (!arrived) throw error;
      context.output.progress({ event: "fundsArrived", address: owner }, "The money is there.");
    }
  }
}

/** Waits until `owner` holds at least this much USDC. Throws `insufficient-funds` when it does not come. */
export async function waitForUsdc(
  context: Context,
  { owner, wanted, waitFunds }: { owner: Address; wanted: bigint; waitFunds: number | true },
): Promise<void> {
  const chain = await context.chain();
  context.output.hint("waiting for it to arrive (Ctrl-C ends this)");
  const endsAt = performance.now() + waitMs(waitFunds);
  if (await waitUntil(context, endsAt, async () => (await chain.getUsdc(owner)) >= wanted)) return;
  throw new InfernetError("insufficient-funds", "the money did not arrive in time", {
    hint: "It is not lost: whatever arrives later shows in `infernet wallet balance`.",
  });
}

/** What an account would need to have, and has; in base units of USDC, or in wei of the chain's own coin. */
type Shortage = { asset: PaymentRequest["asset"]; needed: bigint; owned: bigint };

/** What an `insufficient-funds` error says is missing; undefined for one that no payment would mend. */
function shortageOf(error: unknown): Shortage | undefined {
  if (!(error instanceof InfernetError) || error.code !== "insufficient-funds") return undefined;
  const { needed, wallet, neededWei, balanceWei } = error.data;
  return shortage("usdc", needed, wallet) ?? shortage("native", neededWei, balanceWei);
}

/** Figures of an error are texts, and may be a node's. */
function shortage(asset: Shortage["asset"], needed: unknown, owned: unknown): Shortage | undefined {
  if (![needed, owned].every((figure) => typeof figure === "string" && /^\d{1,78}$/.test(figure)))
    return undefined;
  const figures = { needed: BigInt(needed as string), owned: BigInt(owned as string) };
  return figures.needed > figures.owned ? { asset, ...figures } : undefined;
}

function requestOf(chain: Chain, address: Address, { asset, needed, owned }: Shortage): PaymentRequest {
  const common = { address, chainId: chain.chainId, amount: needed - owned };
  return asset === "usdc" ? { ...common, asset, usdc: chain.deployment.usdc } : { ...common, asset };
}

async function tell({ output, terminal }: Context, request: PaymentRequest): Promise<void> {
  const text = output.json ? "" : await renderPayment(request, { qr: terminal.isWatched && !output.quiet });
  output.progress(
    { event: "fundsMissing", ...describePayment(request) },
    `Money is missing. To go on,\n\n${text}\n`,
  );
}

async function isCovered(chain: Chain, owner: Address, { asset, needed }: Shortage): Promise<boolean> {
  if (asset === "native") return (await chain.getNative(owner)) >= needed;
  // Somebody may also have deposited for this account.
  const [usdc, credit] = await Promise.all([chain.getUsdc(owner), chain.getCredit(owner)]);
  return usdc >= needed || credit >= needed;
}

function waitMs(waitFunds: number | true | undefined): number {
  if (waitFunds === undefined) return 0;
  return (waitFunds === true ? DEFAULT_WAIT_SECONDS : waitFunds) * 1000;
}

/** Looks again and again until it is so; false when the time is over first. An RPC that is away for a while is no end. */
async function waitUntil(context: Context, endsAt: number, isSo: () => Promise<boolean>): Promise<boolean> {
  while (performance.now() < endsAt) {
    await delay(Math.min(POLL_MS, endsAt - performance.now()), undefined, { signal: context.signal });
    const answer = await isSo().catch((error: unknown) => {
      if (error instanceof InfernetError && error.code === "chain-unreachable") return false;
      throw error;
    });
    if (answer) return true;
  }
  return false;
}
