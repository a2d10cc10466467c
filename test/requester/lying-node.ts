// Owns a node for fault injection: real HTTPS, a real Registry entry, real settlement, and a script that may lie.
import type { FastifyReply, FastifyRequest } from "fastify";
import { createSender } from "../../chain/sender.ts";
import { type Hex, isHex, keccak256, ZERO_WORD } from "../../protocol/bytes.ts";
import { type Delivery, deliveryDigest, type SignedDelivery } from "../../protocol/delivery.ts";
import { InfernetError } from "../../protocol/errors.ts";
import { jobIdOf, requestHashOf, sessionRequestId, singleRequestId } from "../../protocol/job.ts";
import {
  encodeOffer,
  formatServedOffer,
  type Offer,
  offerDigest,
  type SignedOffer,
} from "../../protocol/offer.ts";
import { costMillionths, roundCharge } from "../../protocol/price.ts";
import { parseReceipt, type Receipt, receiptDigest } from "../../protocol/receipt.ts";
import { type RelayedOpening, relayedOpeningSchema } from "../../protocol/relay.ts";
import { parseJsonWith, toJson } from "../../protocol/schema.ts";
import { transcriptOf } from "../../protocol/transcript.ts";
import { HEADERS, INFERNET_EVENT, JOBS_PATH, OFFER_PATH } from "../../protocol/wire.ts";
import { type Certificate, loadOrCreateCertificate } from "../../runtime/certificate.ts";
import { createHttpServer } from "../../runtime/http-server.ts";
import {
  createSigner,
  generatePrivateKey,
  recoverSigner,
  type Signer,
} from "../../runtime/signers/secp256k1.ts";
import { openSse } from "../../runtime/sse.ts";
import { exampleOffer } from "../support/examples.ts";
import { temporaryFolder } from "../support/machine.ts";
import { fundedSigner, MODEL, SILENT, type World } from "./world.ts";

export const PRICES = { inputPrice: 100_000n, outputPrice: 1_000_000n };
export const CHUNK_TOKENS = 8;
export const MODEL_DIGEST: Hex = `0x${"55".repeat(32)}`;

/** One connection of a paid request, as a script sees it. */
export type Line = {
  /** 1 for the first connection of this request. */
  attempt: number;
  lastEventId: number;
  /** What the node asks for having opened the job; 0 when it did not. */
  openingFee: bigint;
  /** Millionths that the requests of its job cost which have ended. */
  settled: bigint;
  /** Sends one honest piece of the answer: the next id, in the transcript. */
  say(text: string): void;
  /** Sends any event. */
  send(event: { id?: number; event?: string; data: string }): void;
  need(amount: bigint): void;
  /** Resolves when a receipt of at least this amount is held. */
  held(amount: bigint): Promise<bigint>;
  /** Says that the answer is whole, as OpenAI's form does. */
  finish(): void;
  /** Sends the signed delivery, with these fields changed before or after it is signed, and ends the stream. */
  deliver(changes?: Partial<Delivery>, forged?: Partial<SignedDelivery>): void;
  /** Cuts the connection. */
  cut(): void;
  /** Resolves when the client has gone. */
  gone: Promise<void>;
};

export type Script = (line: Line) => Promise<void> | void;

export type LyingNode = {
  signer: Signer;
  endpoint: string;
  certificate: Certificate;
  /** What the node does with each paid request; honest until changed. */
  script: Script;
  /** Thrown before a paid request is looked at, once each. */
  refusals: InfernetError[];
  /** What the served offer says in place of the truth, and who signs it. */
  offerChanges: Partial<Offer>;
  offerSigner: Signer;
  /** What is claimed at the close; the delivered charge unless told otherwise. */
  claim: bigint | undefined;
  /** What the node does with an opening that it shall broadcast; sends it until changed. */
  relay(opening: RelayedOpening): Promise<Hex>;
  /** Broadcasts an opening. */
  broadcast(opening: RelayedOpening): Promise<Hex>;
  /** What came: requests, receipts' amounts in order, closes, relayed openings. */
  seen: { requests: number; receipts: bigint[]; closes: number; openings: RelayedOpening[] };
  /** Settles what was delivered; resolves when mined. */
  settle(jobId: Hex): Promise<void>;
  stop(): Promise<void>;
};

