// Owns a market of real processes: a chain, a registered node with its worker, and a funded requester, each its own home.
import { randomBytes } from "node:crypto";
import { type BlockTag, type Chain, openChain } from "../../chain/chain.ts";
import { type Address, type Hex, toHex } from "../../protocol/bytes.ts";
import { parseUsdc } from "../../protocol/price.ts";
import { homePaths } from "../../runtime/home.ts";
import { saveKey } from "../../runtime/signers/keystore.ts";
import { addressOf, generatePrivateKey } from "../../runtime/signers/secp256k1.ts";
import { freePort } from "../../tools/demo/processes.ts";
import { type CommandLine, createCommandLine, type Ended, PASSPHRASE } from "./command-line.ts";
import { type LocalChain, startLocalChain } from "./local-chain.ts";
import { tinyModelFile } from "./tiny-model.ts";
import { jsonLines, type WatchedProcess, watchProcess } from "./watched-process.ts";

export const MODEL = "tiny";
/** USDC per million tokens: 10 base units a prompt token and 40 a completion token, so that no rounding hides a token. */
const PRICES = "10:40";
export const INPUT_PRICE = 10_000_000n;
export const OUTPUT_PRICE = 40_000_000n;
export const ALLOWANCE = 5_000_000n;
const ETHER = 10n ** 18n;

/** The embedded llama.cpp with the tiny model. */
export const EMBEDDED = ["--model-file", tinyModelFile(), "--model-name", MODEL, "--threads", "1"];

export type MarketOptions = {
  /** The model that is sold, and its prices in USDC per million tokens. */
  model?: string;
  prices?: string;
  /** What the requester's wallet owns of USDC. */
  allowance?: bigint;
  /** The flags that say what runs the model; the embedded tiny one unless told otherwise. */
  upstream?: readonly string[];
  /** Where the worker listens when the endpoint that the Registry lists is somebody else's. */
  workerPort?: number;
  /** What the requester's wallet owns for gas; an ether unless told otherwise. */
  requesterWei?: bigint;
  /** How both sides start infernet; the built bundle unless told otherwise. */
  command?: readonly string[] | undefined;
  /** More settings of the seller's processes. */
  sellerEnv?: Record<string, string>;
  /** What a side asks in the chain's place; the chain itself unless told otherwise. */
  rpcUrlOf?(side: Side, rpcUrl: string): Promise<string>;
};

export type Side = "seller" | "buyer";

/** What both sides own in the wallet and in the Escrow together, in USDC base units; open deposits excepted. */
export type Holdings = { requester: bigint; payee: bigint };

export type Market = Awaited<ReturnType<typeof openMarket>>;
export type Worker = WatchedProcess & {
  /** The first event of this name, and of this job if one is given, that the worker tells or has told. */
  event(name: string, jobId?: unknown): Promise<Record<string, unknown>>;
};

/** One more node of a market. */
type Seller = { node: Address; startWorker(...flags: string[]): Promise<Worker> };

