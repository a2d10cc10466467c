// Owns a serving provider for tests: real server, store, ledger and signatures; the model and the chain's word are given.
import { request as httpRequest } from "node:http";
import type { Hex } from "../../protocol/bytes.ts";
import { type SignedDelivery, signedDeliverySchema } from "../../protocol/delivery.ts";
import { InfernetError } from "../../protocol/errors.ts";
import { checkTerms } from "../../protocol/funding.ts";
import {
  type Job,
  type JobTerms,
  jobHashOf,
  jobIdOf,
  requestHashOf,
  SESSION_REQUEST_HASH,
} from "../../protocol/job.ts";
import type { ListedModel } from "../../protocol/offer.ts";
import { formatReceipt, receiptDigest } from "../../protocol/receipt.ts";
import type { Domain } from "../../protocol/typed-data.ts";
import { HEADERS, type InfernetEvent, infernetEventSchema, type ModelPath } from "../../protocol/wire.ts";
import { serveApi } from "../../provider/api.ts";
import { PROVIDER_DEFAULTS, type ProviderConfig } from "../../provider/config.ts";
import { createDispatcher, type UpstreamEntry } from "../../provider/dispatch.ts";
import { createOffers } from "../../provider/offers.ts";
import type { Upstream } from "../../provider/upstreams/upstream.ts";
import { createHttpServer } from "../../runtime/http-server.ts";
import { createLogger } from "../../runtime/logger.ts";
import { createSigner, type Signer, toCompactSignature } from "../../runtime/signers/secp256k1.ts";
import { readSse } from "../../runtime/sse.ts";
import {
  account,
  DOMAIN,
  type Ledgers,
  NODE,
  OPENED_AT,
  openedEvent,
  openLedgers,
  word,
} from "./ledger-fixture.ts";

export const CHAT: ModelPath = "/v1/chat/completions";
export const SIGNER = createSigner(word(9));
export const SALT = word(1);
const PAYEE = account(0x23);

/** One base unit a token, so that amounts read as tokens. */
export const LISTED: ListedModel[] = [
  { name: "tiny", digest: word(0x55), inputPrice: 1_000_000n, outputPrice: 1_000_000n },
];

export const CONFIG: ProviderConfig = {
  ...PROVIDER_DEFAULTS,
  listen: { host: "127.0.0.1", port: 0 },
  endpoint: "http://127.0.0.1:8443",
  prices: { default: { inputPrice: 1_000_000n, outputPrice: 1_000_000n }, byModel: {} },
  chunkTokens: 4,
  maxCompletionTokens: 100,
  receiptTimeoutSeconds: 1,
  health: { everyMs: 20, timeoutMs: 3_000, restMs: 100 },
};

/** A chat body whose prompt is 40 bytes, 10 tokens by estimate: a stream starts with 18 base units. */
export function chatBytes(members: object = {}): Buffer {
  const content = "x".repeat(40);
  return Buffer.from(
    JSON.stringify({ model: "tiny", stream: true, messages: [{ role: "user", content }], ...members }),
  );
}

export type Serving = Awaited<ReturnType<typeof startServing>>;

/** An upstream alone with this capacity, or entries as they are. */
export function entriesOf(
  upstreams: Upstream | readonly UpstreamEntry[],
  capacity = 4,
): readonly UpstreamEntry[] {
  return "generate" in upstreams ? [{ name: "only", upstream: upstreams, capacity }] : upstreams;
}

