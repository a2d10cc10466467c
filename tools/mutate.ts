// Owns `npm run mutate`: how many of the mutants of the contracts the tests kill; writes docs/mutation/mutants.tsv.
import { createHash } from "node:crypto";
import { appendFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { type Bytecode, compileContracts } from "./mutation/compiler.ts";
import { huntByInvariants } from "./mutation/invariants.ts";
import { drawMutants, MUTATED, type Mutant } from "./mutation/mutants.ts";
import { loadSuite } from "./mutation/suites.ts";

const SEED = "infernet";
const TARGET = 0.95;
// A journal serves one text of the contracts only.
const JOURNAL = `cache/mutation/journal-${hashOf(MUTATED.map((file) => readFileSync(file, "utf8")).join())}.jsonl`;
const LIST = "docs/mutation/mutants.tsv";

/** What became of a mutant. Those the compiler refuses or cannot tell from another are no mutants at all. */
type Verdict =
  | "invalid"
  | "redundant"
  | "killed"
  | "killed by invariants"
  | "same optimized code"
  | "survived";
type Result = { id: string; verdict: Verdict; code?: string; killer?: string };

const count = Number(process.argv[2] ?? 600);
const original = compileContracts()!;
let optimizedOriginal: Bytecode | undefined;
const suites = { Escrow: await loadSuite("Escrow"), Registry: await loadSuite("Registry") };
await checkOriginal();

const known = readJournal();
const seen = new Set(Object.values(original).map(hashOf));
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
  entry.result = remember({ ...entry.result, ...huntLonger(entry.mutant) });
}
writeList();
process.exitCode = printScore() >= TARGET ? 0 : 1;

async function judge(mutant: Mutant): Promise<Result> {
  const { id, file, source } = mutant;
  const before = known.get(id);
  if (before?.verdict === "invalid") return before;
  if (before?.code && !seen.has(before.code)) {
    seen.add(before.code);
    if (before.verdict !== "survived") return before;
  }
  const bytecode = compileContracts(file, source);
  if (!bytecode) return remember({ id, verdict: "invalid" });
  const name = contractOf(mutant);
  const code = hashOf(bytecode[name]);
  if (seen.has(code) && before?.code !== code) return { id, verdict: "redundant" };
  seen.add(code);
  const killer = await suites[name](bytecode[name]);
  if (killer === undefined) return remember({ id, verdict: "survived", code });
  return remember({ id, verdict: "killed", code, killer });
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

function remember(result: Result): Result {
  appendFileSync(JOURNAL, `${JSON.stringify(result)}\n`);
  return result;
}

function hashOf(text: string): string {
  return createHash("sha256").update(text).digest("hex").slice(0, 16);
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
  return new Map(results.map((result) => [result.id, result]));
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
