// Owns counting again what a node charged for: with the model's own vocabulary, within a stated tolerance.

import type { Log } from "../../runtime/logger.ts";
import { openTokenizer, type Tokenizer } from "../../runtime/tokenizer.ts";
import type { RequesterLedger } from "../ledger.ts";
import type { Sessions } from "../sessions/sessions.ts";
import type { Delivered } from "./buyer.ts";
import { type Json, readBody } from "./request-body.ts";

/** Counts a text's tokens as one model does. */
export type CountTokens = (text: string) => Promise<number>;

export type RecountDeps = {
  /** By model name. */
  counters: ReadonlyMap<string, CountTokens>;
  ledger: Pick<RequesterLedger, "noteEvidence">;
  sessions: Pick<Sessions, "close">;
  log: Log;
};

/** Why a delivery's counts are inflated, with the figures that show it. */
export type Inflation = { reason: string; counted: number; most: number; told: number };

/**
 * What an honest count may be above ours. A model may write a text in more tokens than its vocabulary needs, and ends
 * with a token that nobody sees: a tenth and eight tokens more are believed, and for a chat's prompt what a template
 * adds. A lie within that is not found.
 */
const TOLERANCE_PERCENT = 10;
const TOLERANCE_TOKENS = 8;
const TEMPLATE_TOKENS = 32;
const TEMPLATE_TOKENS_PER_MESSAGE = 16;

/** Counters that load the vocabulary of a file when they are first asked. */
export function countersOf(files: ReadonlyMap<string, string>): {
  counters: ReadonlyMap<string, CountTokens>;
  close(): Promise<void>;
} {
  const opened: Promise<Tokenizer>[] = [];
  const counterOf = (path: string): CountTokens => {
    let tokenizer: Promise<Tokenizer> | undefined;
    return async (text) => {
      if (!tokenizer) {
        tokenizer = openTokenizer(path);
        opened.push(tokenizer);
      }
      return (await tokenizer).count(text);
    };
  };
  return {
    counters: new Map([...files].map(([name, path]) => [name, counterOf(path)])),
    close: async () => {
      for (const opening of await Promise.allSettled(opened))
        if (opening.status === "fulfilled") await opening.value.close();
    },
  };
}

/**
 * A check that counts again where it can, behind the answer. A node that inflates is accused in the ledger, and the
 * session with it is closed: nothing more is signed for it.
 */
export function createRecount({
  counters,
  ledger,
  sessions,
  log,
}: RecountDeps): (delivered: Delivered) => void {
  const recount = async (delivered: Delivered): Promise<void> => {
    const { choice, bill } = delivered;
    const count = counters.get(choice.model.name);
    const inflation = count && (await findInflation(delivered, count));
    if (!inflation) return;
    const { jobId, requestId } = bill;
    log.warn({ node: choice.node, job: jobId }, inflation.reason);
    ledger.noteEvidence(jobId, { ...inflation, requestId });
    await sessions.close(jobId);
  };
  return (delivered) => {
    recount(delivered).catch((error: unknown) =>
      log.warn(
        { node: delivered.choice.node, error: String(error) },
        "an answer was not counted again to its end",
      ),
    );
  };
}

/** What is inflated in a delivery, or undefined: also where it cannot be told, as with tools, thoughts or images. */
export async function findInflation(
  { request, bill, isPlain }: Delivered,
  count: CountTokens,
): Promise<Inflation | undefined> {
  if (request.path === "/v1/embeddings") return undefined;
  const body = readBody(request.body);
  if (isPlain) {
    const counted = await count(bill.text);
    const most = toleranceOn(counted) + stopBytes(body.stop);
    if (bill.completionTokens > most) return inflation("completion", bill.completionTokens, counted, most);
  }
  const prompt = plainPrompt(body);
  if (prompt === undefined) return undefined;
  const counted = await count(prompt.text);
  const most = toleranceOn(counted) + prompt.templateTokens;
  return bill.promptTokens > most ? inflation("prompt", bill.promptTokens, counted, most) : undefined;
}

function inflation(what: string, told: number, counted: number, most: number): Inflation {
  const reason = `the delivery counts ${told} ${what} tokens where the model's vocabulary counts ${counted}`;
  return { reason, counted, most, told };
}

function toleranceOn(counted: number): number {
  return Math.ceil((counted * (100 + TOLERANCE_PERCENT)) / 100) + TOLERANCE_TOKENS;
}

/** A stop text is made and paid for, but not shown: no token of it is shorter than a byte. */
function stopBytes(stop: unknown): number {
  const texts = [stop].flat().filter((text) => typeof text === "string");
  return texts.reduce((longest, text) => Math.max(longest, Buffer.byteLength(text)), 0);
}

/** The prompt as text where it is nothing but text, and what its model's template may add. */
function plainPrompt(body: Json): { text: string; templateTokens: number } | undefined {
  if (typeof body.prompt === "string") return { text: body.prompt, templateTokens: 0 };
  const { messages } = body;
  if (!Array.isArray(messages) || body.tools || body.functions || body.response_format) return undefined;
  if (!messages.every(({ content, tool_calls }: Json) => typeof content === "string" && !tool_calls))
    return undefined;
  const text = messages.map(({ content }: Json) => content).join("\n");
  return { text, templateTokens: TEMPLATE_TOKENS + TEMPLATE_TOKENS_PER_MESSAGE * messages.length };
}
