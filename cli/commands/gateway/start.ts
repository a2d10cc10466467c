// Owns `infernet gateway`: OpenAI's API on this machine, every answer bought on the market, until it is stopped.
import { once } from "node:events";
import { InvalidArgumentError, Option } from "commander";
import type { Address } from "../../../protocol/bytes.ts";
import type { Gateway } from "../../../requester/gateway/server.ts";
import type { Buyer } from "../../../requester/routing/buyer.ts";
import type { Requester, RequesterDeps } from "../../../requester/start.ts";
import type { CommandSpec } from "../../command.ts";
import type { Context } from "../../context.ts";
import { ACCOUNT_OPTION } from "../../gas-flags.ts";
import { GATEWAY_PLACE_OPTIONS, type GatewayPlaceFlags } from "../../gateway-flags.ts";
import { announceGateway, tellLocked } from "../../gateway-report.ts";
import type { GatewaySettings } from "../../gateway-settings.ts";
import { openNewRequester } from "../../requester-session.ts";
import { parseAddress, parseAmount, parseDuration } from "../../values.ts";

type Options = GatewayPlaceFlags & {
  allowOrigin?: string[];
  modelAlias?: Record<string, string>;
  prefer?: Address[];
  omit?: Address[];
  maxPrice?: string;
  maxUsdc?: bigint;
  sessionUsdc?: bigint;
  idle?: number;
  atExit: "close" | "keep";
  account?: Address;
  recount?: Record<string, string>;
};

/** How long requests may go on when the gateway is ended. */
const GRACE_MS = 10_000;

export const gatewayCommand: CommandSpec<Options, undefined> = {
  name: "gateway",
  summary: "Serve OpenAI's API on this machine, buying every answer on the market, until it is stopped",
  options: [
    ...GATEWAY_PLACE_OPTIONS,
    new Option("--allow-origin <origin>", "let this web page in; repeat for more").argParser(collect),
    new Option("--model-alias <NAME=MODEL>", "a name of your own for a model; repeat for more").argParser(
      collectAlias,
    ),
    new Option(
      "--recount <NAME=FILE>",
      "count this model's answers again with the vocabulary of a GGUF file; repeat for more",
    ).argParser(collectAlias),
    new Option("--prefer <node>", "ask this node first while it serves; repeat for more").argParser(
      collectNode,
    ),
    new Option("--omit <node>", "never ask this node; repeat for more").argParser(collectNode),
    new Option("--max-price <IN:OUT>", "the most per million tokens, in USDC"),
    new Option("--max-usdc <amount>", "the most that one request may cost").argParser(parseAmount),
    new Option("--session-usdc <amount>", "deposit of a session (default: requester.sessionUsdc)").argParser(
      parseAmount,
    ),
    new Option("--idle <duration>", "close a session that is not used for so long (default: 10m)").argParser(
      parseDuration,
    ),
    new Option("--at-exit <what>", "close sessions at the end, or keep them for the next run")
      .choices(["close", "keep"])
      .default("close"),
    ACCOUNT_OPTION,
  ],
  examples: ["gateway", "gateway --model-alias gpt-4o=llama3.2:1b --max-price 0.50:1.50"],
  async run(context, options) {
    const { readGatewaySettings } = await import("../../gateway-settings.ts");
    const { home } = await context.config();
    const { env } = context.terminal;
    const settings = readGatewaySettings({ home, env, flags: ownFlags(options) });
    const { requester } = await openNewRequester(context, options.account, sessionsOf(options));
    const { gateway, buyer } = await start(context, requester, settings, options);
    context.endItself();
    await announceGateway(context, { gateway, buyer, requester, hasToken: settings.token !== undefined });
    try {
      if (!context.signal.aborted) await once(context.signal, "abort");
    } finally {
      context.output.hint("stopping: running requests may end (press Ctrl-C again to stop at once)");
      await gateway.stop(GRACE_MS);
      await buyer.stop();
      const closed = options.atExit === "close" ? await requester.sessions.close() : [];
      tellLocked(context, closed, requester.sessions.list());
    }
    return undefined;
  },
  render: () => "",
};

/** The flags that are settings of the gateway, too. */
function ownFlags({ host, port, tokenFile, maxPrice }: Options): Record<string, unknown> {
  return { host, port, tokenFile, maxPrice };
}

/** How sessions are opened and closed, where flags say otherwise than the settings. */
function sessionsOf({ sessionUsdc, idle }: Options): NonNullable<RequesterDeps["sessions"]> {
  return {
    ...(sessionUsdc === undefined ? {} : { depositUsdc: sessionUsdc }),
    ...(idle === undefined ? {} : { idleSeconds: idle }),
  };
}

async function start(
  context: Context,
  requester: Requester,
  settings: GatewaySettings,
  options: Options,
): Promise<{ gateway: Gateway; buyer: Buyer }> {
  const [{ startGateway }, { describeStatus }, { systemClock }, { readBudget }, { countersOf }] =
    await Promise.all([
      import("../../../requester/gateway/server.ts"),
      import("../../../requester/gateway/status.ts"),
      import("../../../runtime/clock.ts"),
      import("../../budget-settings.ts"),
      import("../../../requester/routing/recount.ts"),
    ]);
  const { perDay } = readBudget((await context.config()).home, context.terminal.env);
  const log = await context.log("warn");
  const aliases = options.modelAlias ?? {};
  const { counters, close } = countersOf(new Map(Object.entries(options.recount ?? {})));
  context.atEnd(close);
  const buyer = requester.createBuyer({ aliases: new Map(Object.entries(aliases)), counters });
  context.atEnd(() => buyer.stop());
  const dayOf = () => {
    const left = requester.snapshot().dayLeft;
    return { signed: perDay - left, left };
  };
  const { host, port, token, maxPrice } = settings;
  const gateway = await startGateway({
    ...{ buyer, listen: { host, port }, token, aliases, log, clock: systemClock },
    allowedOrigins: options.allowOrigin ?? [],
    wish: {
      ...{ prefer: options.prefer, omit: options.omit },
      ...{ priceCeiling: maxPrice, maxCharge: options.maxUsdc },
    },
    status: (counts) =>
      describeStatus(
        {
          ...{ account: requester.account, day: dayOf() },
          ...{ sessions: requester.sessions.list(), routes: buyer.table() },
        },
        counts,
      ),
  });
  context.atEnd(() => gateway.stop(0));
  return { gateway, buyer };
}

function collect(text: string, previous: string[] = []): string[] {
  return [...previous, text];
}

function collectNode(text: string, previous: Address[] = []): Address[] {
  return [...previous, parseAddress(text)];
}

function collectAlias(text: string, previous: Record<string, string> = {}): Record<string, string> {
  const match = /^([^=]{1,128})=(.{1,128})$/.exec(text);
  if (!match) throw new InvalidArgumentError("Write it as NAME=MODEL, like gpt-4o=llama3.2:1b.");
  return { ...previous, [match[1]!]: match[2]! };
}
