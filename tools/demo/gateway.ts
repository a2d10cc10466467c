// Owns `npm start -- --gateway`: a gateway in front of the market, and OpenAI's own client that buys through it.
import OpenAI from "openai";
import type { Hex } from "../../protocol/bytes.ts";
import { CLI, type Market } from "./market.ts";
import type { Processes } from "./processes.ts";

type GatewayLine = { event: string; chargeUsdc?: string; session?: { jobId: Hex } } & Record<string, unknown>;

/** What one answer came to; amounts as texts of USDC. `served` is the buyer's word, the rest is the seller's. */
export type GatewayBill = {
  answer: string;
  firstTokenMs: number;
  served: { promptTokens: number; completionTokens: number; chargeUsdc: string };
  jobId: Hex;
  jobChargeUsdc: string;
  claimedUsdc: string;
  returnedUsdc: string;
  settleTx: Hex;
};

const NAME = "infernet gateway";

/** Starts the requester's gateway on any free port. */
export async function openGateway(processes: Processes, market: Market) {
  const told: GatewayLine[] = [];
  const read = (line: string): GatewayLine | undefined => {
    if (!line.startsWith("{")) return undefined;
    const event = JSON.parse(line) as GatewayLine;
    told.push(event);
    return event;
  };
  const baseUrl = await processes.start(
    NAME,
    [...CLI, "gateway", "--port", "0", "--json"],
    (line) => {
      const event = read(line);
      return event?.event === "listening" ? String(event.baseUrl) : undefined;
    },
    { env: { ...market.environment, INFERNET_HOME: market.home.requester }, graceMs: 30_000 },
  );
  const client = new OpenAI({ baseURL: baseUrl, apiKey: "none", maxRetries: 0 });

  return {
    baseUrl,

    /** Streams one answer at temperature 0, as any program does that knows OpenAI's API. */
    async ask(prompt: string, maxTokens: number, onText: (text: string) => void) {
      const started = performance.now();
      let firstTokenMs = 0;
      let answer = "";
      const stream = await client.chat.completions.create({
        ...{ model: market.model, messages: [{ role: "user", content: prompt }], stream: true },
        ...{ max_tokens: maxTokens, temperature: 0, seed: 1 },
      });
      for await (const chunk of stream) {
        const text = chunk.choices[0]?.delta.content ?? "";
        if (text === "") continue;
        firstTokenMs ||= Math.round(performance.now() - started);
        answer += text;
        onText(text);
      }
      return { answer: answer.trim(), firstTokenMs };
    },

    /** Ends the gateway, which closes its session, and returns what both sides say of it. */
    async settle(): Promise<Omit<GatewayBill, "answer" | "firstTokenMs">> {
      await processes.stop(NAME);
      const served = told.find(({ event }) => event === "served") as GatewayBill["served"] & GatewayLine;
      const { jobId } = told.find(({ event }) => event === "sessionOpened")!.session!;
      const { streamed, settled } = await market.soldOf(jobId);
      const { promptTokens, completionTokens, chargeUsdc } = served;
      return {
        ...{ jobId, served: { promptTokens, completionTokens, chargeUsdc }, settleTx: settled.tx! },
        ...{ jobChargeUsdc: String(streamed.jobChargeUsdc), claimedUsdc: String(settled.claimedUsdc) },
        returnedUsdc: String(settled.returnedUsdc),
      };
    },
  };
}
