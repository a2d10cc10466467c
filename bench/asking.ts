// Owns how the measuring client asks: an OpenAI server, or a node by a session whose receipts it signs as they are asked for.
import { request as plainRequest } from "undici";
import { type Address, type Hex, ZERO_WORD } from "../protocol/bytes.ts";
import { costMillionths, roundCharge } from "../protocol/price.ts";
import { formatReceipt, receiptDigest } from "../protocol/receipt.ts";
import { HEADERS, infernetEventSchema, JOBS_PATH } from "../protocol/wire.ts";
import { createHttpClient, type HttpAnswer } from "../runtime/http-client.ts";
import { createSigner, toCompactSignature } from "../runtime/signers/secp256k1.ts";
import { readSse, type SseEvent } from "../runtime/sse.ts";

/** One answer: milliseconds to its first token, and tokens a second from the first to the last. */
export type Sample = { firstTokenMs: number; tokensPerSecond: number };

/** An open session, as it travels between processes. */
export type BenchSession = {
  endpoint: string;
  tlsKeyHash: Hex | null;
  headers: Record<string, string>;
  jobId: Hex;
  signerKey: Hex;
  chainId: string;
  escrow: Address;
  chunkTokens: number;
  inputPrice: string;
  outputPrice: string;
};

export type Ask = (tokens: number) => Promise<Sample>;

const CHAT = "/v1/chat/completions";

function bodyOf(model: string, tokens: number): string {
  const messages = [{ role: "user", content: "Count." }];
  return JSON.stringify({
    model,
    messages,
    max_tokens: tokens,
    stream: true,
    stream_options: { include_usage: true },
  });
}

/** Asks a server in OpenAI's form, as any client of its does. */
export function askOpenAi(url: string, model: string): Ask {
  return async (tokens) => {
    const startedAt = performance.now();
    const { statusCode, body } = await plainRequest(`${url}${CHAT}`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: bodyOf(model, tokens),
    });
    if (statusCode !== 200) throw new Error(`${statusCode} ${await body.text()}`);
    return await measure(readSse(body), startedAt, tokens, () => {});
  };
}

/** Asks the node; all requests share the session's one receipt. */
export function askNode(session: BenchSession, model: string): Ask {
  const { endpoint, tlsKeyHash, headers, jobId, chunkTokens } = session;
  const http = createHttpClient({ endpoint, tlsKeyHash });
  const signer = createSigner(session.signerKey);
  const prices = { inputPrice: BigInt(session.inputPrice), outputPrice: BigInt(session.outputPrice) };
  const domain = { chainId: BigInt(session.chainId), escrow: session.escrow };
  const postPath = `${JOBS_PATH}/${jobId}/receipts`;
  let [signed, posted] = [0n, 0n];
  /** In millionths of a base unit: what answers that ended cost, and what is signed ahead for those on their way. */
  let [cost, ahead] = [0n, 0n];
  let isPosting = false;
  let keys = 0;

  const receipt = () => {
    const unsigned = { jobId, amount: signed, transcript: ZERO_WORD };
    const signature = toCompactSignature(signer.signDigest(receiptDigest(domain, unsigned)));
    return formatReceipt({ ...unsigned, signature });
  };
  const raise = (need: bigint) => {
    if (need > signed) signed = need;
  };
  const post = async () => {
    if (isPosting) return;
    isPosting = true;
    while (posted < signed) {
      posted = signed;
      const sent = { ...headers, [HEADERS.receipt]: receipt() };
      const answer = await http.request({ method: "POST", path: postPath, headers: sent });
      const text = await answer.text();
      if (answer.status !== 200) throw new Error(`${answer.status} ${text}`);
    }
    isPosting = false;
  };
  const hear = ({ data }: SseEvent) => {
    const word = infernetEventSchema.parse(JSON.parse(data));
    if (word.type === "error") throw new Error(word.problem.detail);
    if (word.type === "delivery") cost += word.delivery.cost;
    if (word.type !== "need") return;
    raise(word.need);
    void post();
  };

  return async (tokens) => {
    const startedAt = performance.now();
    const body = bodyOf(model, tokens);
    // What the node reserves before the model runs: the prompt by its bytes, and two chunks.
    const first = costMillionths(
      { promptTokens: 2, completionTokens: Math.min(2 * chunkTokens, tokens) },
      prices,
    );
    ahead += first;
    raise(roundCharge(cost + ahead));
    const key = `bench-${process.pid}-${keys++}`;
    const send = async (): Promise<HttpAnswer> => {
      const paid = { [HEADERS.receipt]: receipt(), [HEADERS.idempotencyKey]: key };
      const sent = { ...headers, "content-type": "application/json", ...paid };
      const answer = await http.request({ method: "POST", path: CHAT, headers: sent, body });
      if (answer.status === 200) return answer;
      const { error } = JSON.parse(await answer.text()) as { error: { need?: string; message: string } };
      if (error.need === undefined) throw new Error(error.message);
      raise(BigInt(error.need));
      return await send();
    };
    const answer = await send();
    const sample = await measure(readSse(answer.body), startedAt, tokens, hear);
    ahead -= first;
    return sample;
  };
}

/** Reads an answer to its end. Throws unless it has as many tokens as were asked for. */
async function measure(
  events: AsyncIterable<SseEvent>,
  startedAt: number,
  tokens: number,
  onWord: (event: SseEvent) => void,
): Promise<Sample> {
  let [count, firstAt, lastAt] = [0, 0, 0];
  for await (const event of events) {
    if (event.event !== undefined) onWord(event);
    else if (event.data.includes('"content":"w')) {
      lastAt = performance.now();
      if (count++ === 0) firstAt = lastAt;
    }
  }
  if (count !== tokens) throw new Error(`${count} tokens came, ${tokens} were asked for`);
  return { firstTokenMs: firstAt - startedAt, tokensPerSecond: ((tokens - 1) * 1000) / (lastAt - firstAt) };
}
