// Owns `npm run bench`: what the way through a node adds to the model server alone, as ratios from one run.
import type { Sample } from "./asking.ts";
import { processorMs } from "./processor-time.ts";
import { openScene, type Scene } from "./scene.ts";

const STREAM_COUNTS = [1, 16];
const TOKENS = 200;
/** Requests of the processor's measurement: short, so that what each costs by itself shows. */
const SHORT = { streams: 4, requests: 400, tokens: 8 };

/** Medians over the rounds; the ratios are medians of the rounds' own ratios to the first target of the same round. */
type Row = {
  target: string;
  streams: number;
  firstTokenMs: number;
  firstTokenRatio: number;
  addedFirstTokenMs: number;
  tokensPerSecond: number;
  tokensPerSecondRatio: number;
};

const flags = process.argv.slice(2);
const rounds = Number(flags.find((flag) => /^--rounds=[1-9]\d*$/.test(flag))?.slice("--rounds=".length) ?? 5);
const isJson = flags.includes("--json");

const scene = await openScene(process.env.BENCH_NODE_OPTIONS);
try {
  const rows: Row[] = [];
  for (const streams of STREAM_COUNTS) rows.push(...(await measureStreams(scene, streams)));
  const requestMs = await measureRequests(scene);
  if (isJson)
    process.stdout.write(
      `${JSON.stringify({ rounds, tokens: TOKENS, rows, nodeCpuMsPerRequest: requestMs })}\n`,
    );
  else print(rows, requestMs);
} finally {
  await scene.close();
}

/** Every round asks all targets, each time in another order, so that what disturbs the machine disturbs all of them. */
async function measureStreams({ targets, ask }: Scene, streams: number): Promise<Row[]> {
  const load = { streams, requests: streams, tokens: TOKENS };
  for (const target of targets) await ask(target, load);
  const taken = new Map(targets.map((target) => [target, [] as Sample[]]));
  for (let round = 0; round < rounds; round++) {
    for (const index of targets.keys()) {
      const target = targets[(index + round) % targets.length]!;
      taken.get(target)!.push(medianSample(await ask(target, load)));
    }
  }
  const base = taken.get(targets[0]!)!;
  return targets.map((target) => {
    const own = taken.get(target)!;
    const over = (measure: (one: Sample, alone: Sample) => number) =>
      median(own.map((sample, round) => measure(sample, base[round]!)));
    return {
      ...{ target, streams },
      firstTokenMs: over((one) => one.firstTokenMs),
      firstTokenRatio: over((one, alone) => one.firstTokenMs / alone.firstTokenMs),
      addedFirstTokenMs: over((one, alone) => one.firstTokenMs - alone.firstTokenMs),
      tokensPerSecond: over((one) => one.tokensPerSecond),
      tokensPerSecondRatio: over((one, alone) => one.tokensPerSecond / alone.tokensPerSecond),
    };
  });
}

/** Milliseconds of the node's processor time that one short paid request takes. */
async function measureRequests({ ask, nodePid }: Scene): Promise<number | undefined> {
  const before = processorMs(nodePid);
  await ask("node", SHORT);
  const after = processorMs(nodePid);
  return before === undefined || after === undefined ? undefined : (after - before) / SHORT.requests;
}

function medianSample(samples: readonly Sample[]): Sample {
  return {
    firstTokenMs: median(samples.map(({ firstTokenMs }) => firstTokenMs)),
    tokensPerSecond: median(samples.map(({ tokensPerSecond }) => tokensPerSecond)),
  };
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((one, other) => one - other);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

function print(rows: readonly Row[], requestMs: number | undefined): void {
  const table = rows.map((row) => ({
    "": `${row.target}, ${row.streams} at once`,
    "first token ms": row.firstTokenMs.toFixed(1),
    added: row.addedFirstTokenMs.toFixed(1),
    ratio: row.firstTokenRatio.toFixed(3),
    "tokens/s": row.tokensPerSecond.toFixed(1),
    "ratio ": row.tokensPerSecondRatio.toFixed(4),
  }));
  console.log(
    `Medians of ${rounds} rounds, ${TOKENS} tokens an answer; ratios to the model server alone, in the same round.`,
  );
  console.table(Object.fromEntries(table.map(({ "": name, ...figures }) => [name, figures])));
  if (requestMs === undefined) return;
  console.log(
    `Processor time of the node for a paid request of ${SHORT.tokens} tokens: ${requestMs.toFixed(1)} ms`,
  );
}
