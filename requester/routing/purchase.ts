// Owns one request on its way from node to node: within one limit, and no token paid for twice.
import type { Address, Hex } from "../../protocol/bytes.ts";
import { ZERO_WORD } from "../../protocol/bytes.ts";
import { type ErrorCode, InfernetError } from "../../protocol/errors.ts";
import { estimatePromptTokens } from "../../protocol/price.ts";
import type { Choice } from "../choose.ts";
import { type ModelRequest, readModelRequest } from "../model-request.ts";
import { LIMITS, type Limits, type Outcome, tryNode } from "./attempt.ts";
import type { Attempt, Bought, BuyerDeps, BuyInput } from "./buyer.ts";
import { type Candidate, findCandidates, type Knowledge } from "./candidates.ts";
import { type ClientStream, createClientStream } from "./client-stream.ts";
import { canContinue, continueBody } from "./continuation.ts";
import { readWantedModel } from "./model-names.ts";
import { changeBody } from "./request-body.ts";

/** What another node cannot mend, or must not cost twice. */
const FINAL: readonly ErrorCode[] = [
  ...(["bad-request", "unsupported", "over-budget", "interrupted", "body-too-large"] as const),
  ...(["wallet-missing", "wrong-passphrase", "store-locked", "store-unusable"] as const),
  ...(["chain-unreachable", "wrong-chain", "no-deployment"] as const),
];
/** The user's own affair: no failure of the node's. */
const NOT_ITS_FAULT: readonly ErrorCode[] = [...FINAL, "insufficient-funds"];
const MOST_ATTEMPTS = 5;

/** One request; `run` it once. */
export class Purchase {
  readonly #deps: BuyerDeps;
  readonly #known: Knowledge;
  readonly #input: BuyInput & { signal: AbortSignal };
  readonly #count: (node: Address, change: number) => void;
  readonly #limits: Limits;
  readonly #stream: ClientStream;
  readonly #asked: ModelRequest;
  readonly #attempts: Attempt[] = [];
  readonly #maxCharge: bigint;
  #request: ModelRequest;
  #spent = 0n;
  #spentMillionths = 0n;
  /** The weights that the answer was begun with; undefined while another model may answer. */
  #digest: Hex | undefined;
  #isRouted = false;

