// Owns the processes of a measurement: a paced model server, a chain, a node that sells it, and the client that asks.
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { type Hex, toHex } from "../protocol/bytes.ts";
import { type Job, jobHashOf, jobIdOf, SESSION_REQUEST_HASH } from "../protocol/job.ts";
import { parseServedOffer } from "../protocol/offer.ts";
import { HEADERS, OFFER_PATH } from "../protocol/wire.ts";
import { fetchUnpinned } from "../runtime/http-client.ts";
import { addressOf, generatePrivateKey } from "../runtime/signers/secp256k1.ts";
import { type Market, openMarket } from "../test/support/market.ts";
import { freePort } from "../tools/demo/processes.ts";
import type { BenchSession, Sample } from "./asking.ts";
import type { ClientAnswer, ClientOrder, Target } from "./client.ts";

export const MODEL = "paced";
const PRICES = "0.10:0.40";
const DEPOSIT = 2_000_000_000n;
const SESSION_SECONDS = 7200;

export type Scene = {
  /** Who can be asked, in order: the model server itself first. */
  targets: string[];
  ask(target: string, load: { streams: number; requests: number; tokens: number }): Promise<Sample[]>;
  /** The process of the node. */
  nodePid: number;
  close(): Promise<void>;
};

/** Starts all of it. `nodeOptions` are Node's own for the node's process, as for a profile. */
export async function openScene(nodeOptions = ""): Promise<Scene> {
  const forked: ChildProcess[] = [];
  const start = (file: string) => {
    const child = fork(join(import.meta.dirname, file), { execArgv: ["--import=tsx"] });
    forked.push(child);
    return child;
  };
  let market: Market | undefined;
  const close = async () => {
    await market?.close();
    for (const child of forked) child.kill();
  };
  try {
    const [model, client] = [start("paced-model.ts"), start("client.ts")];
    const [{ url }] = (await once(model, "message")) as [{ url: string }];
    market = await openMarket({
      model: MODEL,
      prices: PRICES,
      upstream: ["--upstream", "openai", "--upstream-url", url],
      sellerEnv: nodeOptions === "" ? {} : { NODE_OPTIONS: nodeOptions },
    });
    const worker = market.watch("seller", [
      "worker",
      "--upstream",
      "openai",
      "--upstream-url",
      url,
      "--capacity",
      "64",
    ]);
    await worker.until(({ stdout, stderr }) => /live/.test(stdout + stderr));
    const gatewayPort = await freePort();
    const gateway = market.watch("buyer", ["gateway", "--json", "--port", String(gatewayPort)]);
    await gateway.until(({ stdout }) => stdout.includes(String(gatewayPort)));
    const targets: Target[] = [
      { name: "direct", model: MODEL, url },
      { name: "node", model: MODEL, session: await openSession(market) },
      { name: "gateway", model: MODEL, url: `http://127.0.0.1:${gatewayPort}` },
    ];
    const order = async (what: ClientOrder): Promise<Sample[]> => {
      client.send(what);
      const [answer] = (await once(client, "message")) as [ClientAnswer];
      if ("failure" in answer) throw new Error(answer.failure);
      return answer.samples;
    };
    await order({ targets });
    return {
      targets: targets.map(({ name }) => name),
      ask: (target, load) => order({ ask: target, ...load }),
      nodePid: worker.child.pid!,
      async close() {
        // Asked to stop, so that profiles are written.
        for (const { child, ended } of [gateway, worker]) {
          child.kill("SIGTERM");
          await ended;
        }
        await close();
      },
    };
  } catch (error) {
    await close();
    throw error;
  }
}

/** Opens a session from one of the chain's own accounts. */
async function openSession({ chain, view, node, payee, endpoint }: Market): Promise<BenchSession> {
  const requester = chain.accounts[5]!.address;
  await chain.mintUsdc(requester, DEPOSIT);
  await chain.sendAs(requester, view.calls.approveUsdc(DEPOSIT));
  await chain.sendAs(requester, view.calls.deposit(DEPOSIT));
  const { text, tlsKeyHash } = await fetchUnpinned(endpoint, OFFER_PATH);
  const { offer, offerHash } = parseServedOffer(text);
  const { inputPrice, outputPrice } = offer.models[0]!;
  const salt: Hex = toHex(crypto.getRandomValues(new Uint8Array(32)));
  const signerKey = generatePrivateKey();
  const { timestamp } = await view.getBlock("latest");
  const job: Job = {
    ...{ requester, signer: addressOf(signerKey), node, payee },
    jobHash: jobHashOf({ salt, offerHash, requestHash: SESSION_REQUEST_HASH }),
    deadline: timestamp + SESSION_SECONDS,
  };
  const jobId = jobIdOf(view.domain, job);
  await chain.sendAs(requester, view.calls.open(job, DEPOSIT));
  return {
    ...{ endpoint, tlsKeyHash, jobId, signerKey },
    headers: { [HEADERS.job]: jobId, [HEADERS.salt]: salt, [HEADERS.offer]: offerHash },
    chainId: view.domain.chainId.toString(),
    escrow: view.domain.escrow,
    chunkTokens: offer.chunkTokens,
    inputPrice: inputPrice.toString(),
    outputPrice: outputPrice.toString(),
  };
}
