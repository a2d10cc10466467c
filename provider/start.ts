// Owns how a provider is put together: what starts after what, what it shows of itself, and how it ends without loss.
import type { Block, Chain } from "../chain/chain.ts";
import { createSender } from "../chain/sender.ts";
import type { Address } from "../protocol/bytes.ts";
import { InfernetError } from "../protocol/errors.ts";
import type { Offer } from "../protocol/offer.ts";
import type { Certificate } from "../runtime/certificate.ts";
import type { Clock } from "../runtime/clock.ts";
import { createHttpServer, type HttpServer } from "../runtime/http-server.ts";
import type { Log } from "../runtime/logger.ts";
import type { Signer } from "../runtime/signers/secp256k1.ts";
import type { Store } from "../runtime/store.ts";
import type { Activity } from "./activity.ts";
import { type Api, serveApi } from "./api.ts";
import { DRAIN_MS, FAREWELL_MS, type ProviderConfig } from "./config.ts";
import { createDispatcher, type Dispatcher, type UpstreamEntry, type UpstreamStatus } from "./dispatch.ts";
import {
  createEventHub,
  type EventHub,
  errorEvent,
  type ProviderEvent,
  type ProviderListener,
} from "./events.ts";
import { type Intake, startIntake } from "./intake.ts";
import { JobLedger } from "./job-ledger.ts";
import { createLight, type Light } from "./light.ts";
import { type Observation, observe } from "./observation.ts";
import { createOffers, type Offers } from "./offers.ts";
import { OpeningLedger } from "./opening-ledger.ts";
import { Relay } from "./relay.ts";
import { RelayLedger } from "./relay-ledger.ts";
import { createRelayLimits } from "./relay-limits.ts";
import { addRelayRoutes } from "./routes/relay.ts";
import { Settlement } from "./settlement.ts";
import { SettlementLedger, type Totals } from "./settlement-ledger.ts";
import { warmUp } from "./warm-up.ts";

const MAX_BODY_BYTES = 4 << 20;
const RETRY_AFTER_STOP_SECONDS = 30;

/** `store` is opened with PROVIDER_MIGRATIONS, for this process alone; `signer` is the node's key. */
export type ProviderDependencies = {
  config: ProviderConfig;
  chain: Chain;
  store: Store;
  log: Log;
  signer: Signer;
  /** What runs the models; the caller closes them after the provider's end. */
  upstreams: readonly UpstreamEntry[];
  certificate: Certificate | null;
  clock: Clock;
};

/** Amounts in USDC base units. `earnedOnChain` stands in the Escrow until it is paid out. */
export type ProviderSnapshot = Totals & {
  node: Address;
  payee: Address;
  endpoint: string;
  models: string[];
  /** The green light: the node is listed, listens, follows the chain, and has a model to sell. */
  live: boolean;
  /** Why the light is off; none while it is on. */
  hindrances: string[];
  upstreams: UpstreamStatus[];
  activeStreams: number;
  /** Requests that wait for a free upstream. */
  queued: number;
  earnedOnChain: bigint;
  lastError: string | null;
  offer: Offer;
  /** The newest block that was read. */
  head: Block | null;
  activity: Activity;
};

export type Provider = {
  /** Where it listens, as seen from this machine. */
  url: string;
  /** Where metrics are told besides its own server; null when nowhere. */
  metricsUrl: string | null;
  /** Takes no new request, lets running ones end for a while, then charges what was released, settles and ends. */
  stop(): Promise<void>;
  snapshot(): ProviderSnapshot;
  subscribe(listener: ProviderListener): () => void;
};

type Parts = {
  dispatcher: Dispatcher;
  light: Light;
  ledger: JobLedger;
  settlements: SettlementLedger;
  settlement: Settlement;
  offers: Offers;
  intake: Intake;
  relay: Relay;
  server: HttpServer;
  api: Api;
  events: EventHub;
  /** Set once: from then on no new request starts. */
  stopping: AbortController;
  /** Whether the server listens. */
  door: { isOpen: boolean };
};

/**
 * Starts to serve. What a crash cut off is ended and charged first. Upstreams that are down are waited for: the node is
 * then there, but offers nothing. Throws `not-registered`, `model-not-found`,
 * `port-in-use`, and what chain and upstream throw; then nothing is left running.
 */
