// Owns what a worker's view shows: the light, what is sold, what runs, what came of it, and what happened last.
import { formatUsdc } from "../../protocol/price.ts";
import type { ProviderSnapshot } from "../../provider/start.ts";
import { formatTable, printable, type Style } from "../output.ts";
import { formatPrice } from "../values.ts";
import { cellsOf, flow } from "./layout.ts";

/** Something that happened, as one line, at a time of day. */
export type Happening = { at: Date; text: string };

export type WorkerScene = {
  snapshot: ProviderSnapshot;
  /** Whether the worker was told to stop. */
  isStopping: boolean;
  /** Newest last. */
  happenings: readonly Happening[];
};

const INDENT = "  ";

/** The view's lines, for so many columns and rows: on a low screen the happenings go first. */
export function renderWorkerView(
  { snapshot, isStopping, happenings }: WorkerScene,
  { columns, rows }: { columns: number; rows: number },
  style: Style,
): string[] {
  const row = (...parts: string[]) => flow(parts, columns, { indent: INDENT });
  const head = [
    ...lightOf(snapshot, isStopping, columns, style),
    ...row(printable(snapshot.endpoint), style.dim(`node ${snapshot.node}`)),
    "",
  ];
  const figures = ["", ...work(snapshot, style).flatMap((parts) => row(...parts))];
  const last = ["", style.dim(isStopping ? "Ctrl-C again ends at once" : "Ctrl-C stops the worker")];
  const room = rows - head.length - figures.length - last.length;
  const models = modelLines(snapshot, columns, Math.max(1, room), style);
  const roomForEvents = room - models.length - 1;
  const events = roomForEvents > 0 ? happenings.slice(-roomForEvents) : [];
  return [
    ...head,
    ...models,
    ...figures,
    ...(events.length > 0 ? [""] : []),
    ...events.map(({ at, text }) => `${INDENT}${style.dim(timeOf(at))} ${text}`),
    ...last,
  ].slice(0, rows);
}

/** What the light shows, and why where it is not green. */
function lightOf(snapshot: ProviderSnapshot, isStopping: boolean, columns: number, style: Style): string[] {
  const [paint, text] = describeLight(snapshot, isStopping);
  const words = `${style[paint]("●")} ${printable(text)}`.split(" ");
  return flow(words, columns, { between: " " });
}

function describeLight(
  snapshot: ProviderSnapshot,
  isStopping: boolean,
): ["green" | "yellow" | "red", string] {
  const { live, hindrances, upstreams } = snapshot;
  if (isStopping) return ["yellow", `stopping: ${stopReason(snapshot)}`];
  if (!live) return ["red", `your node is not live: ${hindrances.join("; ")}`];
  const down = upstreams.filter(({ state }) => state === "down");
  if (down.length === 0) return ["green", "your node is live"];
  const reasons = down.map(({ name, reason }) => `${name} is down${reason ? ` (${reason})` : ""}`);
  return ["yellow", `your node is live, but ${reasons.join("; ")}`];
}

function stopReason({ activeStreams, jobs }: ProviderSnapshot): string {
  if (activeStreams > 0) return `waiting for ${count(activeStreams, "request")} to end`;
  if (jobs.settling > 0) return `settling ${count(jobs.settling, "job")} on the chain`;
  return "putting things in order";
}

function modelLines({ offer }: ProviderSnapshot, columns: number, room: number, style: Style): string[] {
  const rows = offer.models.map(({ name, inputPrice, outputPrice }) => [
    printable(name),
    formatPrice(inputPrice),
    formatPrice(outputPrice),
  ]);
  const heads = ["MODEL", "IN", "OUT"].map((head) => style.dim(head));
  const lines = formatTable([
    [...heads, style.dim("USDC per million tokens")],
    ...rows.map((row) => [...row, ""]),
  ])
    .split("\n")
    .map((line) => INDENT + line);
  // On a narrow screen prices matter more than the end of a long name.
  const isNarrow = lines.some((line, index) => index > 0 && cellsOf(line) > columns);
  const shown = isNarrow
    ? rows.flatMap(([name, input, output]) => [`${INDENT}${name}`, `${INDENT}${INDENT}${input} / ${output}`])
    : lines;
  if (shown.length <= room) return shown;
  return [
    ...shown.slice(0, Math.max(0, room - 1)),
    style.dim(`${INDENT}… ${count(rows.length, "model")} in all`),
  ];
}

/** What runs, what was served and what it came to: rows of parts. Nothing that is only hoped for. */
function work(snapshot: ProviderSnapshot, style: Style): string[][] {
  const { activity, activeStreams, queued, offer, upstreams } = snapshot;
  const { today, tokensPerSecond, utilisation } = activity;
  const label = (text: string) => style.dim(text);
  const busy = utilisation === null ? [] : [`slots ${Math.round(utilisation * 100)}% busy in the last hour`];
  return [
    [
      `${label("now")} ${activeStreams} of ${offer.capacity} running`,
      `${queued} queued`,
      `${formatRate(tokensPerSecond)} tokens/s`,
      ...busy,
    ],
    ...(upstreams.length > 1 ? [upstreams.map((one) => describeUpstream(one, label))] : []),
    [
      `${label("today")} ${count(today.requests, "request")}`,
      `${formatCount(today.promptTokens)} tokens in, ${formatCount(today.completionTokens)} out`,
    ],
    [
      `${label("USDC")} ${formatUsdc(snapshot.charged)} charged`,
      `${formatUsdc(snapshot.settled)} settled`,
      `${formatUsdc(snapshot.paidOut)} paid out`,
    ],
  ];
}

function describeUpstream(
  { name, state, running, capacity }: ProviderSnapshot["upstreams"][number],
  label: (text: string) => string,
): string {
  return `${label(printable(name))} ${state === "up" ? `${running} of ${capacity}` : "down"}`;
}

function count(number: number, noun: string): string {
  return `${formatCount(number)} ${noun}${number === 1 ? "" : "s"}`;
}

function formatCount(number: number): string {
  return number.toLocaleString("en-US");
}

function formatRate(tokens: number): string {
  return tokens >= 100 ? formatCount(Math.round(tokens)) : tokens.toFixed(1);
}

function timeOf(at: Date): string {
  return [at.getHours(), at.getMinutes(), at.getSeconds()]
    .map((part) => String(part).padStart(2, "0"))
    .join(":");
}
