// Owns the market of the trip: a chain, the contracts, a funded requester and a live node, each a process of its own.
import { randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { type Chain, openChain } from "../../chain/chain.ts";
import { type Address, type Hex, toHex } from "../../protocol/bytes.ts";
import { formatUsdc } from "../../protocol/price.ts";
import { freePort, type Processes } from "./processes.ts";

export type MarketOptions = { model: string; upstream: readonly string[] };
export type Balances = { requester: bigint; payee: bigint };

/** What one purchase came to; amounts as texts of USDC. */
export type Bill = {
  jobId: Hex;
  promptTokens: number;
  completionTokens: number;
  chargeUsdc: string;
  signedUsdc: string;
  receipts: number;
  openTx: Hex;
  settleTx: Hex;
  gas: { open: number; settle: number };
  firstTokenMs: number;
  answer: string;
};

type WorkerEvent = { event: string; jobId?: Hex; tx?: Hex; gasUsed?: number } & Record<string, unknown>;
type SubmitOptions = { json: boolean; onAnswer(text: string): void; onProgress(line: string): void };

const ROOT = resolve(import.meta.dirname, "..", "..");
/** How the trip runs infernet: the built bundle. */
export const CLI = [process.execPath, join(ROOT, "dist", "infernet.js")];
/** Hardhat's tool, run by this Node whatever else is in PATH. */
const HARDHAT = [process.execPath, join(ROOT, "node_modules", "hardhat", "dist", "src", "cli.js")];
const PRICES = "0.10:0.40";
const ALLOWANCE = 10_000_000n;
const ETHER: Hex = "0xde0b6b3a7640000";

export type Market = Awaited<ReturnType<typeof openMarket>>;

/** Starts everything in order and tells each step; `ending` ends it and removes its files, also after a failure. */
export async function openMarket(
  processes: Processes,
  ending: AsyncDisposableStack,
  options: MarketOptions,
  tell: (line: string) => void,
) {
  const folder = await mkdtemp(join(tmpdir(), "infernet-trip-"));
  const home = { requester: join(folder, "requester"), provider: join(folder, "provider") };
  const deploymentId = `trip-${process.pid}`;
  const deploymentFolder = join(ROOT, "ignition", "deployments", deploymentId);
  for (const path of [folder, deploymentFolder])
    ending.defer(() => rm(path, { recursive: true, force: true }));
  ending.defer(() => processes.stopAll());
  const rpcUrl = `http://127.0.0.1:${await freePort()}`;
  const environment = {
    INFERNET_RPC_URL: rpcUrl,
    INFERNET_DEPLOYMENT_FOLDER: deploymentFolder,
    INFERNET_PASSPHRASE: randomBytes(16).toString("hex"),
  };
  const infernet = async (who: keyof typeof home, ...words: string[]) => {
    const env = { ...environment, INFERNET_HOME: home[who] };
    return JSON.parse(await processes.run(`infernet ${words[0]}`, [...CLI, ...words, "--json"], { env }));
  };

  await startChain(processes, rpcUrl);
  tell(`Chain       ${rpcUrl} (Hardhat, local)`);
  const deploy = ["ignition", "deploy", "ignition/modules/Infernet.ts", "--network", "localhost"];
  // Both profiles have the same settings; this one is compiled already.
  deploy.push("--build-profile", "default");
  await processes.run("ignition deploy", [...HARDHAT, ...deploy, "--deployment-id", deploymentId], {
    cwd: ROOT,
    env: environment,
  });
  const chain = await openChain({ rpcUrl, sources: { ignitionFolder: deploymentFolder } });
  ending.defer(() => chain.close());
  const { deployment } = chain;
  tell(`Contracts   Registry ${deployment.registry}, Escrow ${deployment.escrow}`);

  const payee = toHex(randomBytes(20));
  const { address: requester } = await infernet("requester", "wallet", "create");
  await rpc(rpcUrl, "hardhat_setBalance", [requester, ETHER]);
  await mintUsdc(chain, rpcUrl, requester);
  tell(`Requester   ${requester} with ${formatUsdc(ALLOWANCE)} USDC`);

  const { address: node } = await infernet("provider", "node", "create");
  await rpc(rpcUrl, "hardhat_setBalance", [node, ETHER]);
  const endpoint = `https://127.0.0.1:${await freePort()}`;
  const listing = ["--payee", payee, "--endpoint", endpoint, "--model", `${options.model}=${PRICES}`];
  await infernet("provider", "register", ...listing, ...options.upstream);
  tell(`Registered  node ${node}, payee ${payee}, ${options.model} at ${PRICES} USDC per million tokens`);

  const events = createEventBook();
  await processes.start(
    "infernet worker",
    [...CLI, "worker", "--json", "--log-level", "error", ...options.upstream],
    (line) => (events.add(line)?.event === "live" ? true : undefined),
    { env: { ...environment, INFERNET_HOME: home.provider }, graceMs: 30_000 },
  );
  tell(`Live        ${endpoint}`);

  const balances = async (): Promise<Balances> => ({
    requester: (await chain.getUsdc(requester)) + (await chain.getCredit(requester)),
    payee: (await chain.getUsdc(payee)) + (await chain.getEarned(payee)),
  });
  const before = await balances();

  return {
    model: options.model,
    environment,
    home,
    balances,
    facts: () => ({
      before,
      node: node as Address,
      upstream: options.upstream[1],
      payOut: events.find("paidOut"),
    }),

    /** Buys one answer at temperature 0 and waits for its settlement. */
    async submit(prompt: string, maxTokens: string, how: SubmitOptions): Promise<Bill> {
      const words = [
        "job",
        "submit",
        "--model",
        options.model,
        "--prompt",
        prompt,
        "--max-tokens",
        maxTokens,
      ];
      const command = [...CLI, ...words, "--temperature", "0", "--seed", "1", "--wait"];
      const env = { ...environment, INFERNET_HOME: home.requester };
      let answer = "";
      let firstTokenMs = 0;
      const started = performance.now();
      await processes.run("infernet job submit", command, {
        env,
        onErrorLine: how.onProgress,
        onText(text) {
          if (answer === "") firstTokenMs = Math.round(performance.now() - started);
          answer += text;
          if (!how.json) how.onAnswer(text);
        },
      });
      const [job] = (await infernet("requester", "job", "list")).jobs;
      const settled = await events.wait("settled", job.jobId);
      return {
        ...{ jobId: job.jobId, openTx: job.openTx, settleTx: settled.tx!, chargeUsdc: job.chargeUsdc },
        ...{ promptTokens: job.delivery.promptTokens, completionTokens: job.delivery.completionTokens },
        ...{ signedUsdc: job.signedUsdc, receipts: events.count("receiptAccepted", job.jobId) },
        gas: { open: await gasOf(rpcUrl, job.openTx), settle: settled.gasUsed! },
        firstTokenMs,
        answer: answer.trim(),
      };
    },

    /** What the node told last of a job's end of stream, and of its settlement once that is there. */
    async soldOf(jobId: Hex) {
      const settled = await events.wait("settled", jobId);
      return { streamed: events.find("streamEnded", jobId)!, settled };
    },

    /** Ends the node as its owner would: what it has earned is paid out first. */
    stopWorker: () => processes.stop("infernet worker"),
  };
}

async function startChain(processes: Processes, rpcUrl: string): Promise<void> {
  const { port } = new URL(rpcUrl);
  await processes.start(
    "chain",
    [...HARDHAT, "node", "--hostname", "127.0.0.1", "--port", port],
    (line) => (line.includes("Started HTTP and WebSocket JSON-RPC server") ? true : undefined),
    { cwd: ROOT },
  );
}

/** What the worker told, one JSON line after another. */
function createEventBook() {
  const told: WorkerEvent[] = [];
  const waiting = new Set<() => void>();
  const find = (name: string, jobId?: Hex) =>
    told.find((event) => event.event === name && (jobId === undefined || event.jobId === jobId));
  return {
    find,
    count: (name: string, jobId: Hex) =>
      told.filter((event) => event.event === name && event.jobId === jobId).length,
    add(line: string): WorkerEvent | undefined {
      if (!line.startsWith("{")) return undefined;
      const event = JSON.parse(line) as WorkerEvent;
      told.push(event);
      for (const wake of waiting) wake();
      return event;
    },
    async wait(name: string, jobId: Hex): Promise<WorkerEvent> {
      for (;;) {
        const event = find(name, jobId);
        if (event) return event;
        await new Promise<void>((resolve) => waiting.add(resolve));
      }
    },
  };
}

async function mintUsdc(chain: Chain, rpcUrl: string, to: Address): Promise<void> {
  const [banker] = await rpc<Address[]>(rpcUrl, "eth_accounts", []);
  const { to: token, data } = chain.calls.mintTestUsdc(to, ALLOWANCE);
  await rpc(rpcUrl, "eth_sendTransaction", [{ from: banker, to: token, data }]);
}

async function gasOf(rpcUrl: string, tx: Hex): Promise<number> {
  return Number((await rpc<{ gasUsed: Hex }>(rpcUrl, "eth_getTransactionReceipt", [tx])).gasUsed);
}

async function rpc<Result>(url: string, method: string, params: unknown[]): Promise<Result> {
  const body = JSON.stringify({ jsonrpc: "2.0", id: 1, method, params });
  const response = await fetch(url, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body,
  });
  const { result, error } = (await response.json()) as { result: Result; error?: { message: string } };
  if (error) throw new Error(`${method}: ${error.message}`);
  return result;
}
