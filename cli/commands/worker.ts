// Owns `infernet worker`: serves the node's models for money until it is stopped.
import { once } from "node:events";
import { Option } from "commander";
import { formatUsdc } from "../../protocol/price.ts";
import type { Provider } from "../../provider/start.ts";
import type { CommandSpec } from "../command.ts";
import { type Context, LOCAL_CHAIN_ID } from "../context.ts";
import { containerNameOf, DOCKER_OPTIONS } from "../docker-flags.ts";
import { describeFields } from "../event-form.ts";
import { type Identity, unlockOrCreate } from "../identity.ts";
import type { Output } from "../output.ts";
import type { LiveView } from "../tui/live-view.ts";
import { openUpstreamsOf, UPSTREAM_OPTIONS } from "../upstream-flags.ts";
import { collectPricedModel, integerBetween, parseAmount, parseKeepAlive, parseListen } from "../values.ts";
import { renderProviderEvent } from "../worker-events.ts";
import {
  checkWanted,
  notRegistered,
  registerNow,
  type WantedModels,
  warnIfSwitchedOff,
} from "../worker-listing.ts";
import { providerConfigOf, type WorkerFlags } from "../worker-settings.ts";

type Options = WorkerFlags & WantedModels & { pull?: boolean; log?: boolean; printService?: boolean };
type Result = { unit: string } | undefined;

const STOPPING = "stopping: running streams may end, jobs are settled (press Ctrl-C again to stop at once)";

export const workerCommand: CommandSpec<Options, Result> = {
  name: "worker",
  summary: "Serve this machine's models for money, until it is stopped",
  options: [
    ...UPSTREAM_OPTIONS,
    ...DOCKER_OPTIONS,
    new Option(
      "--model <name>",
      "with --docker: a model that the container is to have; repeat for more",
    ).argParser((name: string, names: string[] = []) => [...names, name]),
    new Option(
      "--keep-alive <time>",
      "how long Ollama keeps a model in memory after its last request: 30m, always, or 0 (default: 24h)",
    ).argParser(parseKeepAlive),
    new Option("--pull", "have Ollama fetch listed models that it does not have, before anything is served"),
    new Option(
      "--host <address>",
      "address to listen on (default: loopback for a loopback endpoint, else all)",
    ),
    new Option("--port <port>", "port to listen on (default: the endpoint's)").argParser(
      integerBetween(0, 65_535),
    ),
    new Option("--endpoint <url>", "stop unless the Registry lists exactly this"),
    new Option("--plain-http", "serve an http:// endpoint of this machine without TLS"),
    new Option(
      "--price <NAME=IN:OUT>",
      "ask less than the Registry's ceiling; repeat for more models",
    ).argParser(collectPricedModel),
    new Option("--settle <when>", "settle jobs at once, or when it is worth the gas").choices([
      "always",
      "worth",
    ]),
    new Option("--payout <when>", "pay the payee at once, or when it is worth the gas").choices([
      "always",
      "worth",
    ]),
    new Option("--capacity <requests>", "requests at the same time, over all upstreams").argParser(
      integerBetween(1, 10_000),
    ),
    new Option("--max-tokens <count>", "most completion tokens of one request").argParser(
      integerBetween(1, 1_000_000),
    ),
    new Option("--min-deposit <usdc>", "least deposit of a job").argParser(parseAmount),
    new Option(
      "--opening-fee <usdc>",
      "what opening a job for a requester without gas costs it (default: 0.01; 0 on a local chain)",
    ).argParser(parseAmount),
    new Option(
      "--relay-fee <usdc>",
      "what sending a withdrawal for its owner costs (default: 0.01; 0 on a local chain)",
    ).argParser(parseAmount),
    new Option("--native-usdc <usdc>", "what the chain's own coin is worth, to weigh gas").argParser(
      parseAmount,
    ),
    new Option(
      "--metrics-listen <host:port>",
      "tell metrics to whoever reaches this address, over plain HTTP (default: /metrics, to this machine alone)",
    ).argParser(parseListen),
    new Option("--print-service", "print a systemd unit that runs the worker with these flags, and end"),
    new Option("--log", "tell what happens line by line in a terminal, too, instead of the live view"),
  ],
  examples: [
    "worker",
    "worker --upstream ollama --price llama3.2:1b=0.04:0.15 --settle worth",
    "worker --upstream ollama,slots=2 --upstream openai=http://127.0.0.1:8000/v1,slots=8 --capacity 6",
    "worker --docker --model llama3.2",
    "worker --print-service > infernet.service",
  ],
  async run(context, options) {
    if (options.printService) return { unit: await printService(context) };
    await context.chain();
    const node = await unlockOrCreate(context, "node");
    const view = await createView(context, options);
    const provider = await startWorker(context, options, node, view);
    context.endItself();
    try {
      if (view) view.show(provider);
      else announce(context, provider);
      if (!context.signal.aborted) await once(context.signal, "abort");
    } finally {
      if (view) view.showStopping();
      else context.output.hint(STOPPING);
      await provider.stop();
      view?.close();
    }
    if (view) context.output.result({}, () => describeEnd(provider));
    return undefined;
  },
  render: ({ unit }) => unit,
};

