// Owns the node's metrics as Prometheus reads them: counted from events, or read from the snapshot at each scrape.
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";
import type { Hex } from "../protocol/bytes.ts";
import { isErrorCode } from "../protocol/errors.ts";
import type { Clock } from "../runtime/clock.ts";
import type { EventHub, ProviderEvent } from "./events.ts";
import type { ProviderSnapshot } from "./start.ts";

/** Labels name models, upstreams, outcomes and codes: never jobs, requests, requesters, or anything that they sent. */
export type Metrics = {
  readonly contentType: string;
  /** Counts an answer that refused a request, by the code of its error. */
  countRefusal(code: string): void;
  /** All metrics as of now, as text. */
  render(): Promise<string>;
};

export type MetricsDependencies = {
  events: Pick<EventHub, "subscribe">;
  snapshot(): ProviderSnapshot;
  clock: Clock;
};

/** From a first token at once to one that a cold model takes a minute for. */
const FIRST_TOKEN_SECONDS = [0.05, 0.1, 0.2, 0.4, 0.8, 1.5, 3, 6, 12, 30, 60];
const DURATION_SECONDS = [0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600];
const BASE_UNITS = 1e6;

/** Metrics of one provider, in a registry of their own. */
export function createMetrics({ events, snapshot, clock }: MetricsDependencies): Metrics {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const refusals = new Counter({
    name: "infernet_refusals_total",
    help: "Requests that were refused, by the code of the error",
    labelNames: ["code"],
    registers: [registry],
  });
  countRequests(registry, events);
  countChainWork(registry, events);
  const setGauges = createGauges(registry);
  return {
    contentType: registry.contentType,
    countRefusal: (code) => refusals.inc({ code: isErrorCode(code) ? code : "bug" }),
    render() {
      setGauges(snapshot(), clock.nowSeconds());
      return registry.metrics();
    },
  };
}

type Running = { model: string; startedMs: number; completionTokens: number };

/** Requests and their tokens, as they happen. */
function countRequests(registry: Registry, events: MetricsDependencies["events"]): void {
  const registers = [registry];
  const requests = new Counter({
    name: "infernet_requests_total",
    help: "Requests that ended, by what became of them: done, or the code of an error",
    labelNames: ["model", "outcome"],
    registers,
  });
  const counter = (name: string, help: string) =>
    new Counter({ name, help, labelNames: ["model"], registers });
  const prompt = counter(
    "infernet_prompt_tokens_total",
    "Prompt tokens that ended requests were charged for",
  );
  const completion = counter(
    "infernet_completion_tokens_total",
    "Completion tokens that ended requests were charged for",
  );
  const released = counter("infernet_released_tokens_total", "Completion tokens that left, as they leave");
  const histogram = (name: string, help: string, buckets: number[]) =>
    new Histogram({ name, help, buckets, labelNames: ["model"], registers });
  const firstToken = histogram(
    "infernet_time_to_first_token_seconds",
    "From a request's admission to its first token; an unstreamed answer's tokens leave all at its end",
    FIRST_TOKEN_SECONDS,
  );
  const duration = histogram(
    "infernet_request_duration_seconds",
    "From a request's admission to its end",
    DURATION_SECONDS,
  );
  const running = new Map<Hex, Running>();
  const take = (event: ProviderEvent): void => {
    if (event.type === "streamStarted") {
      const { requestId, model } = event;
      running.set(requestId, { model, startedMs: performance.now(), completionTokens: 0 });
      return;
    }
    if (event.type !== "tokensReleased" && event.type !== "streamEnded") return;
    const known = running.get(event.requestId);
    if (!known) return;
    const { model, startedMs, completionTokens } = known;
    const passedSeconds = (performance.now() - startedMs) / 1000;
    if (event.type === "streamEnded") {
      running.delete(event.requestId);
      requests.inc({ model, outcome: outcomeOf(event.reason) });
      prompt.inc({ model }, event.counts.promptTokens);
      completion.inc({ model }, event.counts.completionTokens);
      duration.observe({ model }, passedSeconds);
      return;
    }
    known.completionTokens = Math.max(completionTokens, event.completionTokens);
    released.inc({ model }, known.completionTokens - completionTokens);
    if (completionTokens === 0 && known.completionTokens > 0) firstToken.observe({ model }, passedSeconds);
  };
  events.subscribe(take);
}

