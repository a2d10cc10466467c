// Owns the process that asks and measures: apart from all servers, so that it waits for nothing of theirs but answers.
import { type Ask, askNode, askOpenAi, type BenchSession, type Sample } from "./asking.ts";

/** Whom to ask: an OpenAI server by its URL, or a node by a session. */
export type Target = { name: string; model: string } & ({ url: string } | { session: BenchSession });
export type ClientOrder =
  | { targets: Target[] }
  | { ask: string; streams: number; requests: number; tokens: number };
export type ClientAnswer = { samples: Sample[] } | { failure: string };

const asks = new Map<string, Ask>();

process.on("message", async (order: ClientOrder) => {
  if ("targets" in order) {
    for (const target of order.targets) asks.set(target.name, askOf(target));
    process.send!({ samples: [] } satisfies ClientAnswer);
    return;
  }
  try {
    process.send!({ samples: await askAll(asks.get(order.ask)!, order) } satisfies ClientAnswer);
  } catch (error) {
    process.send!({ failure: String(error) } satisfies ClientAnswer);
  }
});
process.on("disconnect", () => process.exit());

function askOf(target: Target): Ask {
  return "url" in target ? askOpenAi(target.url, target.model) : askNode(target.session, target.model);
}

/** So many requests in all, so many of them at a time. */
async function askAll(
  ask: Ask,
  { streams, requests, tokens }: { streams: number; requests: number; tokens: number },
): Promise<Sample[]> {
  let left = requests;
  const samples: Sample[] = [];
  const line = async () => {
    while (left-- > 0) samples.push(await ask(tokens));
  };
  await Promise.all(Array.from({ length: streams }, line));
  return samples;
}
