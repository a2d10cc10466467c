// Owns the world of the requester's tests: a real chain, a funded wallet, and a requester over a store of its own.
import { join } from "node:path";
import { type Chain, openChain } from "../../chain/chain.ts";
import type { Address, Hex } from "../../protocol/bytes.ts";
import type { BudgetLimits } from "../../requester/budget.ts";
import { REQUESTER_MIGRATIONS } from "../../requester/ledger-rows.ts";
import type { SessionSettings } from "../../requester/sessions/session-opening.ts";
import { type Requester, startRequester } from "../../requester/start.ts";
import type { SubmitEvent } from "../../requester/submission.ts";
import { type Clock, systemClock } from "../../runtime/clock.ts";
import { createLogger } from "../../runtime/logger.ts";
import { createSigner, generatePrivateKey, type Signer } from "../../runtime/signers/secp256k1.ts";
import { openStore, type Store } from "../../runtime/store.ts";
import { type LocalChain, startLocalChain } from "../support/local-chain.ts";
import { temporaryFolder } from "../support/machine.ts";

export const MODEL = "tiny";
export const ETHER = 10n ** 18n;
/** A million base units for everything but a day. */
export const BUDGET: BudgetLimits = {
  ...{ perRequest: 1_000_000n, perJob: 1_000_000n, perDay: 5_000_000n },
  ...{ perNode: 5_000_000n, perNewNode: 1_000_000n },
};
export const SILENT = createLogger({ level: "silent" });

export type World = { local: LocalChain; chain: Chain; stop(): Promise<void> };

export async function startWorld(): Promise<World> {
  const local = await startLocalChain();
  const { rpcUrl, chainId, deployment } = local;
  const chain = await openChain({ rpcUrl, chainId, sources: { override: deployment } });
  return {
    local,
    chain,
    async stop() {
      await chain.close();
      await local.stop();
    },
  };
}

/** A new key with gas, and with USDC when told so. */
export async function fundedSigner({ local }: World, usdc = 0n): Promise<Signer> {
  const signer = createSigner(generatePrivateKey());
  await local.fundNative(signer.address, ETHER);
  if (usdc > 0n) await local.mintUsdc(signer.address, usdc);
  return signer;
}

export type Buyer = {
  requester: Requester;
  wallet: Signer;
  store: Store;
  events: SubmitEvent[];
  /** Another run over the same store, wallet and seed, as after a crash. */
  restart(): Promise<Requester>;
};

export async function startBuyer(
  world: World,
  options: {
    usdc?: bigint;
    budget?: Partial<BudgetLimits>;
    clock?: Clock;
    wallet?: Signer;
    account?: Address;
    sessions?: Partial<SessionSettings>;
  } = {},
): Promise<Buyer> {
  const wallet = options.wallet ?? (await fundedSigner(world, options.usdc ?? 10_000_000n));
  const store = openStore(join(temporaryFolder(), "requester.db"), REQUESTER_MIGRATIONS);
  const seed: Hex = generatePrivateKey();
  const events: SubmitEvent[] = [];
  const start = async () => {
    const requester = await startRequester({
      ...{ chain: world.chain, store, log: SILENT, wallet, seed, clock: options.clock ?? systemClock },
      account: options.account,
      ...(options.sessions ? { sessions: options.sessions } : {}),
      patienceMs: 1_500,
      budget: { ...BUDGET, ...options.budget },
      ...(options.sessions ? { sessions: options.sessions } : {}),
    });
    requester.subscribe((event) => events.push(event));
    return requester;
  };
  return { requester: await start(), wallet, store, events, restart: start };
}

export type BodyFields = { max_tokens?: number; stream?: boolean; prompt?: string };

let bodies = 0;

/** The bytes of a chat request, no two alike. */
export function chatBody({
  prompt = "Say something",
  stream = true,
  ...fields
}: BodyFields = {}): Uint8Array {
  bodies += 1;
  const messages = [{ role: "user", content: `${prompt} (${bodies})` }];
  return Buffer.from(JSON.stringify({ model: MODEL, stream, messages, ...fields }));
}
