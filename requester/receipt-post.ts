// Owns how receipts travel while an answer is read: one at a time, the newest first, the ones it overtook never.
import { InfernetError } from "../protocol/errors.ts";
import type { Receipt } from "../protocol/receipt.ts";
import type { NodeClient } from "./node-client.ts";

export type ReceiptPost = {
  /** Sends in the background; an older receipt that still waits is dropped, for amounts are cumulative. */
  send(receipt: Receipt): void;
  /** Resolves when nothing is on its way. */
  idle(): Promise<void>;
};

const ATTEMPTS = 3;

/** A receipt that cannot be delivered is reported and not fatal: the node then ends the answer at what is signed. */
export function createReceiptPost(
  client: Pick<NodeClient, "sendReceipt">,
  warn: (message: string, error: unknown) => void,
): ReceiptPost {
  let waiting: Receipt | undefined;
  let running: Promise<void> | undefined;

  async function deliver(receipt: Receipt): Promise<void> {
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await client.sendReceipt(receipt);
      } catch (error) {
        const isLineBroken = error instanceof InfernetError && error.code === "node-unreachable";
        if (isLineBroken && attempt < ATTEMPTS && waiting === undefined) continue;
        return warn("a receipt was not taken", error);
      }
    }
  }

  async function drain(): Promise<void> {
    while (waiting) {
      const receipt = waiting;
      waiting = undefined;
      await deliver(receipt);
    }
    running = undefined;
  }

  return {
    send(receipt) {
      waiting = receipt;
      running ??= drain();
    },
    idle: () => running ?? Promise.resolve(),
  };
}
