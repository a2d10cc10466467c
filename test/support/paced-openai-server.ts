// Owns a model server in OpenAI's form that makes tokens at a fixed rate, however many ask: a rate-limited upstream.
import type { ServerResponse } from "node:http";
import { answerJson, type LoopbackServer, startLoopbackServer } from "./loopback-server.ts";

export type PacedOpenAiServer = LoopbackServer & {
  port: number;
  /** Answers that it gave to their end. */
  answered: number;
};

/** Each answer has `answerTokens` tokens; one token comes every `tokenMs`, to each running answer in its turn. */
export async function startPacedOpenAiServer(options: {
  model: string;
  tokenMs: number;
  answerTokens: number;
  port?: number;
}): Promise<PacedOpenAiServer> {
  const { model, tokenMs, answerTokens, port = 0 } = options;
  const running: { response: ServerResponse; made: number }[] = [];
  const seen = { answered: 0 };
  let lastTokenAt = performance.now();

  const write = (response: ServerResponse, data: object | string) =>
    response.write(`data: ${typeof data === "string" ? data : JSON.stringify(data)}\n\n`);
  const makeToken = () => {
    const next = running.shift();
    if (next === undefined) return;
    const { response } = next;
    next.made += 1;
    const delta = { role: "assistant", content: `t${next.made} ` };
    write(response, { choices: [{ index: 0, delta, finish_reason: null }] });
    if (next.made < answerTokens) {
      running.push(next);
      return;
    }
    seen.answered += 1;
    const usage = { prompt_tokens: 10, completion_tokens: answerTokens, total_tokens: 10 + answerTokens };
    write(response, { choices: [{ index: 0, delta: {}, finish_reason: "stop" }] });
    write(response, { choices: [], usage });
    write(response, "[DONE]");
    response.end();
  };
  // A late timer makes up for what it missed, but idle time is not saved up.
  const timer = setInterval(() => {
    if (running.length === 0) lastTokenAt = performance.now();
    for (; performance.now() - lastTokenAt >= tokenMs; lastTokenAt += tokenMs) makeToken();
  }, tokenMs / 4);

  const server = await startLoopbackServer(({ path }, response) => {
    if (path === "/v1/models") return answerJson(response, { object: "list", data: [{ id: model }] });
    response.writeHead(200, { "content-type": "text/event-stream" }).flushHeaders();
    const one = { response, made: 0 };
    response.on("close", () => {
      if (running.includes(one)) running.splice(running.indexOf(one), 1);
    });
    running.push(one);
  }, port);
  return Object.assign(seen, {
    url: server.url,
    port: Number(new URL(server.url).port),
    async close() {
      clearInterval(timer);
      await server.close();
    },
  });
}