/** Receipts, errors and gas, as they happen. */
function countChainWork(registry: Registry, events: MetricsDependencies["events"]): void {
  const counter = (name: string, help: string, labelNames: string[] = []) =>
    new Counter({ name, help, labelNames, registers: [registry] });
  const receipts = counter("infernet_receipts_total", "Receipts that raised a job's mark");
  const errors = counter("infernet_errors_total", "What failed outside of requests, by code", ["code"]);
  const gas = counter("infernet_gas_used_total", "Gas of this node's mined transactions", ["action"]);
  events.subscribe((event) => {
    if (event.type === "receiptAccepted") receipts.inc();
    if (event.type === "error") errors.inc({ code: isErrorCode(event.code) ? event.code : "bug" });
    // A batch's gas is told with each job of it.
    if (event.type === "claimed") gas.inc({ action: "claim" }, Number(event.gasUsed) / event.jobs);
    if (event.type === "settled" && event.tx)
      gas.inc({ action: "settle" }, Number(event.gasUsed) / event.jobs);
    if (event.type === "paidOut") gas.inc({ action: "payOut" }, Number(event.gasUsed));
    if (event.type === "relayed") gas.inc({ action: `relay-${event.kind}` }, Number(event.gasUsed));
  });
}

/** What a snapshot tells; the returned function brings all of it up to date. */
function createGauges(registry: Registry): (snapshot: ProviderSnapshot, nowSeconds: number) => void {
  const gauge = (name: string, help: string, ...labelNames: string[]) =>
    new Gauge({ name: `infernet_${name}`, help, labelNames, registers: [registry] });
  /** A sum that only grows and that somebody else keeps. */
  const sum = (name: string, help: string) => {
    const counter = new Counter({ name: `infernet_${name}_total`, help, registers: [registry] });
    return (value: number) => {
      counter.reset();
      counter.inc(value);
    };
  };
  const live = gauge("live", "1 while the node can sell: its light is green");
  const running = gauge("requests_running", "Requests that run now");
  const queued = gauge("requests_queued", "Requests that wait for a free upstream");
  const slots = gauge("slots", "Requests that can run at the same time");
  const upstreamUp = gauge("upstream_up", "1 while the upstream answers", "upstream", "kind");
  const upstreamRunning = gauge(
    "upstream_requests_running",
    "Requests that the upstream runs",
    "upstream",
    "kind",
  );
  const upstreamSlots = gauge("upstream_slots", "Requests that the upstream may run", "upstream", "kind");
  const tokenRate = gauge("tokens_per_second", "Completion tokens that leave, over ten seconds");
  const earned = gauge("earned_usdc", "USDC in the Escrow for the payee, as last read");
  const jobs = gauge("jobs", "Jobs in the ledger", "state");
  const offerAge = gauge("offer_age_seconds", "Since the current offer was signed");
  const offerLeft = gauge("offer_remaining_seconds", "Until the current offer expires");
  const head = gauge("chain_head_block", "Number of the newest block that was read");
  const headLag = gauge("chain_head_lag_seconds", "Age of the newest block that was read");
  const busySeconds = sum("busy_slot_seconds", "Seconds that requests held slots");
  const slotSeconds = sum("slot_seconds", "Seconds that slots were there; busy by this is the utilisation");
  const charged = sum("charged_usdc", "USDC that requests were charged, since the ledger began");
  const settled = sum("settled_usdc", "USDC of jobs that the chain closed for good");
  const paidOut = sum("paid_out_usdc", "USDC that this node's transactions sent to the payee");
  return (snapshot, nowSeconds) => {
    const { activity, offer } = snapshot;
    live.set(snapshot.live ? 1 : 0);
    running.set(snapshot.activeStreams);
    queued.set(snapshot.queued);
    slots.set(offer.capacity);
    for (const { name, kind, state, running, capacity } of snapshot.upstreams) {
      const labels = { upstream: name, kind };
      upstreamUp.set(labels, state === "up" ? 1 : 0);
      upstreamRunning.set(labels, running);
      upstreamSlots.set(labels, capacity);
    }
    tokenRate.set(activity.tokensPerSecond);
    earned.set(Number(snapshot.earnedOnChain) / BASE_UNITS);
    for (const [state, count] of Object.entries(snapshot.jobs)) jobs.set({ state }, count);
    offerAge.set(nowSeconds - offer.issuedAt);
    offerLeft.set(offer.expires - nowSeconds);
    if (snapshot.head) {
      head.set(snapshot.head.number);
      headLag.set(Math.max(0, nowSeconds - snapshot.head.timestamp));
    }
    busySeconds(activity.busySlotSeconds);
    slotSeconds(activity.slotSeconds);
    charged(Number(snapshot.charged) / BASE_UNITS);
    settled(Number(snapshot.settled) / BASE_UNITS);
    paidOut(Number(snapshot.paidOut) / BASE_UNITS);
  };
}

/** Ledger reasons are `done` or an error's code; what a crash cut off has a sentence. */
function outcomeOf(reason: string): string {
  return reason === "done" || isErrorCode(reason) ? reason : "interrupted";
}
