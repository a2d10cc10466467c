// Owns a requester of one session written by hand for tests: it signs what it is told, in steps as small as it likes.
import type { Hex } from "../../protocol/bytes.ts";
import { HEADERS, JOBS_PATH } from "../../protocol/wire.ts";
import { type Answer, CHAT, readWhole } from "./serving-fixture.ts";

export type HandSessionTerms = {
  url: string;
  jobId: Hex;
  /** `Infernet-Job`, -Salt and -Offer. */
  headers: Record<string, string>;
  /** The header of a receipt. */
  receipt(amount: bigint): string;
  /** Base units that it signs more at a time. */
  step: bigint;
};

export class HandSession {
  /** The highest amount that was signed. */
  signed = 0n;
  /** Receipts that were sent by themselves. */
  receipts = 0;
  readonly #terms: HandSessionTerms;
  #signing: Promise<void> = Promise.resolve();

  constructor(terms: HandSessionTerms) {
    this.#terms = terms;
  }

  /** Sends a request, signing for its admission what it is told, and reads its answer; each need is signed beside that. */
  async ask(
    key: string,
    body: Uint8Array<ArrayBuffer>,
    onNeed: (need: bigint) => unknown = (need) => void this.sign(need),
  ): Promise<Answer> {
    for (;;) {
      const headers = {
        ...this.#terms.headers,
        "content-type": "application/json",
        [HEADERS.receipt]: this.#terms.receipt(this.signed),
        [HEADERS.idempotencyKey]: key,
      };
      const response = await fetch(`${this.#terms.url}${CHAT}`, { method: "POST", headers, body });
      if (response.status !== 402) {
        const answer = await readWhole(response, { onNeed });
        await this.#signing;
        return answer;
      }
      const { error } = (await response.json()) as { error: { need: string } };
      this.signed = BigInt(error.need) > this.signed ? BigInt(error.need) : this.signed;
    }
  }

  /** Signs up to this amount, step by step; resolves when the node has the last one. */
  sign(amount: bigint): Promise<void> {
    const { url, jobId, headers, receipt, step } = this.#terms;
    this.#signing = this.#signing.then(async () => {
      while (this.signed < amount) {
        this.signed = this.signed + step < amount ? this.signed + step : amount;
        this.receipts += 1;
        const sent = { ...headers, [HEADERS.receipt]: receipt(this.signed) };
        const response = await fetch(`${url}${JOBS_PATH}/${jobId}/receipts`, {
          method: "POST",
          headers: sent,
        });
        if (!response.ok) throw new Error(`${response.status} ${await response.text()}`);
      }
    });
    return this.#signing;
  }
}