export async function startProvider(deps: ProviderDependencies): Promise<Provider> {
  const { config, log } = deps;
  const dispatcher = await createDispatcher(deps.upstreams, config, log);
  const parts = await assemble(deps, dispatcher).catch((error: unknown) => {
    dispatcher.stop(stoppingError());
    throw error;
  });
  const { events, settlement, intake, server, offers, light } = parts;
  let lastError: string | null = null;
  events.subscribe((event) => {
    if (event.type === "error") lastError = event.message;
    if (event.type === "jobOver") void settlement.review();
    if (event.type === "streamEnded") settlement.reviewSoon();
  });
  const snapshot = (): ProviderSnapshot => {
    return { ...snapshotOf(parts), lastError, activity: observation.activity() };
  };
  const slots = () => (parts.stopping.signal.aborted ? 0 : offers.current().offer.capacity);
  const observation: Observation = await observe(deps, { server, events, snapshot, slots });
  try {
    await endCutOff(parts.ledger);
    await intake.poke();
    const { port } = await server.listen();
    const metricsUrl = await observation.listen();
    offers.keepFresh();
    void parts.relay.resume();
    void settlement.review();
    const { signal } = parts.stopping;
    const names = offers.current().offer.models.map(({ name }) => name);
    void warmUp(deps.upstreams, names, { signal, log });
    const { host } = config.listen;
    const url = `${deps.certificate ? "https" : "http"}://${host.includes(":") ? `[${host}]` : host}:${port}`;
    parts.door.isOpen = true;
    log.info({ node: deps.signer.address, url }, "the node listens");
    light.review();
    let stopped: Promise<void> | undefined;
    return {
      url,
      metricsUrl,
      stop: () => {
        stopped ??= stop(deps, parts).finally(observation.stop);
        return stopped;
      },
      snapshot,
      subscribe: events.subscribe,
    };
  } catch (error) {
    await Promise.all([end(parts), observation.stop()]);
    throw error;
  }
}

async function assemble(deps: ProviderDependencies, dispatcher: Dispatcher): Promise<Parts> {
  const { config, chain, store, log, signer, certificate, clock } = deps;
  const { domain, deployment } = chain;
  const { registry, escrow, usdc } = deployment;
  const events = createEventHub((error) => log.error({ error }, "a listener to the provider failed"));
  logEvents(events, log);
  const stopping = new AbortController();
  const door = { isOpen: false };
  const ledger = new JobLedger({ store, domain, signer, clock, events });
  const openings = new OpeningLedger(store);
  const settlements = new SettlementLedger(store);
  const sender = createSender(chain, signer);
  const rule = config.settle;
  const settlement = new Settlement({
    ...{ chain, sender, ledger, openings, settlements, rule, clock, events },
  });
  const offers = await createOffers({
    ...{ config, domain, dispatcher, signer, store, clock, log },
    contracts: { registry, escrow, usdc },
    listing: () => chain.getNode(signer.address),
    tlsKeyHash: certificate?.keyHash ?? null,
  });
  const server = await createHttpServer({
    ...{ ...config.listen, certificate, log },
    maxBodyBytes: MAX_BODY_BYTES,
  });
  const intake = startIntake({
    ...{ chain, ledger, openings, clock, events },
    node: signer.address,
    rule: config.confirmations,
    pollMs: config.pollMs,
    onHead() {
      ledger.forgetOldOutput();
      void settlement.review();
    },
    onLook: () => light.review(),
    onNodeChanged: () =>
      void offers.refresh().catch((error: unknown) => events.emit(errorEvent(error, null))),
  });
  const light = createLight({
    ...{ offers, dispatcher, events },
    chainTrouble: intake.trouble,
    phase: () => (stopping.signal.aborted ? "stopping" : door.isOpen ? "serving" : "starting"),
  });
  const tell = (status: UpstreamStatus) => events.emit(upstreamEvent(status));
  dispatcher.snapshot().upstreams.forEach(tell);
  dispatcher.subscribe((change) => {
    if (change.type === "queue") events.emit({ type: "queueChanged", queued: change.queued });
    else tell(change.status);
    light.review();
  });
  const api = serveApi(server.app, {
    ...{ domain, ledger, offers, dispatcher, clock, log },
    hindrances: () => light.hindrances().map(({ code }) => code),
    async ensureFunded(jobId, terms, offer) {
      if (stopping.signal.aborted) throw stoppingError();
      return intake.ensureFunded(jobId, terms, offer);
    },
    findOpened: (jobId) => intake.findOpened(jobId),
    reviewJobs: () => settlement.review(),
  });
  const relay = new Relay({
    ...{ chain, sender, ledger, offers, settlement, clock, events },
    node: signer.address,
    relays: new RelayLedger(store),
    limits: createRelayLimits(config.relay),
    rule: config.relay,
    nativeUsdPrice: rule.nativeUsdPrice,
    poke: intake.poke,
  });
  const whileLive = <Args extends unknown[], Result>(act: (...args: Args) => Promise<Result>) => {
    return async (...args: Args) => {
      if (stopping.signal.aborted) throw stoppingError();
      return await act(...args);
    };
  };
  addRelayRoutes(server.app, {
    openJob: whileLive((opening) => relay.openJob(opening)),
    move: whileLive((move) => relay.move(move)),
  });
  return {
    ...{ dispatcher, light, ledger, settlements, settlement, offers, intake, relay, server, api, events },
    ...{ stopping, door },
  };
}