  constructor(
    deps: BuyerDeps,
    known: Knowledge,
    input: BuyInput & { signal: AbortSignal },
    count: (node: Address, change: number) => void,
  ) {
    [this.#deps, this.#known, this.#input, this.#count] = [deps, known, input, count];
    this.#limits = { ...LIMITS, ...deps.limits };
    this.#asked = readModelRequest(input.path, input.body);
    this.#request = this.#asked;
    this.#stream = createClientStream({ path: input.path, isStream: this.#asked.stream }, input.onPayload);
    this.#maxCharge = input.wish?.maxCharge ?? deps.maxCharge();
  }

  async run(): Promise<Bought> {
    let failure: InfernetError | undefined;
    for (;;) {
      this.#input.signal.throwIfAborted();
      const [next, ...others] = await this.#candidates(failure);
      const outcome = await this.#attempt(next, others.length > 0);
      if (outcome.kind === "served") return this.#billOf(next.choice, outcome);
      failure = outcome.error;
      const { isWhole } = this.#stream.snapshot();
      if (isWhole) return this.#billWithoutWord(next.choice, outcome);
      if (!this.#mayGoOn(failure)) throw this.#withCharge(failure);
      if (!this.#prepareNext(next.choice)) {
        this.#stream.end("length");
        return this.#billWithoutWord(next.choice, outcome);
      }
    }
  }

  async #candidates(failure: InfernetError | undefined): Promise<[Candidate, ...Candidate[]]> {
    const { wish = {} } = this.#input;
    const tried = new Set(this.#attempts.map(({ node }) => node));
    try {
      const view = await this.#deps.market.view();
      const wanted = readWantedModel(this.#asked.model, this.#deps.aliases ?? new Map());
      const maxCharge = this.#maxCharge - this.#spent;
      const route = { request: this.#request, wanted, wish, maxCharge, tried, digest: this.#digest };
      return findCandidates(view, route, this.#known);
    } catch (error) {
      // Why the last node failed says more than that nobody is left.
      throw failure ? this.#withCharge(failure) : error;
    }
  }

  async #attempt({ choice, measure }: Candidate, hasOther: boolean): Promise<Outcome> {
    const { node, model } = choice;
    const { measures, ask } = this.#deps;
    const { signal, path } = this.#input;
    const request =
      this.#request.model === model.name
        ? this.#request
        : readModelRequest(
            path,
            changeBody(this.#request.body, () => ({ model: model.name })),
          );
    const maxCharge = this.#maxCharge - this.#spent;
    const onPayload = (payload: string) => {
      this.#tellRoute(choice);
      this.#stream.accept(payload);
    };
    this.#count(node, 1);
    const asked = { request, choice, measure, maxCharge, hasOther, signal, onPayload };
    const outcome = await tryNode({ ask, limits: this.#limits }, asked).finally(() => this.#count(node, -1));
    if (outcome.kind === "served") {
      const { isPlain } = this.#stream.snapshot();
      const { charge, costMillionths } = outcome.bill;
      this.#note(choice, "served", charge, costMillionths);
      const { firstTokenMs, tokensPerSecond } = outcome.sample;
      measures.noteServed(node, model.name, {
        firstTokenMs: request.stream ? firstTokenMs : null,
        tokensPerSecond,
      });
      this.#deps.check?.({ request, choice, bill: outcome.bill, isPlain });
    } else {
      const { error, charge } = outcome;
      this.#note(choice, error.code, charge, charge * 1_000_000n);
      if (!signal.aborted && !NOT_ITS_FAULT.includes(error.code))
        measures.noteFailed(node, model.name, error);
    }
    return outcome;
  }

  #note({ node, model }: Choice, outcome: string, charge: bigint, millionths: bigint): void {
    this.#attempts.push({ node, model: model.name, outcome, charge });
    this.#spent += charge;
    this.#spentMillionths += millionths;
  }

  #tellRoute({ node, model }: Choice): void {
    if (this.#isRouted) return;
    this.#isRouted = true;
    this.#input.onRoute?.({ node, model: model.name });
  }

  #mayGoOn({ code }: InfernetError): boolean {
    const begun = this.#stream.snapshot();
    if (this.#input.signal.aborted || FINAL.includes(code)) return false;
    if (this.#attempts.length >= MOST_ATTEMPTS) return false;
    if (begun.text === "" && begun.isPlain) return true;
    return canContinue(this.#input.path, this.#asked.body, begun);
  }

  /** Makes the request that the next node is asked; false when nothing is left to ask for. */
  #prepareNext({ model }: Choice): boolean {
    const begun = this.#stream.snapshot();
    this.#stream.switchNode();
    if (begun.text === "") return true;
    const body = continueBody(this.#input.path, this.#asked.body, begun);
    if (body === undefined) return false;
    this.#digest = model.digest;
    this.#request = readModelRequest(this.#input.path, body);
    return true;
  }

  #billOf(choice: Choice, { bill, sample }: Extract<Outcome, { kind: "served" }>): Bought {
    this.#stream.end();
    const { finishReason, text } = this.#attempts.length === 1 ? bill : this.#stream.snapshot();
    return {
      ...this.#total(choice),
      ...{ jobId: bill.jobId, requestId: bill.requestId },
      ...this.#stream.sumOf(bill),
      estimated: bill.estimated || this.#attempts.length > 1,
      ...{ text, finishReason },
      firstTokenMs: sample.firstTokenMs,
      tokensPerSecond: sample.tokensPerSecond ?? 0,
    };
  }

  /** The bill of an answer that came whole, but without its node's word that could be trusted or was there at all. */
  #billWithoutWord(choice: Choice, { jobId }: Extract<Outcome, { kind: "failed" }>): Bought {
    this.#stream.end();
    const { text, finishReason, tokens } = this.#stream.snapshot();
    return {
      ...this.#total(choice),
      ...{ jobId: jobId ?? ZERO_WORD, requestId: ZERO_WORD, estimated: true },
      promptTokens: estimatePromptTokens(this.#asked.promptTextBytes),
      ...{ completionTokens: tokens, text, finishReason, firstTokenMs: 0, tokensPerSecond: 0 },
    };
  }

  #total({ node, model }: Choice) {
    return {
      ...{ node, model: model.name, attempts: this.#attempts },
      ...{ costMillionths: this.#spentMillionths, charge: this.#spent },
    };
  }

  /** The error with what all attempts cost at most. */
  #withCharge(error: InfernetError): InfernetError {
    const { code, message, hint, data } = error;
    if (this.#spent === 0n) return error;
    const charge = this.#spent.toString();
    return new InfernetError(code, message, { hint, cause: error, data: { ...data, charge } });
  }
}
