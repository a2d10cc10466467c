import { expect } from "chai";
import fc from "fast-check";
import type { Hex } from "../../protocol/bytes.ts";
import { claimableOf } from "../../provider/settlement-policy.ts";
import { holdsAsync } from "../support/properties.ts";
import {
  addFundedJob,
  createFolder,
  type Ledgers,
  newRequest,
  openLedgers,
  receiptOf,
  SESSION_TERMS,
  word,
} from "./ledger-fixture.ts";

const DEPOSIT = 3_000n;
const INPUT_PRICE = 2_000_000n;
const OUTPUT_PRICE = 5_000_000n;
const PROMPT_ESTIMATE = 100;

/** What a request may be charged, told again in plain numbers. */
type ModelRequest = { prompt: number; completion: number; payloads: string[]; ended: boolean };
type Model = { signed: bigint; requests: Map<number, ModelRequest> };

type Step =
  | { do: "sign"; amount: bigint }
  | { do: "start" | "abort"; request: number }
  | { do: "release"; request: number; payloads: string[]; tokens: number; prompt: number }
  | { do: "end"; request: number; prompt: number; completion: number }
  | { do: "restart" };

const request = fc.integer({ min: 1, max: 3 });
const tokens = fc.integer({ min: 0, max: 200 });
const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ do: fc.constant("sign" as const), amount: fc.bigInt({ min: 0n, max: 4_000n }) }),
  fc.record({ do: fc.constantFrom("start" as const, "start" as const, "abort" as const), request }),
  fc.record({
    do: fc.constant("release" as const),
    request,
    payloads: fc.array(fc.string({ maxLength: 5 }), { minLength: 1, maxLength: 4 }),
    tokens,
    prompt: fc.constantFrom(0, 0, 80, 150),
  }),
  fc.record({ do: fc.constant("end" as const), request, prompt: tokens, completion: tokens }),
  fc.record({ do: fc.constant("restart" as const) }),
);

const costOf = ({ prompt, completion }: Pick<ModelRequest, "prompt" | "completion">) =>
  BigInt(prompt) * INPUT_PRICE + BigInt(completion) * OUTPUT_PRICE;

function chargeOf(model: Model): bigint {
  const cost = [...model.requests.values()].reduce((sum, one) => sum + costOf(one), 0n);
  return (cost + 999_999n) / 1_000_000n;
}

/** A request cut off: nothing if nothing left; else its tokens, and a prompt that nobody counted as far as it is signed. */
function abort(model: Model, one: ModelRequest): void {
  one.ended = true;
  if (one.payloads.length === 0) {
    one.prompt = 0;
    one.completion = 0;
  } else if (one.prompt === 0) {
    let left = model.signed * 1_000_000n;
    for (const other of model.requests.values()) {
      left -= costOf(other);
      // The reservation of newRequest: what others that run may still spend.
      if (other !== one && !other.ended) left -= 840n * 1_000_000n;
    }
    while (one.prompt < PROMPT_ESTIMATE && left >= INPUT_PRICE) {
      left -= INPUT_PRICE;
      one.prompt++;
    }
  }
}

async function apply(step: Step, model: Model, ledgers: Ledgers, jobId: Hex): Promise<void> {
  const { ledger } = ledgers;
  if (step.do === "sign") {
    await ledger.acceptReceipt(receiptOf(jobId, step.amount));
    if (step.amount > model.signed) model.signed = step.amount;
  }
  if (step.do === "sign" || step.do === "restart") return;
  const one = model.requests.get(step.request);
  const requestId = word(0x40 + step.request);
  if (step.do === "start") {
    if (one) return;
    await ledger.startRequest({
      ...newRequest(jobId, step.request),
      prices: { inputPrice: INPUT_PRICE, outputPrice: OUTPUT_PRICE },
    });
    model.requests.set(step.request, { prompt: 0, completion: 0, payloads: [], ended: false });
    return;
  }
  if (!one || one.ended) return;
  if (step.do === "release") {
    one.prompt ||= step.prompt;
    one.completion += step.tokens;
    one.payloads.push(...step.payloads);
    await ledger.release(requestId, step.payloads, {
      promptTokens: one.prompt,
      completionTokens: one.completion,
    });
  } else if (step.do === "end") {
    Object.assign(one, { prompt: step.prompt, completion: step.completion, ended: true });
    const counts = { promptTokens: step.prompt, completionTokens: step.completion };
    await ledger.endRequest(requestId, { counts, estimated: false, reason: "stop" });
  } else {
    abort(model, one);
    await ledger.endWithoutUsage(requestId, "aborted");
  }
}

function compare(model: Model, { ledger }: Ledgers, jobId: Hex): void {
  expect(ledger.findJob(jobId)?.charge).to.equal(chargeOf(model));
  expect(ledger.findJob(jobId)?.receipt?.amount ?? 0n).to.equal(model.signed);
  const running = [...model.requests.values()].filter(({ ended }) => !ended).length;
  expect(ledger.findJob(jobId)?.reserved).to.equal(840n * BigInt(running));
  for (const [index, one] of model.requests) {
    const id = word(0x40 + index);
    expect(ledger.payloadsAfter(id, 0).map(({ payload }) => payload)).to.deep.equal(one.payloads);
    const found = ledger.findRequest(id)!;
    expect(found.counts).to.deep.equal({ promptTokens: one.prompt, completionTokens: one.completion });
    expect(found.delivery !== null).to.equal(one.ended);
  }
}

describe("job ledger against a plain model", () => {
  const folder = createFolder();
  let run = 0;
  after(() => folder.remove());

  it("any order of receipts, releases, ends and restarts charges what the model says, and claims within bounds", async () => {
    const property = fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 30 }), async (steps) => {
      const path = `${folder.path}/${run++}`;
      let ledgers = openLedgers(path);
      const jobId = addFundedJob(ledgers, SESSION_TERMS, DEPOSIT);
      const model: Model = { signed: 0n, requests: new Map() };
      for (const one of steps) {
        if (one.do === "restart") {
          ledgers.store.close();
          ledgers = openLedgers(path);
          for (const { requestId } of ledgers.ledger.runningRequests()) {
            abort(model, model.requests.get(Number.parseInt(requestId.slice(2, 4), 16) - 0x40)!);
            await ledgers.ledger.endWithoutUsage(requestId, "the node crashed");
          }
        } else await apply(one, model, ledgers, jobId);
        compare(model, ledgers, jobId);
      }
      for (const { requestId } of ledgers.ledger.runningRequests())
        await ledgers.ledger.endWithoutUsage(requestId, "the node stopped");
      ledgers.ledger.finishJob(jobId);
      const [due] = ledgers.settlements.dueJobs(0);
      const { charge } = ledgers.ledger.findJob(jobId)!;
      const least = [charge, model.signed, DEPOSIT].reduce((a, b) => (a < b ? a : b));
      expect(claimableOf(due!)).to.equal(least);
      expect(due!.charge).to.equal(charge);
      ledgers.store.close();
    });
    await holdsAsync(property, 30);
  }).timeout(30_000);
});