/** Charges what was released of requests that a crash cut off; those without any output may be sent again. */
async function endCutOff(ledger: JobLedger): Promise<void> {
  const reason = "the node was cut off";
  for (const { requestId, lastEventId } of ledger.runningRequests()) {
    if (lastEventId === 0) ledger.forgetRequest(requestId, reason);
    else await ledger.endWithoutUsage(requestId, reason);
  }
}

function snapshotOf(parts: Parts): Omit<ProviderSnapshot, "lastError" | "activity"> {
  const { offer } = parts.offers.current();
  const { upstreams, running, queued } = parts.dispatcher.snapshot();
  const hindrances = parts.light.hindrances().map(({ message }) => message);
  return {
    ...parts.settlements.totals(),
    node: offer.node,
    payee: offer.payee,
    endpoint: offer.endpoint,
    models: offer.models.map(({ name }) => name),
    live: hindrances.length === 0,
    hindrances,
    upstreams,
    activeStreams: running,
    queued,
    earnedOnChain: parts.settlement.earnedOnChain,
    offer,
    head: parts.intake.head() ?? null,
  };
}

async function stop({ config, log }: ProviderDependencies, parts: Parts): Promise<void> {
  parts.stopping.abort();
  parts.offers.stop();
  parts.dispatcher.stop(stoppingError());
  parts.light.review();
  await atMost(config.stopGraceSeconds * 1000, requestsEnd(parts));
  await parts.api.stop();
  await parts.server.stop(FAREWELL_MS);
  await atMost(DRAIN_MS, parts.settlement.drain());
  await end(parts);
  log.info({}, "the node has stopped");
}

async function end({ dispatcher, offers, server, intake, settlement }: Parts): Promise<void> {
  offers.stop();
  dispatcher.stop(stoppingError());
  settlement.stop();
  await server.stop(0);
  // A look at a chain that does not answer may take long to fail.
  await atMost(FAREWELL_MS, intake.stop());
}

/** Resolves when no request runs any more. */
function requestsEnd({ ledger, events }: Parts): Promise<void> {
  return new Promise((resolve) => {
    const look = () => {
      if (ledger.runningRequests().length > 0) return;
      unsubscribe();
      resolve();
    };
    const unsubscribe = events.subscribe((event) => {
      if (event.type === "streamEnded") look();
    });
    look();
  });
}

async function atMost(ms: number, work: Promise<void>): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, ms);
  await Promise.race([work, promise]).finally(() => clearTimeout(timer));
}

function stoppingError(): InfernetError {
  return new InfernetError("node-busy", "the node is stopping and takes no new requests", {
    hint: "Choose another node, or try again later.",
    data: { retryAfterSeconds: RETRY_AFTER_STOP_SECONDS },
  });
}

function upstreamEvent({ name, kind, state, reason, models, capacity }: UpstreamStatus): ProviderEvent {
  return { type: "upstreamChanged", name, kind, state, reason, models, capacity };
}

const QUIET_EVENTS: readonly ProviderEvent["type"][] = ["tokensReleased", "receiptAccepted", "queueChanged"];

/** What happens to money goes to the log; what happens to every token only when it is asked to tell all. */
function logEvents(events: EventHub, log: Log): void {
  events.subscribe((event) => {
    if (event.type === "error") {
      const { jobId: job, code, message } = event;
      log.warn({ ...(job ? { job } : {}), code }, message);
      return;
    }
    const { type, ...fields } = event;
    const { jobId: job, ...rest } = { jobId: undefined, ...fields };
    const line = { ...(job ? { job } : {}), ...rest };
    const isBad = ("state" in event && event.state === "down") || ("live" in event && !event.live);
    if (isBad) log.warn(line, type);
    else if (QUIET_EVENTS.includes(type)) log.debug(line, type);
    else log.info(line, type);
  });
}