async function printService({ terminal }: Context): Promise<string> {
  const [{ renderServiceUnit }, { longestStopSeconds, PROVIDER_DEFAULTS }, { userInfo }] = await Promise.all([
    import("../service-unit.ts"),
    import("../../provider/config.ts"),
    import("node:os"),
  ]);
  const [program = "", script = "", ...args] = process.argv;
  return renderServiceUnit({
    ...{ program, script, args, env: terminal.env, cwd: process.cwd(), user: userInfo().username },
    stopSeconds: longestStopSeconds(PROVIDER_DEFAULTS),
  });
}

/** A view for a person in front of a terminal that can draw; undefined where lines are wanted. */
async function createView(
  { output, terminal, atEnd }: Context,
  { log = false }: Options,
): Promise<LiveView | undefined> {
  if (!terminal.isRead || log || output.json || output.quiet || terminal.env.TERM === "dumb")
    return undefined;
  const { createLiveView } = await import("../tui/live-view.ts");
  const view = createLiveView(terminal, output);
  atEnd(view.close);
  return view;
}

function describeEnd(provider: Provider): string {
  const { charged, settled, paidOut } = provider.snapshot();
  const sums = `${formatUsdc(charged)} USDC charged, ${formatUsdc(settled)} settled, ${formatUsdc(paidOut)} paid out`;
  return `your node has stopped: ${sums}`;
}

async function startWorker(
  context: Context,
  options: Options,
  node: Identity,
  view: LiveView | undefined,
): Promise<Provider> {
  const [chain, { home }, log] = await Promise.all([
    context.chain(),
    context.config(),
    context.log(context.terminal.isRead ? "warn" : "info", view?.log),
  ]);
  const listed = await chain.getNode(node.address);
  if (!listed && !context.prompter.canAsk) throw notRegistered(node, options);
  const [{ LOCAL_CHAIN_DEFAULTS, PROVIDER_DEFAULTS }, { PROVIDER_MIGRATIONS }, { homePaths }] =
    await Promise.all([
      import("../../provider/config.ts"),
      import("../../provider/ledger-schema.ts"),
      import("../../runtime/home.ts"),
    ]);
  const defaults = {
    ...PROVIDER_DEFAULTS,
    ...(chain.chainId === LOCAL_CHAIN_ID ? LOCAL_CHAIN_DEFAULTS : {}),
  };
  const [{ startProvider }, { openStore }, { systemClock }, { announceWorker }] = await Promise.all([
    import("../../provider/start.ts"),
    import("../../runtime/store.ts"),
    import("../../runtime/clock.ts"),
    import("../worker-process.ts"),
  ]);
  const paths = homePaths(home);
  const store = openStore(paths.providerStore, PROVIDER_MIGRATIONS, { exclusive: true });
  context.atEnd(() => store.close());
  // Once this process alone holds the ledger, and before anything is started that `worker stop` should end.
  const worker = announceWorker(home, { container: options.docker ? containerNameOf(options) : null });
  context.atEnd(() => worker.end());
  const flags = { ...options, needed: options.model ?? [], isKept: worker.isContainerKept };
  const listing = listed ?? (await registerNow(context, node, flags));
  warnIfSwitchedOff(context, listing);
  checkWanted(options, listing);
  const config = providerConfigOf(options, listing, defaults);
  const upstreams = await openUpstreamsOf(context, flags, { capacity: options.capacity });
  if (options.pull) {
    const { pullMissing } = await import("../model-pull.ts");
    await pullMissing(
      context,
      upstreams,
      listing.models.map(({ name }) => name),
    );
  }
  const certificate = options.plainHttp ? null : await loadCertificate(paths.tlsFolder, config.endpoint);
  const { signer } = node;
  const provider = await startProvider({
    ...{ config, chain, store, log, signer, upstreams, certificate },
    clock: systemClock,
  });
  return provider;
}

async function loadCertificate(folder: string, endpoint: string) {
  const { loadOrCreateCertificate } = await import("../../runtime/certificate.ts");
  return loadOrCreateCertificate(folder, [new URL(endpoint).hostname]);
}

/** Tells whether the node is live, and from then on what happens: JSON lines on stdout with --json, else for people. */
function announce({ output, terminal }: Context, provider: Provider): void {
  tellLight(output, provider);
  provider.subscribe((event) => {
    const { type, ...fields } = event;
    if (type === "lightChanged") tellLight(output, provider);
    else if (output.json) output.line({ event: type, ...describeFields(fields) });
    else if (terminal.isRead) output.hint(renderProviderEvent(event));
  });
}

function tellLight(output: Output, provider: Provider): void {
  const { node, endpoint, models, live, hindrances } = provider.snapshot();
  const { url, metricsUrl } = provider;
  if (output.json) {
    const told = live ? { event: "live", models } : { event: "notLive", reasons: hindrances };
    output.line({ ...told, node, endpoint, url, metricsUrl });
    return;
  }
  output.result({}, (style) =>
    live
      ? `${style.green("●")} your node is live at ${endpoint}: ${models.join(", ")}`
      : `○ your node is not live: ${hindrances.join("; ")}`,
  );
}
