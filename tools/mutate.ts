// Owns `npm run mutate`: how many of the mutants of the contracts the tests kill; writes docs/mutation/mutants.tsv.
import { appendFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { type Bytecode, compileContracts } from "./mutation/compiler.ts";
import { huntByInvariants } from "./mutation/invariants.ts";
import { drawMutants, type Mutant } from "./mutation/mutants.ts";
import { loadSuite } from "./mutation/suites.ts";

const SEED = "infernet";
const TARGET = 0.95;
const JOURNAL = "cache/mutation/journal.jsonl";
const LIST = "docs/mutation/mutants.tsv";

/** What became of a mutant. Those the compiler refuses or cannot tell from another are no mutants at all. */
type Verdict =
  | "invalid"
  | "redundant"
  | "killed"
  | "killed by invariants"
  | "same optimized code"
  | "survived";
type Result = { id: string; verdict: Verdict; killer?: string };

const count = Number(process.argv[2] ?? 600);
const original = compileContracts()!;
let optimizedOriginal: Bytecode | undefined;
const suites = { Escrow: await loadSuite("Escrow"), Registry: await loadSuite("Registry") };
await checkOriginal();

const known = readJournal();
const seen = new Set(Object.values(original));
const judged: { mutant: Mutant; result: Result }[] = [];
for (const mutant of drawMutants(SEED)) {
  if (judged.length >= count) break;
  const result = await judge(mutant);
  if (result.verdict === "invalid" || result.verdict === "redundant") continue;
  judged.push({ mutant, result });
  if (judged.length % 50 === 0) printScore();
}
// The slow hunt comes last, so that an interrupted run has judged as many as it could.
if (huntByInvariants() !== undefined) throw new Error("an invariant fails on the contracts as they are");
for (const entry of judged.filter(({ result }) => result.verdict === "survived")) {
  entry.result = huntLonger(entry.mutant);
  remember(entry.result);
}
writeList();
process.exitCode = printScore() >= TARGET ? 0 : 1;

async function judge(mutant: Mutant): Promise<Result> {
  const { id, file, source } = mutant;
  const bytecode = compileContracts(file, source);
  if (!bytecode) return { id, verdict: "invalid" };
  const name = contractOf(mutant);
  if (seen.has(bytecode[name])) return { id, verdict: "redundant" };
  seen.add(bytecode[name]);
  const before = known.get(id);
  if (before) return before;
  const killer = await suites[name](bytecode[name]);
  const result: Result =
    killer === undefined ? { id, verdict: "survived" } : { id, verdict: "killed", killer };
  remember(result);
  return result;
}

function huntLonger(mutant: Mutant): Result {
  const { id, file, line, before, after } = mutant;
  const name = contractOf(mutant);
  const optimized = compileContracts(file, mutant.source, { optimized: true })?.[name];
  optimizedOriginal ??= compileContracts(undefined, undefined, { optimized: true })!;
  if (optimized === optimizedOriginal[name]) return { id, verdict: "same optimized code" };
  const killer = huntByInvariants(mutant);
  if (killer !== undefined) return { id, verdict: "killed by invariants", killer };
  console.log(`survived: ${file}:${line}  ${before}  ->  ${after}`);
  return { id, verdict: "survived" };
}

function remember(result: Result): void {
  appendFileSync(JOURNAL, `${JSON.stringify(result)}\n`);
}

function contractOf(mutant: Mutant): keyof Bytecode {
  return mutant.file === "contracts/Registry.sol" ? "Registry" : "Escrow";
}

/** A test that fails without a mutation would kill them all. */
async function checkOriginal(): Promise<void> {
  for (const name of ["Escrow", "Registry"] as const) {
    const failed = await suites[name](original[name]);
    if (failed !== undefined) throw new Error(`fails on the contracts as they are: ${failed}`);
  }
}

/** Verdicts of earlier runs on these contracts: what was killed stays so, what survived is hunted again. */
function readJournal(): Map<string, Result> {
  mkdirSync("cache/mutation", { recursive: true });
  const lines = existsSync(JOURNAL) ? readFileSync(JOURNAL, "utf8").trim().split("\n") : [];
  const results = lines.filter(Boolean).map((line) => JSON.parse(line) as Result);
  return new Map(
    results.filter(({ verdict }) => verdict !== "survived").map((result) => [result.id, result]),
  );
}

function printScore(): number {
  const of = (verdict: Verdict) => judged.filter(({ result }) => result.verdict === verdict).length;
  const killed = of("killed") + of("killed by invariants");
  const share = killed / (killed + of("survived"));
  console.log(
    `${judged.length} mutants: ${of("killed")} killed by unit tests, ${of("killed by invariants")} by invariants, ` +
      `${of("survived")} survived, ${of("same optimized code")} equal: ${(share * 100).toFixed(1)} %`,
  );
  return share;
}

function writeList(): void {
  const rows = judged.map(({ mutant: { id, file, line, before, after }, result: { verdict, killer } }) =>
    [id, `${file}:${line}`, verdict, before, after, killer ?? ""].join("\t"),
  );
  mkdirSync("docs/mutation", { recursive: true });
  writeFileSync(
    LIST,
    `${["mutant", "line", "verdict", "before", "after", "killed by"].join("\t")}\n${rows.join("\n")}\n`,
  );
}