/** Starts everything but the worker. `close` ends every process that was started here, whatever happened. */
export async function openMarket(options: MarketOptions = {}) {
  const {
    upstream = EMBEDDED,
    workerPort,
    sellerEnv = {},
    requesterWei = ETHER,
    rpcUrlOf,
    command,
    model = MODEL,
    prices = PRICES,
    allowance = ALLOWANCE,
  } = options;
  const chain = await startLocalChain();
  const createSide = async (side: Side) =>
    createCommandLine({ ...chain, rpcUrl: (await rpcUrlOf?.(side, chain.rpcUrl)) ?? chain.rpcUrl }, command);
  const [seller, buyer] = await Promise.all([createSide("seller"), createSide("buyer")]).catch(
    async (error: unknown) => {
      await chain.stop();
      throw error;
    },
  );
  const started: WatchedProcess[] = [];
  const others: CommandLine[] = [];
  let view: Chain | undefined;

  const start = (who: CommandLine, args: readonly string[]) => {
    const watched = watchProcess(who.start(args, { env: who === seller ? sellerEnv : {} }));
    started.push(watched);
    return watched;
  };
  const close = async () => {
    await Promise.all(started.map((watched) => watched.kill()));
    await view?.close();
    await Promise.all([seller, buyer, ...others].map((side) => side.remove()));
    await chain.stop();
  };
  const workerOf = async (who: CommandLine, flags: readonly string[]): Promise<Worker> => {
    const worker = start(who, ["worker", "--json", ...flags]);
    const event: Worker["event"] = (name, jobId) =>
      worker.until(({ stdout }) =>
        jsonLines(stdout).find(
          (told) => told.event === name && (jobId === undefined || told.jobId === jobId),
        ),
      );
    await event("live");
    return { ...worker, event };
  };

  try {
    const { deployment, rpcUrl } = chain;
    view = await openChain({ rpcUrl, sources: { override: deployment } });
    const payee = toHex(randomBytes(20));
    const endpoint = `https://127.0.0.1:${await freePort()}`;
    const [requester, node] = await Promise.all([
      createAccount(chain, homePaths(buyer.home).walletKey, requesterWei),
      createAccount(chain, homePaths(seller.home).nodeKey, ETHER),
    ]);
    await chain.mintUsdc(requester, allowance);
    const listing = ["--payee", payee, "--endpoint", endpoint, "--model", `${model}=${prices}`];
    await runJson(seller, ["register", ...listing, ...upstream], sellerEnv);
    return {
      ...{ chain, view, seller, buyer, requester, node, payee, endpoint, close },
      /** At one block, the latest unless told otherwise: a payout between two reads would count twice or not at all. */
      holdings: async (at?: BlockTag) =>
        holdingsOf(view!, requester, payee, at ?? (await view!.getBlock("latest")).number),

      /** Starts the node's worker and resolves when it is live. */
      async startWorker(...flags: string[]): Promise<Worker> {
        const port = workerPort === undefined ? [] : ["--port", String(workerPort)];
        return await workerOf(seller, [...port, ...upstream, ...flags]);
      },

      /** Registers one more node, in a home of its own, with the same payee. */
      async addSeller(terms: { upstream: readonly string[]; prices: string }): Promise<Seller> {
        const side = await createSide("seller");
        others.push(side);
        const address = await createAccount(chain, homePaths(side.home).nodeKey, ETHER);
        const own = ["--payee", payee, "--endpoint", `https://127.0.0.1:${await freePort()}`];
        await runJson(side, ["register", ...own, "--model", `${model}=${terms.prices}`, ...terms.upstream]);
        return { node: address, startWorker: (...flags) => workerOf(side, [...terms.upstream, ...flags]) };
      },

      /** Starts `job submit` of this prompt. */
      submit: (prompt: string, ...flags: string[]) =>
        start(buyer, ["job", "submit", "--model", model, "--prompt", prompt, ...flags]),

      /** Starts any command of a side's, and watches it. */
      watch: (side: Side, args: readonly string[]) => start(side === "seller" ? seller : buyer, args),

      /** Runs a command of the requester's that must succeed, and reads its JSON. */
      buyerJson: (...args: string[]) => runJson(buyer, args),
    };
  } catch (error) {
    await close();
    throw error;
  }
}

/** A decimal text of USDC, as JSON results carry it, in base units. */
export function baseUnits(usdc: unknown): bigint {
  return parseUsdc(String(usdc));
}

/** A key file as `wallet create` and `node create` make it, but cheap to open: commands open it many times. */
async function createAccount(chain: LocalChain, keyPath: string, wei: bigint): Promise<Address> {
  const privateKey = generatePrivateKey();
  await saveKey(keyPath, privateKey, PASSPHRASE, { scryptN: 1024 });
  const address = addressOf(privateKey);
  if (wei > 0n) await chain.fundNative(address, wei);
  return address;
}

async function runJson(who: CommandLine, args: readonly string[], env: Record<string, string> = {}) {
  const ended: Ended = await who.run([...args, "--json"], { env });
  if (ended.exitCode !== 0) throw new Error(`${args.join(" ")}: ${ended.exitCode}\n${ended.stderr}`);
  // biome-ignore lint/suspicious/noExplicitAny: each test knows the form of the result that it asks for.
  return JSON.parse(ended.stdout) as Record<string, any>;
}

async function holdingsOf(view: Chain, requester: Address, payee: Hex, at: BlockTag): Promise<Holdings> {
  const [inWallet, credit, paidOut, earned] = await Promise.all([
    view.getUsdc(requester, at),
    view.getCredit(requester, at),
    view.getUsdc(payee, at),
    view.getEarned(payee, at),
  ]);
  return { requester: inWallet + credit, payee: paidOut + earned };
}