/** Starts a provider on this folder's store. `patienceMs` is how long a request outlives its listeners. */
export async function startServing(
  folder: string,
  upstreams: Upstream | readonly UpstreamEntry[],
  { config = {}, patienceMs = 60_000 }: { config?: Partial<ProviderConfig>; patienceMs?: number } = {},
) {
  const ledgers = openLedgers(folder);
  const { ledger, store, clock } = ledgers;
  const log = createLogger({ level: "silent" });
  const settings = { ...CONFIG, ...config };
  const dispatcher = await createDispatcher(entriesOf(upstreams), settings, log);
  const offers = await createOffers({
    config: settings,
    domain: DOMAIN,
    contracts: { registry: account(0x11), escrow: DOMAIN.escrow, usdc: account(0x13) },
    listing: async () => ({ payee: PAYEE, models: LISTED, active: true }),
    tlsKeyHash: null,
    dispatcher,
    signer: NODE,
    store,
    clock,
    log,
  });
  const server = await createHttpServer({
    host: "127.0.0.1",
    port: 0,
    certificate: null,
    log,
    maxBodyBytes: 8 << 20,
  });
  let reviews = 0;
  const api = serveApi(server.app, {
    domain: DOMAIN,
    ledger,
    ensureFunded: fakeEnsureFunded(ledgers),
    findOpened: async (jobId) => ledger.findJob(jobId),
    async reviewJobs() {
      reviews += 1;
    },
    offers,
    dispatcher,
    hindrances: () => (offers.current().offer.models.length === 0 ? ["no-model"] : []),
    clock,
    log,
    patienceMs,
  });
  const { port } = await server.listen();
  return {
    ...ledgers,
    url: `http://127.0.0.1:${port}`,
    offers,
    api,
    dispatcher,
    /** Requests that run now. */
    running: () => dispatcher.snapshot().running,
    /** How often settlement was asked to look. */
    reviews: () => reviews,
    async stop() {
      offers.stop();
      dispatcher.stop(new InfernetError("node-busy", "the node is stopping"));
      await api.stop();
      await server.stop(0);
      store.close();
    },
  };
}

/** Stands in for the chain: jobs of the ledger are funded, others do not exist. */
function fakeEnsureFunded({ ledger }: Ledgers) {
  return async (jobId: Hex, terms: JobTerms) => {
    const job = ledger.findJob(jobId);
    if (!job) throw new InfernetError("job-not-found", "no such job on the chain yet");
    checkTerms(job.job, terms);
    if (job.state !== "funded") throw new InfernetError("job-closed", "the job is over");
    return job;
  };
}

export type TestJob = {
  jobId: Hex;
  body: Buffer;
  /** The headers of a request, with a receipt of this amount. */
  headers(amount?: bigint, extra?: Record<string, string>): Record<string, string>;
  receipt(amount: bigint, options?: { transcript?: Hex; signer?: Signer; domain?: Domain }): string;
};

/** Puts a funded job for these bytes into the ledger; a session when asked. */
export function openJob(
  { openings, offers }: Serving,
  {
    body = chatBytes(),
    deposit = 1000n,
    path = CHAT,
    session = false,
    salt = SALT,
    requester = account(0x21),
  } = {},
): TestJob {
  const { offerHash } = offers.current();
  const requestHash = session ? SESSION_REQUEST_HASH : requestHashOf(path, body);
  const job: Job = {
    requester,
    signer: SIGNER.address,
    node: NODE.address,
    payee: PAYEE,
    jobHash: jobHashOf({ salt, offerHash, requestHash }),
    deadline: OPENED_AT + 7200,
  };
  const event = openedEvent(job, deposit, 5);
  openings.record({
    undone: null,
    openings: [{ event, registeredPayee: PAYEE }],
    closings: [],
    cursor: { block: 5, hash: word(5) },
  });
  const jobId = jobIdOf(DOMAIN, job);
  openings.confirm(jobId, 5);
  const receipt: TestJob["receipt"] = (
    amount,
    { transcript = word(0), signer = SIGNER, domain = DOMAIN } = {},
  ) => {
    const digest = receiptDigest(domain, { jobId, amount, transcript });
    return formatReceipt({
      jobId,
      amount,
      transcript,
      signature: toCompactSignature(signer.signDigest(digest)),
    });
  };
  return {
    jobId,
    body,
    receipt,
    headers: (amount, extra = {}) => ({
      "content-type": "application/json",
      [HEADERS.job]: jobId,
      [HEADERS.salt]: salt,
      [HEADERS.offer]: offerHash,
      ...(amount === undefined ? {} : { [HEADERS.receipt]: receipt(amount) }),
      ...extra,
    }),
  };
}