type Paid = {
  jobId: Hex;
  requestId: Hex;
  attempts: number;
  payloads: string[];
  delivery: SignedDelivery | null;
};

/** A job as the node keeps it: its highest receipt, and its requests, one for a single job. */
type PaidJob = {
  jobId: Hex;
  receipt: Receipt | null;
  waiters: Set<() => void>;
  requests: Map<Hex, Paid>;
};

/** Says so many pieces, one token each, asking for receipts as the law has it, then delivers the truth. */
export function honest(tokens: number, promptTokens = 5): Script {
  return async (line) => {
    const { settled, openingFee } = line;
    const cost = (completionTokens: number) =>
      openingFee + roundCharge(settled + costMillionths({ promptTokens, completionTokens }, PRICES));
    for (let token = line.lastEventId + 1; token <= tokens; token += 1) {
      const ahead = Math.min(token - 1 + 2 * CHUNK_TOKENS, tokens);
      // A new connection may have missed what the last one was told.
      if (token % CHUNK_TOKENS === 0 || token === line.lastEventId + 1) line.need(cost(ahead));
      await line.held(cost(token));
      line.say(`word${token} `);
    }
    line.finish();
    line.deliver({ promptTokens, completionTokens: tokens });
  };
}

/** Starts and registers a node that is honest until its script is changed. */
export async function startLyingNode(world: World, terms: Partial<Offer> = {}): Promise<LyingNode> {
  const { chain } = world;
  const signer = await fundedSigner(world);
  const sender = createSender(chain, signer);
  const certificate = await loadOrCreateCertificate(temporaryFolder(), ["127.0.0.1"]);
  const server = await createHttpServer({
    ...{ host: "127.0.0.1", port: 0, certificate, log: SILENT, maxBodyBytes: 1 << 20 },
  });
  const paidJobs = new Map<Hex, PaidJob>();
  const payee = createSigner(generatePrivateKey()).address;

  const offerNow = (): SignedOffer => {
    const now = Math.floor(Date.now() / 1000);
    const { registry, escrow, usdc } = chain.deployment;
    const models = [
      {
        name: MODEL,
        digest: MODEL_DIGEST,
        ...PRICES,
        contextLength: 4096,
        features: ["chat", "completions"],
      },
    ];
    const offer = exampleOffer({
      ...{ node: signer.address, payee, registry, escrow, usdc, models, endpoint: node.endpoint },
      ...{ tlsKeyHash: certificate.keyHash, issuedAt: now - 60, expires: now + 3600 },
      ...{
        chunkTokens: CHUNK_TOKENS,
        minDeposit: 1000n,
        maxCompletionTokens: 256,
        ...terms,
        ...node.offerChanges,
      },
    });
    const bytes = encodeOffer(offer);
    const offerHash = keccak256(bytes);
    const signature = node.offerSigner.signDigest(offerDigest(chain.domain, offer, offerHash));
    return { offer, bytes, offerHash, signature };
  };

  const node: LyingNode = {
    signer,
    endpoint: "",
    certificate,
    script: honest(20),
    refusals: [],
    offerChanges: {},
    offerSigner: signer,
    claim: undefined,
    seen: { requests: 0, receipts: [], closes: 0, openings: [] },
    relay: (opening) => node.broadcast(opening),
    async broadcast({ job, amount, by }) {
      const call =
        by.kind === "credit"
          ? chain.calls.openWithSignature(job, amount, by)
          : chain.calls.openWithAuthorization(job, amount, by);
      return (await sender.send(call)).hash;
    },
    async settle(jobId) {
      const opened = await chain.getOpened(jobId);
      const paid = paidJobs.get(jobId);
      const amount = node.claim ?? (paid ? chargeOfJob(paid) : 0n);
      const call =
        paid?.receipt && amount > 0n
          ? chain.calls.settle({ job: opened!.job, receipt: paid.receipt, amount })
          : chain.calls.refund(opened!.job);
      await sender.send(call);
    },
    stop: () => server.stop(0),
  };

  const settledOf = ({ requests }: PaidJob): bigint =>
    [...requests.values()].reduce((sum, { delivery }) => sum + (delivery?.cost ?? 0n), 0n);

  const chargeOfJob = (job: PaidJob): bigint => {
    const settled = settledOf(job);
    return settled > 0n ? openingFeeOf(job.jobId) + roundCharge(settled) : 0n;
  };

  const takeReceipt = async (paid: PaidJob, header: unknown): Promise<bigint> => {
    const receipt = parseReceipt(paid.jobId, String(header));
    const opened = await chain.getOpened(paid.jobId);
    if (recoverSigner(receiptDigest(chain.domain, receipt), receipt.signature) !== opened?.job.signer)
      throw new InfernetError("bad-receipt", "not signed by the job's signer");
    if (receipt.amount > (paid.receipt?.amount ?? -1n)) {
      paid.receipt = receipt;
      node.seen.receipts.push(receipt.amount);
      for (const wake of paid.waiters) wake();
    }
    return paid.receipt!.amount;
  };

  const openingFeeOf = (jobId: Hex): bigint => {
    const isRelayed = node.seen.openings.some(({ job }) => jobIdOf(chain.domain, job) === jobId);
    return isRelayed ? (node.offerChanges.openingFee ?? 0n) : 0n;
  };

  const deliver = (
    paid: Paid,
    changes: Partial<Delivery>,
    forged: Partial<SignedDelivery>,
  ): SignedDelivery => {
    const counts = { promptTokens: 5, completionTokens: paid.payloads.length, ...changes };
    const fee = openingFeeOf(paid.jobId);
    const cost = costMillionths(counts, PRICES);
    const jobCharge = fee + roundCharge(settledOf(paidJobs.get(paid.jobId)!) + cost);
    const delivery: Delivery = {
      ...{ jobId: paid.jobId, requestId: paid.requestId, modelDigest: MODEL_DIGEST, estimated: false },
      transcript: transcriptOf(paid.requestId, paid.payloads),
      ...{ cost, jobCharge, ...counts },
    };
    const signature = signer.signDigest(deliveryDigest(chain.domain, delivery));
    paid.delivery = { ...delivery, signature, ...forged };
    return paid.delivery;
  };

  /** The unstreamed answer: ten words in one body, its delivery in a header. */
  const answerWhole = (paid: Paid, reply: FastifyReply) => {
    const message = { role: "assistant", content: "word ".repeat(10) };
    const payload = JSON.stringify({ choices: [{ index: 0, message, finish_reason: "stop" }] });
    paid.payloads = [payload];
    const header = Buffer.from(toJson(deliver(paid, { completionTokens: 10 }, {}))).toString("base64url");
    return reply.type("application/json").header("infernet-delivery", header).send(payload);
  };

  const serve = async (request: FastifyRequest, reply: FastifyReply) => {
    node.seen.requests += 1;
    const refusal = node.refusals.shift();
    if (refusal) throw refusal;
    const jobId = request.headers[HEADERS.job] as Hex;
    const key = request.headers[HEADERS.idempotencyKey];
    const requestId =
      key === undefined
        ? singleRequestId(jobId, requestHashOf(request.url, request.body as Buffer))
        : sessionRequestId(jobId, String(key));
    const job = paidJobs.get(jobId) ?? { jobId, receipt: null, waiters: new Set(), requests: new Map() };
    paidJobs.set(jobId, job);
    const paid = job.requests.get(requestId) ?? {
      ...{ jobId, requestId, attempts: 0, payloads: [], delivery: null },
    };
    job.requests.set(requestId, paid);
    await takeReceipt(job, request.headers[HEADERS.receipt]);
    paid.attempts += 1;
    if (!JSON.parse(String(request.body)).stream) return answerWhole(paid, reply);
    const lastEventId = Number(request.headers[HEADERS.lastEventId] ?? 0);
    const writer = openSse(reply);
    for (const [index, data] of paid.payloads.entries())
      if (index >= lastEventId) writer.send({ id: index + 1, data });
    const tell = (word: object) => writer.send({ event: INFERNET_EVENT, data: toJson(word) });
    const gone = new Promise<void>((resolve) => reply.raw.once("close", () => resolve()));
    await node.script({
      attempt: paid.attempts,
      lastEventId: paid.payloads.length,
      openingFee: openingFeeOf(jobId),
      settled: settledOf(job),
      say(text) {
        const data = JSON.stringify({
          choices: [{ index: 0, delta: { content: text }, finish_reason: null }],
        });
        paid.payloads.push(data);
        writer.send({ id: paid.payloads.length, data });
      },
      finish() {
        const data = "[DONE]";
        writer.send({ id: paid.payloads.push(data), data });
      },
      send: (event) => writer.send(event),
      need: (need) => tell({ type: "need", need }),
      async held(amount) {
        while ((job.receipt?.amount ?? 0n) < amount && !writer.closed.aborted) {
          await new Promise<void>((resolve) => {
            job.waiters.add(resolve);
            void gone.then(resolve);
          });
        }
        return job.receipt?.amount ?? 0n;
      },
      deliver(changes = {}, forged = {}) {
        tell({ type: "delivery", delivery: deliver(paid, changes, forged) });
        writer.end();
      },
      cut() {
        void writer.flushed().then(() => reply.raw.destroy());
      },
      gone,
    });
  };

  const documentOf = (jobId: Hex) => {
    const paid = paidJobs.get(jobId);
    if (!paid) throw new InfernetError("job-not-found", "no such job");
    const held = paid.receipt?.amount ?? 0n;
    return {
      ...{ jobId, status: "settling", deposit: 0n, receipt: held, charge: 0n, claimed: 0n, deadline: 1 },
      requests: [...paid.requests.values()].map(({ requestId, payloads, delivery }) => ({
        ...{ requestId, status: "ended", lastEventId: payloads.length, delivery },
      })),
    };
  };

  server.app.get(OFFER_PATH, async (_request, reply) =>
    reply.type("application/json").send(formatServedOffer(offerNow())),
  );
  server.app.post("/v1/chat/completions", serve);
  server.app.post(JOBS_PATH, async (request, reply) => {
    const body = String(request.body);
    const opening = parseJsonWith(relayedOpeningSchema, body, "bad-request", "the opening");
    node.seen.openings.push(opening);
    const tx = await node.relay(opening);
    return reply.type("application/json").send(toJson({ jobId: jobIdOf(chain.domain, opening.job), tx }));
  });
  server.app.post<{ Params: { jobId: string } }>(`${JOBS_PATH}/:jobId/receipts`, async (request, reply) => {
    const paid = paidJobs.get(request.params.jobId as Hex);
    if (!paid) throw new InfernetError("job-not-found", "no such job");
    const accepted = await takeReceipt(paid, request.headers[HEADERS.receipt]);
    return reply.type("application/json").send(toJson({ accepted }));
  });
  server.app.get<{ Params: { jobId: string } }>(`${JOBS_PATH}/:jobId`, async (request, reply) =>
    reply.type("application/json").send(toJson(documentOf(request.params.jobId as Hex))),
  );
  server.app.get<{ Params: { jobId: string; requestId: string } }>(
    `${JOBS_PATH}/:jobId/requests/:requestId`,
    async (request, reply) => {
      const { jobId, requestId } = request.params;
      const job = paidJobs.get(jobId as Hex);
      if (!job) throw new InfernetError("job-not-found", "no such job");
      const paid = job.requests.get(requestId as Hex);
      if (!paid) throw new InfernetError("not-found", "no such request");
      if (!paid.delivery) throw new InfernetError("request-in-progress", "it runs");
      const writer = openSse(reply);
      for (const [index, data] of paid.payloads.entries()) writer.send({ id: index + 1, data });
      const word = { type: "delivery", delivery: paid.delivery };
      writer.send({ event: INFERNET_EVENT, data: toJson(word) });
      writer.end();
      return reply;
    },
  );
  server.app.post<{ Params: { jobId: string } }>(`${JOBS_PATH}/:jobId/close`, async (request, reply) => {
    node.seen.closes += 1;
    const { jobId } = request.params;
    if (!isHex(jobId, 32) || jobId === ZERO_WORD) throw new InfernetError("job-not-found", "no such job");
    const document = documentOf(jobId);
    await node.settle(jobId);
    return reply.type("application/json").send(toJson(document));
  });

  const { port } = await server.listen();
  node.endpoint = `https://127.0.0.1:${port}`;
  const models = [{ name: MODEL, digest: MODEL_DIGEST, ...PRICES }];
  await sender.send(chain.calls.register(payee, node.endpoint, models));
  return node;
}
