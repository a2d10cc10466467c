// Owns the moments at which a trade's process is killed: each is a step that is seen to happen, and a little later.
import type { Fault, FaultyRpc } from "./faulty-rpc.ts";
import type { Side, Worker } from "./market.ts";
import { jsonLines, type WatchedProcess } from "./watched-process.ts";

export type Victim = "worker" | "requester";

/** Who trades in one round; what the worker said before it are whole lines of `workerSaid` characters. */
export type Scene = {
  worker: Worker;
  workerSaid: number;
  buyer: WatchedProcess;
  rpc: Record<Side, FaultyRpc>;
};

export type Moment = {
  kind: string;
  victim: Victim;
  /** Whether the step waits for the kill, so that a delay would lead past it. */
  isExact?: boolean;
  /** Calls `strike` when the step is seen; rejects when it cannot come any more. */
  watch(scene: Scene, strike: () => void): Promise<unknown>;
};

/** Kills the moment's victim, at the latest when the buyer has ended; resolves to whether the moment came before. */
export async function killAt(moment: Moment, scene: Scene, delayMs: number): Promise<boolean> {
  const victim = moment.victim === "worker" ? scene.worker : scene.buyer;
  const pause = moment.isExact ? 0 : delayMs;
  const killed = Promise.withResolvers<void>();
  let isSeen = false;
  const kill = () => {
    victim.child.kill("SIGKILL");
    killed.resolve();
  };
  const strike = () => {
    isSeen = true;
    if (pause === 0) kill();
    else setTimeout(kill, pause);
  };
  // It rejects with the end of a process that never came so far: then there is nothing left to see.
  moment.watch(scene, strike).catch(() => {});
  void scene.buyer.ended.then(kill);
  await killed.promise;
  await victim.ended;
  for (const front of Object.values(scene.rpc)) front.faultOf = () => "pass";
  return isSeen;
}

/** Every kind of moment, by what was just seen. */
export const MOMENTS: readonly Moment[] = [
  ...toldByRequester({
    "a node was chosen": ({ event }) => event === "chosen",
    "the opening is planned": ({ event }) => event === "opening",
    "the job is open": ({ event }) => event === "opened",
    "the first receipt is signed": ({ event }) => event === "receipt",
    "the answer begins": ({ event }) => event === "text",
    "the answer is delivered": ({ event }) => event === "delivered",
  }),
  ...toldByRequester({ "a later receipt is signed": ({ event }) => event === "receipt" }, 2),
  ...toldByRequester({ "the answer is in its middle": ({ event }) => event === "text" }, 80),
  ...toldByWorker({
    "the job is funded": ({ event }) => event === "jobFunded",
    "the model starts": ({ event }) => event === "streamStarted",
    "the first tokens are released": ({ event }) => event === "tokensReleased",
    "a receipt is accepted": ({ event }) => event === "receiptAccepted",
    "the stream has ended": ({ event }) => event === "streamEnded",
    "the job is over": ({ event }) => event === "jobOver",
  }),
  ...toldByWorker({ "a later receipt is accepted": ({ event }) => event === "receiptAccepted" }, 2),
  ...toldByWorker({
    "half of the tokens are released": ({ event, completionTokens }) =>
      event === "tokensReleased" && Number(completionTokens) >= 75,
  }),
  ...(["worker", "requester"] as const).flatMap((victim) => [
    atBroadcast(victim, "hang-up", "never reaches the chain"),
    atBroadcast(victim, "lose-answer", "reaches the chain"),
  ]),
];

type Told = Record<string, unknown>;
type Steps = Record<string, (told: Told) => boolean>;

/** Steps that the requester tells on stderr, at the nth time. */
function toldByRequester(steps: Steps, times = 1): Moment[] {
  return toldBy("requester", steps, times, ({ buyer }, look) =>
    buyer.until(({ stderr }) => look(jsonLines(stderr))),
  );
}

/** Steps that the worker tells on stdout, at the nth time in this round. */
function toldByWorker(steps: Steps, times = 1): Moment[] {
  return toldBy("worker", steps, times, ({ worker, workerSaid }, look) =>
    worker.until(({ stdout }) => look(jsonLines(stdout.slice(workerSaid)))),
  );
}

function toldBy(
  victim: Victim,
  steps: Steps,
  times: number,
  until: (scene: Scene, look: (lines: Told[]) => boolean) => Promise<unknown>,
): Moment[] {
  return Object.entries(steps).map(([kind, isStep]) => ({
    kind,
    victim,
    async watch(scene, strike) {
      await until(scene, (lines) => lines.filter(isStep).length >= times);
      strike();
    },
  }));
}

/** The victim has persisted a transaction and hands it to its RPC, which takes it to the chain, or not. */
function atBroadcast(victim: Victim, fault: Fault, what: string): Moment {
  return {
    kind: `a transaction of the ${victim} ${what}`,
    victim,
    isExact: true,
    async watch({ rpc }, strike) {
      const front = rpc[victim === "worker" ? "seller" : "buyer"];
      front.faultOf = (method) => {
        if (method !== "eth_sendRawTransaction") return "pass";
        front.faultOf = () => "pass";
        strike();
        return fault;
      };
    },
  };
}
