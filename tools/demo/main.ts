// Owns `npm start`: one real inference sold and bought on this machine, told as it happens.
import { Command, Option } from "commander";
import { InfernetError } from "../../protocol/errors.ts";
import { formatUsdc } from "../../protocol/price.ts";
import { type GatewayBill, openGateway } from "./gateway.ts";
import { type Bill, type Market, type MarketOptions, openMarket } from "./market.ts";
import { fetchDemoModel } from "./model.ts";
import { Processes } from "./processes.ts";

type Options = {
  json?: boolean;
  keep?: boolean;
  gateway?: boolean;
  upstream: "embedded" | "ollama";
  upstreamUrl?: string;
  model?: string;
  modelFile?: string;
  maxTokens: string;
};

const QUESTION = "What is the capital of France?";

const program = new Command("npm start --")
  .description(
    "Sells and buys one real inference on this machine: chain, contracts, node, job, answer, settlement.",
  )
  .argument("[prompt]", "what to ask the model", QUESTION)
  .option("--json", "one summary on stdout (npm start --silent -- --json)")
  .option("--keep", "leave everything running and say what to try; Ctrl-C ends it")
  .option("--gateway", "buy through the gateway, with OpenAI's own client")
  .addOption(
    new Option("--upstream <kind>", "what runs the model")
      .choices(["embedded", "ollama"])
      .default("embedded"),
  )
  .option("--upstream-url <url>", "where the Ollama is")
  .option("--model <name>", "the model of the Ollama, or the name that --model-file is sold under")
  .option("--model-file <path>", "another GGUF file than the demonstration model")
  .option("--max-tokens <count>", "most tokens of the answer", "64")
  .addHelpText(
    "after",
    '\nExample:\n  npm start -- "Name three rivers of Europe"\n  npm start -- --gateway --keep',
  );

await program.parseAsync();
const [prompt = QUESTION] = program.args;
const options = program.opts<Options>();
const tell = (line: string) => process.stderr.write(`${line}\n`);
const processes = new Processes({ ...process.env, HARDHAT_DISABLE_TELEMETRY: "true" });
const interrupted = new AbortController();
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.on(signal, () => {
    if (interrupted.signal.aborted) process.exit(130);
    interrupted.abort();
    tell("\nEnding what was started");
    void processes.stopAll();
  });
}

const ending = new AsyncDisposableStack();
try {
  const market = await openMarket(processes, ending, await marketOptions(), tell);
  const summary = options.gateway ? await buyThroughGateway(market) : await buyOneJob(market);
  if (options.json) process.stdout.write(`${JSON.stringify(summary)}\n`);
} catch (error) {
  process.exitCode = interrupted.signal.aborted ? 130 : fail(error);
} finally {
  await ending.disposeAsync();
}

async function marketOptions(): Promise<MarketOptions> {
  const { upstream, upstreamUrl, model, modelFile } = options;
  if (upstream === "ollama") {
    if (!model)
      throw new InfernetError("bad-request", "--upstream ollama needs a model", {
        hint: "Add --model NAME.",
      });
    return {
      model,
      upstream: ["--upstream", "ollama", ...(upstreamUrl ? ["--upstream-url", upstreamUrl] : [])],
    };
  }
  const file = modelFile ?? (await fetchDemoModel(tell));
  const name = model ?? (modelFile ? "my-model" : "smollm2-135m-instruct");
  return { model: name, upstream: ["--upstream", "embedded", "--model-file", file, "--model-name", name] };
}

/** The trip of one job, from the command line to the balances of both sides. */
async function buyOneJob(open: Market): Promise<object> {
  const bill = await buy(open);
  if (options.keep) await keep(open);
  else await open.stopWorker();
  const after = await open.balances();
  tellBalances(open, after);
  return summaryOf(open, bill, after);
}

