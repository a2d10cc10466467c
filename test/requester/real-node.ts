// Owns a real node for the requester's tests: provider, store, certificate and Registry entry; its model follows a script.
import { join } from "node:path";
import { createSender } from "../../chain/sender.ts";
import type { Address } from "../../protocol/bytes.ts";
import { LOCAL_CHAIN_DEFAULTS, PROVIDER_DEFAULTS, type ProviderConfig } from "../../provider/config.ts";
import { PROVIDER_MIGRATIONS } from "../../provider/ledger-schema.ts";
import { type Provider, startProvider } from "../../provider/start.ts";
import type { Upstream } from "../../provider/upstreams/upstream.ts";
import { loadOrCreateCertificate } from "../../runtime/certificate.ts";
import { systemClock } from "../../runtime/clock.ts";
import { createSigner, generatePrivateKey } from "../../runtime/signers/secp256k1.ts";
import { openStore } from "../../runtime/store.ts";
import { freePort } from "../../tools/demo/processes.ts";
import { temporaryFolder } from "../support/machine.ts";
import { ScriptedUpstream, type Step } from "../support/scripted-upstream.ts";
import { fundedSigner, MODEL, SILENT, type World } from "./world.ts";

/** A base unit a completion token, a tenth of one a prompt token. */
export const NODE_PRICES = { inputPrice: 100_000n, outputPrice: 1_000_000n };
const DIGEST = `0x${"55".repeat(32)}` as const;

export type RealNode<Model extends Upstream = ScriptedUpstream> = {
  address: Address;
  payee: Address;
  upstream: Model;
  provider: Provider;
  /** Ends it and starts it again over the same store, as after a crash of its machine. */
  restart(config?: Partial<ProviderConfig>): Promise<void>;
  stop(): Promise<void>;
};

/** Starts and registers a node. `scripts` are the answers of its model, in the order of its runs; the last one repeats. */
export function startRealNode(
  world: World,
  scripts: Step[][],
  config: Partial<ProviderConfig> = {},
): Promise<RealNode> {
  return startNodeOf(world, new ScriptedUpstream(...scripts), config);
}

/** The same with another model. */
export async function startNodeOf<Model extends Upstream>(
  world: World,
  upstream: Model,
  config: Partial<ProviderConfig> = {},
): Promise<RealNode<Model>> {
  const { chain } = world;
  const signer = await fundedSigner(world);
  const payee = createSigner(generatePrivateKey()).address;
  const folder = temporaryFolder();
  const certificate = await loadOrCreateCertificate(folder, ["127.0.0.1"]);
  const port = await freePort();
  const endpoint = `https://127.0.0.1:${port}`;
  const models = [{ name: MODEL, digest: DIGEST, ...NODE_PRICES }];
  await createSender(chain, signer).send(chain.calls.register(payee, endpoint, models));
  const start = async (changes: Partial<ProviderConfig>) => {
    const store = openStore(join(folder, "provider.db"), PROVIDER_MIGRATIONS, { exclusive: true });
    const provider = await startProvider({
      ...{ chain, store, log: SILENT, signer, certificate, clock: systemClock },
      upstreams: [{ name: "scripted", upstream, capacity: 32 }],
      config: {
        ...PROVIDER_DEFAULTS,
        ...LOCAL_CHAIN_DEFAULTS,
        ...{ listen: { host: "127.0.0.1", port }, endpoint, chunkTokens: 8, maxCompletionTokens: 256 },
        ...{ prices: { default: NODE_PRICES, byModel: {} }, capacity: 32, stopGraceSeconds: 0 },
        ...config,
        ...changes,
      },
    });
    const stop = async () => {
      await provider.stop();
      store.close();
    };
    return { provider, stop };
  };
  let running = await start({});
  return {
    address: signer.address,
    payee,
    upstream,
    get provider() {
      return running.provider;
    },
    async restart(changes = {}) {
      await running.stop();
      running = await start(changes);
    },
    stop: () => running.stop(),
  };
}