/** Sends the job's request; the answer's stream is read with `readAnswer`. */
export function send(
  { url }: Serving,
  job: TestJob,
  amount?: bigint,
  { extra = {}, body = job.body, path = CHAT, signal }: SendOptions = {},
): Promise<Response> {
  const headers = job.headers(amount, extra);
  return fetch(`${url}${path}`, {
    method: "POST",
    headers,
    body: new Uint8Array(body),
    ...(signal ? { signal } : {}),
  });
}
type SendOptions = { extra?: Record<string, string>; body?: Buffer; path?: ModelPath; signal?: AbortSignal };

export async function sendReceipt({ url }: Serving, job: TestJob, header: string): Promise<Response> {
  const headers = { [HEADERS.salt]: SALT, [HEADERS.receipt]: header };
  return fetch(`${url}/infernet/jobs/${job.jobId}/receipts`, { method: "POST", headers });
}

export type AnswerEvent = { id: number; payload: string } | InfernetEvent;

/** The events of an answer as they come. */
export async function* readAnswer(response: Response): AsyncGenerator<AnswerEvent> {
  if (!response.ok || !response.body) throw new Error(`${response.status} ${await response.text()}`);
  for await (const { id, event, data } of readSse(response.body)) {
    if (event === "infernet") yield infernetEventSchema.parse(JSON.parse(data));
    else yield { id: Number(id), payload: data };
  }
}

export type Answer = {
  ids: number[];
  payloads: string[];
  text: string;
  needs: bigint[];
  errors: string[];
  delivery: SignedDelivery | undefined;
};

/** Reads an answer to its end; `onNeed` may sign, and `onEvent` look, before the next event is read. */
export async function readWhole(
  response: Response,
  { onNeed, onEvent }: { onNeed?: (need: bigint) => unknown; onEvent?: (event: AnswerEvent) => unknown } = {},
): Promise<Answer> {
  const answer: Answer = { ids: [], payloads: [], text: "", needs: [], errors: [], delivery: undefined };
  for await (const event of readAnswer(response)) {
    if ("payload" in event) {
      answer.ids.push(event.id);
      answer.payloads.push(event.payload);
      answer.text += textOf(event.payload);
    } else if (event.type === "need") {
      answer.needs.push(event.need);
      await onNeed?.(event.need);
    } else if (event.type === "error") answer.errors.push(event.problem.code);
    else answer.delivery = event.delivery;
    await onEvent?.(event);
  }
  return answer;
}

export function textOf(payload: string): string {
  if (payload === "[DONE]") return "";
  const { choices } = JSON.parse(payload);
  return choices?.[0]?.delta?.content ?? choices?.[0]?.text ?? "";
}

/** The signed delivery that an unstreamed answer carries in its header. */
export function deliveryOf(response: Response): SignedDelivery {
  const header = response.headers.get("infernet-delivery") ?? "";
  return signedDeliverySchema.parse(JSON.parse(Buffer.from(header, "base64url").toString()));
}

/** The status and the error code of a refusal under /v1. */
export async function refusalOf(
  response: Response,
): Promise<{ status: number; code: string; need?: string }> {
  const { error } = (await response.json()) as { error: { code: string; need?: string } };
  return { status: response.status, code: error.code, ...(error.need ? { need: error.need } : {}) };
}

/** Sends raw bytes without waiting for the answer's rules of fetch; resolves with the status. */
export function sendRaw(url: string, headers: Record<string, string>, body: Uint8Array): Promise<number> {
  return new Promise((resolve, reject) => {
    const request = httpRequest(url, { method: "POST", headers }, (response) => {
      response.resume();
      resolve(response.statusCode ?? 0);
    });
    // The server may cut a body that is too large before it is all sent.
    request.on("error", reject);
    request.end(body);
  });
}
