// Owns a requester written by hand for tests: it opens a job, sends a request, and signs exactly what it is told to.
import { expect } from "chai";
import { toHex, utf8, ZERO_WORD } from "../../protocol/bytes.ts";
import { type Job, jobHashOf, jobIdOf, requestHashOf } from "../../protocol/job.ts";
import { parseServedOffer } from "../../protocol/offer.ts";
import { formatReceipt, receiptDigest } from "../../protocol/receipt.ts";
import { HEADERS, type InfernetEvent, infernetEventSchema, OFFER_PATH } from "../../protocol/wire.ts";
import { createHttpClient, fetchUnpinned } from "../../runtime/http-client.ts";
import { createSigner, generatePrivateKey, toCompactSignature } from "../../runtime/signers/secp256k1.ts";
import { readSse } from "../../runtime/sse.ts";
import type { Market } from "./market.ts";
import { textOfPayload } from "./seller-book.ts";

const PATH = "/v1/chat/completions";
const LIFE_SECONDS = 3600;

export type HandWrittenAnswer = { payloads: string[]; text: string; words: InfernetEvent[] };

/** Opens a job of `deposit` for this body from one of the chain's own accounts, which the market does not use. */
export async function openJobByHand(
  { chain, view, node, payee, endpoint }: Market,
  body: object,
  deposit: bigint,
) {
  const requester = chain.accounts[5]!.address;
  await chain.mintUsdc(requester, deposit);
  await chain.sendAs(requester, view.calls.approveUsdc(deposit));
  await chain.sendAs(requester, view.calls.deposit(deposit));
  const { text, tlsKeyHash } = await fetchUnpinned(endpoint, OFFER_PATH);
  const { offer, offerHash } = parseServedOffer(text);
  const bytes = utf8(JSON.stringify(body));
  const salt = toHex(crypto.getRandomValues(new Uint8Array(32)));
  const signer = createSigner(generatePrivateKey());
  const { timestamp } = await view.getBlock("latest");
  const job: Job = {
    ...{ requester, signer: signer.address, node, payee },
    jobHash: jobHashOf({ salt, offerHash, requestHash: requestHashOf(PATH, bytes) }),
    deadline: timestamp + LIFE_SECONDS,
  };
  const jobId = jobIdOf(view.domain, job);
  await chain.sendAs(requester, view.calls.open(job, deposit));

  const sign = (amount: bigint): string => {
    const unsigned = { jobId, amount, transcript: ZERO_WORD };
    const signature = toCompactSignature(signer.signDigest(receiptDigest(view.domain, unsigned)));
    return formatReceipt({ ...unsigned, signature });
  };

  return {
    ...{ jobId, requester, offer },
    /** Sends the request with one receipt and reads its answer to the end, whatever that is; signs nothing more. */
    async ask(amount: bigint): Promise<HandWrittenAnswer> {
      const http = createHttpClient({ endpoint, tlsKeyHash });
      try {
        const headers = {
          "content-type": "application/json",
          [HEADERS.job]: jobId,
          [HEADERS.salt]: salt,
          [HEADERS.offer]: offerHash,
          [HEADERS.receipt]: sign(amount),
        };
        const answer = await http.request({ method: "POST", path: PATH, headers, body: bytes });
        if (answer.status !== 200) throw new Error(`${answer.status} ${await answer.text()}`);
        return await readAnswer(answer.body);
      } finally {
        await http.close();
      }
    },
  };
}

async function readAnswer(body: AsyncIterable<Uint8Array>): Promise<HandWrittenAnswer> {
  const answer: HandWrittenAnswer = { payloads: [], text: "", words: [] };
  for await (const { id, event, data } of readSse(body)) {
    if (event === "infernet") answer.words.push(infernetEventSchema.parse(JSON.parse(data)));
    else {
      expect(id).to.equal(String(answer.payloads.push(data)));
      answer.text += textOfPayload(data);
    }
  }
  return answer;
}
