// Owns Ollama's door to the network: what its library is given as fetch, and what is made of answers that are none.
import { type Agent, type RequestInit, fetch as undiciFetch } from "undici";
import { InfernetError } from "../../protocol/errors.ts";
import { errorOfStatus } from "./failure.ts";

/**
 * The library's door to the network. Left alone, the library writes to the console what it cannot read, which may be
 * a customer's text, and goes on without it: here a refusal is an error at once, and so is a line that is not JSON.
 */
export function guardedFetch(agent: Agent, server: string, signal: AbortSignal): typeof fetch {
  const guarded = async (input: unknown, init: RequestInit = {}): Promise<unknown> => {
    const answer = await undiciFetch(String(input), { ...init, signal, dispatcher: agent });
    if (!answer.ok) {
      const retryAfter = answer.headers.get("retry-after");
      throw errorOfStatus(server, answer.status, await describeRefusal(answer), retryAfter);
    }
    const streamed = answer.headers.get("content-type")?.includes("ndjson");
    if (!streamed || answer.body === null) return answer;
    return new Response(ReadableStream.from(checkLines(answer.body, server)));
  };
  return guarded as typeof fetch;
}

async function describeRefusal(answer: { text(): Promise<string> }): Promise<string> {
  try {
    const { error } = JSON.parse(await answer.text()) as { error?: unknown };
    return typeof error === "string" ? error.slice(0, 200) : "";
  } catch {
    return "";
  }
}

/** Passes bytes on; throws at the first line that is not JSON. */
async function* checkLines(body: AsyncIterable<Uint8Array>, server: string): AsyncGenerator<Uint8Array> {
  const decoder = new TextDecoder();
  let unfinished = "";
  for await (const bytes of body) {
    const lines = (unfinished + decoder.decode(bytes, { stream: true })).split("\n");
    unfinished = lines.pop() ?? "";
    for (const line of lines) checkLine(line, server);
    yield bytes;
  }
  checkLine(unfinished, server);
}

function checkLine(line: string, server: string): void {
  if (line.trim() === "") return;
  try {
    JSON.parse(line);
  } catch {
    throw new InfernetError("upstream-failed", `${server} answered with something else than JSON`);
  }
}