/** The same through the gateway: the answer, then the bill as both sides have it. */
async function buyThroughGateway(open: Market): Promise<object> {
  const gateway = await openGateway(processes, open);
  tell(`Gateway     ${gateway.baseUrl}`);
  tell(`\nAsking ${open.model} with OpenAI's client: ${prompt}\n`);
  const asked = await gateway.ask(prompt, Number(options.maxTokens), (text) => {
    if (!options.json) process.stdout.write(text);
  });
  if (!options.json) process.stdout.write("\n");
  if (options.keep) await keep(open, gateway.baseUrl);
  // Ctrl-C has ended the gateway with the rest.
  if (interrupted.signal.aborted) return asked;
  const bill = { ...asked, ...(await gateway.settle()) };
  tellGatewayBill(bill);
  await open.stopWorker();
  const after = await open.balances();
  tellBalances(open, after);
  const { before, node, upstream } = open.facts();
  return {
    ...{ node, model: open.model, upstream, ...bill },
    requesterPaid: formatUsdc(before.requester - after.requester),
    payeeReceived: formatUsdc(after.payee - before.payee),
  };
}

function tellGatewayBill({ served, jobId, ...bill }: GatewayBill): void {
  tell(
    `\n  buyer       ${served.promptTokens} in, ${served.completionTokens} out, for ${served.chargeUsdc} USDC`,
  );
  tell(
    `  seller      charged ${bill.jobChargeUsdc} USDC, claimed ${bill.claimedUsdc}, gave back ${bill.returnedUsdc}`,
  );
  tell(`  session     ${jobId}, settled ${bill.settleTx}`);
}

async function buy(open: Market): Promise<Bill> {
  tell(`\nAsking ${open.model}: ${prompt}\n`);
  const bill = await open.submit(prompt, options.maxTokens, {
    json: options.json === true,
    onAnswer: (text) => process.stdout.write(text),
    onProgress: (line) => tell(`  ${line}`),
  });
  const { promptTokens, completionTokens, chargeUsdc, gas } = bill;
  tell(`\n  job         ${bill.jobId}`);
  tell(`  opened      ${bill.openTx}  ${gas.open} gas`);
  tell(`  tokens      ${promptTokens} in, ${completionTokens} out, for ${chargeUsdc} USDC`);
  tell(`  receipts    ${bill.receipts} signed, up to ${bill.signedUsdc} USDC`);
  tell(`  settled     ${bill.settleTx}  ${gas.settle} gas`);
  return bill;
}

async function keep({ environment, home, model }: Market, baseUrl?: string): Promise<void> {
  tell("\nEverything stays up. In a second terminal, in this folder:\n");
  if (baseUrl !== undefined) {
    tell(`  export OPENAI_BASE_URL=${baseUrl}\n  export OPENAI_API_KEY=none`);
    tell(`  npx infernet gateway status --port ${new URL(baseUrl).port}`);
  }
  for (const [name, value] of Object.entries({ ...environment, INFERNET_HOME: home.requester })) {
    tell(`  export ${name}='${value}'`);
  }
  tell("  npx infernet nodes");
  tell(`  npx infernet job submit --model ${model} --prompt "Tell me a joke"`);
  tell("  npx infernet wallet balance\n\nCtrl-C ends it.");
  await new Promise((resolve) => interrupted.signal.addEventListener("abort", resolve, { once: true }));
}

function tellBalances(open: Market, after: Awaited<ReturnType<Market["balances"]>>): void {
  const { before, payOut } = open.facts();
  if (payOut) tell(`  paid out    ${payOut.tx}  ${payOut.gasUsed} gas`);
  tell(`\n  requester   ${formatUsdc(before.requester)} -> ${formatUsdc(after.requester)} USDC`);
  tell(`  payee       ${formatUsdc(before.payee)} -> ${formatUsdc(after.payee)} USDC`);
}

function summaryOf(open: Market, bill: Bill, after: Awaited<ReturnType<Market["balances"]>>): object {
  const { before, payOut, node, upstream } = open.facts();
  const { jobId, promptTokens, completionTokens, chargeUsdc, gas, firstTokenMs, answer } = bill;
  return {
    ...{ jobId, node, model: open.model, upstream, promptTokens, completionTokens, chargeUsdc },
    requesterPaid: formatUsdc(before.requester - after.requester),
    payeeReceived: formatUsdc(after.payee - before.payee),
    gas: { ...gas, payOut: payOut?.gasUsed ?? null },
    ...{ firstTokenMs, answer },
  };
}

function fail(error: unknown): number {
  const known = error instanceof InfernetError;
  tell(`error: ${known || error instanceof Error ? error.message : String(error)}`);
  if (known && error.hint) tell(`hint: ${error.hint}`);
  return known ? error.exitCode : 1;
}
